# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The network namespaces that an operation works in, and what cannot be listed in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ProtocolUnlisted
from ..host.host import Host
from ..host.namespaces import Namespace, resolve


def namespaces_named(host: Host, names: Sequence[str]) -> list[Namespace]:
    """The network namespaces that a list of names means.

    Raises InputError, NamespaceNotFound and NamespaceDenied.
    """
    return resolve(names, proc=host.proc, directories=host.netns_directories)


def unlisted_warnings(protocols: Iterable[str]) -> tuple[ProtocolUnlisted, ...]:
    """A warning for each protocol that the kernel cannot list."""
    return tuple(map(ProtocolUnlisted, sorted(protocols)))
