# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Options that several operations take, checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..errors import InputError, ProtocolUnlisted
from ..host.host import Host
from ..host.namespaces import Namespace, resolve

# How many entries a list of a result has at most, unless the caller says otherwise.
DEFAULT_LIMIT = 1000


def checked_limit(value: object, maximum: int | None = None) -> int:
    """The longest length of a list in a result. Raises InputError."""
    allowed = "a number from 0" if maximum is None else f"a number from 0 to {maximum}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(("limit",), value, "not a whole number", allowed)
    if value < 0:
        raise InputError(("limit",), value, "less than 0", allowed)
    if maximum is not None and value > maximum:
        raise InputError(("limit",), value, "too large", allowed)
    return value


def checked_choice(name: str, value: object, choices: Collection[str]) -> str:
    """A value out of a closed list. Raises InputError."""
    if not isinstance(value, str) or value not in choices:
        raise InputError((name,), value, "no such choice", f"one of {', '.join(choices)}")
    return value


def namespaces_named(host: Host, names: object) -> list[Namespace]:
    """The network namespaces that a list of names means.

    Raises InputError, NamespaceNotFound and NamespaceDenied.
    """
    if isinstance(names, (str, bytes)) or not isinstance(names, Sequence):
        raise InputError(("namespaces",), names, "not a list", "a list of names, such as [current]")
    return resolve(names, proc=host.proc, directories=host.netns_directories)


def unlisted_warnings(protocols: Iterable[str]) -> tuple[ProtocolUnlisted, ...]:
    """A warning for each protocol that the kernel cannot list."""
    return tuple(map(ProtocolUnlisted, sorted(protocols)))
