# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Warnings for parts of selectors that match nothing, or whose value is unknown everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from ..errors import Absent, PacketMarks, SocketsError
from ..host.host import Host
from ..host.namespaces import Namespace
from ..selector.predicates.verdict import StrandedIs
from ..selector.selector import Selector
from ..selector.tree import predicates
from ..sockets.needs import Need
from ..sockets.session import NamespaceSession
from ..verdicts.route_state import RouteState
from ..verdicts.stranded import REROUTED

# What parts of a selector that name something need.
_NAMES = frozenset({Need.LINKS, Need.CGROUPS, Need.OWNERS})


def selector_warnings(
    host: Host,
    namespaces: Sequence[Namespace],
    selectors: Iterable[Selector],
    *,
    packet_marks: bool = True,
) -> tuple[Absent | PacketMarks, ...]:
    """A warning for each name in the selectors that exists in none of the namespaces.

    packet_marks: also name the namespaces in which `rerouted` is unknown. Call it before sockets
    are destroyed: their processes may end then. Errors are left to the operation.
    """
    parts = [selector for selector in selectors if selector.needs & _NAMES]
    if not parts:
        return ()
    by_route = packet_marks and any(map(requests_rerouted, parts))
    marked: list[str] = []
    common: dict[tuple[object, ...], Absent] | None = None
    for namespace in namespaces:
        if common == {} and not by_route:
            break
        with suppress(SocketsError, OSError), NamespaceSession(host, namespace) as session:
            snapshot = session.snapshot()
            if by_route and RouteState.of(snapshot).ignores_packet_marks:
                marked.append(namespace.name)
            if common == {}:
                continue
            found: dict[tuple[object, ...], Absent] = {
                (each.path, str(each.value)): each
                for part in parts
                for each in part.absent(snapshot)
            }
            common = found if common is None else {k: v for k, v in common.items() if k in found}
    marks = (PacketMarks(tuple(marked)),) if marked else ()
    return (*(common or {}).values(), *marks)


def absent_warnings(
    host: Host, namespaces: Sequence[Namespace], selectors: Iterable[Selector]
) -> tuple[Absent, ...]:
    """As selector_warnings, without that about `rerouted`."""
    found = selector_warnings(host, namespaces, selectors, packet_marks=False)
    return tuple(each for each in found if isinstance(each, Absent))


def requests_rerouted(selector: Selector) -> bool:
    """Whether the selector depends on the verdict `rerouted`."""
    return any(
        stranded.verdict == REROUTED
        for predicate in predicates(selector.root)
        if isinstance(predicate, StrandedIs)
        for stranded in predicate.verdicts
    )
