# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Selection of the route that the kernel uses, among those to one destination in one table.

A dump lists more routes than the kernel uses: dead ones, some behind a route with a lower metric,
and some in tables that no look-up reaches. Sources: fib_table_lookup (net/ipv4/fib_trie.c),
fib_select_default (net/ipv4/fib_semantics.c), rt6_select, rt6_score_route (net/ipv6/route.c).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, Optional

from ..netlink import neighbours, routes
from ..selector.prefixes import Prefix
from ..sockets.snapshot import Snapshot
from ..verdicts.rule_dependencies import is_unconditional

# Interfaces of the next hops. Empty: the route refuses packets. None: unknown.
Egress = Optional[frozenset[int]]
# A destination and a table.
Place = tuple[Prefix, int]

_REFUSING = frozenset({routes.BLACKHOLE, routes.UNREACHABLE, routes.PROHIBIT, routes.THROW})
_REFUSING_ACTIONS = frozenset(
    {routes.ACTION_BLACKHOLE, routes.ACTION_UNREACHABLE, routes.ACTION_PROHIBIT}
)


class RouteCandidate(NamedTuple):
    """A route that is not dead, in the order of the dump.

    egress: interfaces of its usable next hops; empty: it refuses packets; None: not reported.
    metric: the lowest wins. preference: of IPv6 routes with equal metrics the highest wins.
    by_gateway: it has a gateway. answers: not all of its IPv6 gateways have failed. throws: the
    look-up continues with the next rule.
    """

    destination: Prefix
    egress: Egress
    metric: int
    table: int
    preference: int = 0
    by_gateway: bool = False
    answers: bool = True
    throws: bool = False


def select(candidates: Iterable[RouteCandidate]) -> dict[Place, Egress]:
    """Return the interfaces of the route that the kernel uses, by destination and table."""
    return {place: _egress(found) for place, found in _by_place(candidates).items()}


def _by_place(candidates: Iterable[RouteCandidate]) -> dict[Place, list[RouteCandidate]]:
    found: dict[Place, list[RouteCandidate]] = {}
    for candidate in candidates:
        found.setdefault((candidate.destination, candidate.table), []).append(candidate)
    return found


def _egress(candidates: list[RouteCandidate]) -> Egress:
    destination = candidates[0].destination
    answering = [each for each in candidates if each.answers]
    if not answering and destination.length:
        # The kernel tries shorter prefixes before it uses a gateway that does not answer.
        return None
    best = _best(answering or candidates)
    if destination.size == 32 and not destination.length and best.by_gateway:
        # Of IPv4 default routes with equal metrics, the states of their gateways select one
        # (fib_select_default).
        equal = {
            each.egress for each in candidates if each.metric == best.metric and each.by_gateway
        }
        return best.egress if len(equal) == 1 else None
    return best.egress


def _best(candidates: list[RouteCandidate]) -> RouteCandidate:
    """The first of several equal ones."""
    return min(candidates, key=lambda each: (each.metric, -each.preference))


def load_candidates(snapshot: Snapshot, prefixes: Collection[Prefix]) -> list[RouteCandidate]:
    """Load the routes to these destinations. Raises what Connection.dump raises.

    Routes that depend on the source address or the DS field are not the route of all traffic, and
    are left out. So are tables behind routing rules that end every look-up.
    """
    connection = snapshot.rtnetlink
    lengths = {prefix.length for prefix in prefixes}
    found = [
        (Prefix(route.destination, route.prefix_length), route)
        for route in routes.routes(connection, (), lengths)
        if not (route.source_length or route.tos or route.dead)
    ]
    wanted = [(prefix, route) for prefix, route in found if prefix in prefixes]
    gateways = sum(prefix.size == 128 and _has_gateway(route) for prefix, route in wanted)
    failed: frozenset[tuple[int, bytes]] = frozenset()
    # A router uses gateways without regard to their state (fib6_table_lookup).
    if gateways > 1 and not snapshot.forwards_ipv6:
        failed = neighbours.failed_neighbours(connection)
    candidates = [_candidate(prefix, route, failed) for prefix, route in wanted]
    rules = routes.rules(connection)
    reached = {
        size: _reached([rule for rule in rules if rule.family == family], candidates, size)
        for size, family in ((32, socket.AF_INET), (128, socket.AF_INET6))
    }
    return [
        each
        for each in candidates
        if reached[each.destination.size]((each.destination, each.table))
    ]


def _has_gateway(route: routes.Route) -> bool:
    return any(hop.gateway for hop in route.hops)


def _candidate(
    prefix: Prefix, route: routes.Route, failed: Collection[tuple[int, bytes]]
) -> RouteCandidate:
    usable = [hop for hop in route.hops if not hop.dead]
    answering = [hop for hop in usable if (hop.oif, hop.gateway) not in failed]
    egress: Egress = frozenset(hop.oif for hop in answering or usable) or None
    return RouteCandidate(
        prefix,
        frozenset() if route.kind in _REFUSING else egress,
        route.priority,
        route.table,
        route.preference,
        _has_gateway(route),
        bool(answering) or not usable,
        route.kind == routes.THROW,
    )


def _reached(
    rules: list[routes.Rule], candidates: list[RouteCandidate], size: int
) -> Callable[[Place], bool]:
    """Return a test for whether some packet of this host may be looked up in a table.

    Tables that no rule names count: VRFs use theirs without a rule of their own.
    A rule with conditions may apply to some packets. One without conditions ends the look-up of all
    packets if its table has a route to the destination.
    """
    known = {rule.table for rule in rules}
    if not rules or any(rule.action == routes.ACTION_GOTO for rule in rules):
        return lambda _place: True
    by_place = {
        place: found for place, found in _by_place(candidates).items() if place[0].size == size
    }
    ends = {place for place, found in by_place.items() if not _best(found).throws}
    places: set[Place] = set()
    for destination in {destination for destination, _table in by_place}:
        for rule in rules:
            unconditional = is_unconditional(rule)
            if rule.action in _REFUSING_ACTIONS and unconditional:
                break
            if rule.action != routes.ACTION_TABLE or rule.suppressed_length >= destination.length:
                continue
            place = destination, rule.table
            places.add(place)
            if unconditional and place in ends:
                break
    return lambda place: place in places or place[1] not in known
