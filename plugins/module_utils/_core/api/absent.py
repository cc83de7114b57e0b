# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Warnings for parts of selectors that cannot match, because what they name does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from ..errors import Absent, SocketsError
from ..host.host import Host
from ..host.namespaces import Namespace
from ..selector.selector import Selector
from ..sockets.needs import Need
from ..sockets.session import NamespaceSession

# What parts of a selector that name something need.
_NAMES = frozenset({Need.LINKS, Need.CGROUPS, Need.OWNERS})


def absent_warnings(
    host: Host, namespaces: Sequence[Namespace], selectors: Iterable[Selector]
) -> tuple[Absent, ...]:
    """A warning for each name in the selectors that exists in none of the namespaces.

    Call it before sockets are destroyed: their processes may end then. Errors are left to the
    operation.
    """
    parts = [selector for selector in selectors if selector.needs & _NAMES]
    if not parts:
        return ()
    common: dict[tuple[object, ...], Absent] | None = None
    for namespace in namespaces:
        with suppress(SocketsError, OSError), NamespaceSession(host, namespace) as session:
            snapshot = session.snapshot()
            found: dict[tuple[object, ...], Absent] = {
                (each.path, str(each.value)): each
                for part in parts
                for each in part.absent(snapshot)
            }
            common = found if common is None else {k: v for k, v in common.items() if k in found}
        if common == {}:
            return ()
    return tuple((common or {}).values())
