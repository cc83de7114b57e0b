# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routing of the fake kernel: rules, tables and look-ups.

It follows fib_rules_lookup (net/core/fib_rules.c), ip_route_output_key_hash_rcu
(net/ipv4/route.c), fib_table_lookup (net/ipv4/fib_trie.c) and ip6_route_output_flags
(net/ipv6/route.c).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Union

if TYPE_CHECKING:
    from .model import FakeLink, FakeNamespace

UNICAST, LOCAL, BROADCAST, ANYCAST, MULTICAST = range(1, 6)
BLACKHOLE, UNREACHABLE, PROHIBIT, THROW = range(6, 10)
DEFAULT_TABLE, MAIN_TABLE, LOCAL_TABLE = 253, 254, 255
TO_TABLE, TO_BLACKHOLE, TO_UNREACHABLE, TO_PROHIBIT = 1, 6, 7, 8

_ROUTE_ERRORS = {
    BLACKHOLE: errno.EINVAL,
    UNREACHABLE: errno.EHOSTUNREACH,
    PROHIBIT: errno.EACCES,
}
_RULE_ERRORS = {
    TO_BLACKHOLE: errno.EINVAL,
    TO_UNREACHABLE: errno.ENETUNREACH,
    TO_PROHIBIT: errno.EACCES,
}

_IFF_UP = 0x1
_LOOPBACK_INDEX = 1

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclass
class FakeRoute:
    """A route.

    destination, source: prefixes. hops: (index of the interface, gateway). nexthop_id: if not 0,
    dumps and RTM_F_FIB_MATCH report this id of a nexthop object instead of the hops.
    """

    destination: str
    hops: tuple[tuple[int, str | None], ...] = ()
    table: int = MAIN_TABLE
    kind: int = UNICAST
    metric: int = 0
    source: str | None = None
    nexthop_id: int = 0

    def __post_init__(self) -> None:
        self.network: _Network = ipaddress.ip_network(self.destination)
        self.family = socket.AF_INET if self.network.version == 4 else socket.AF_INET6
        self.source_network = ipaddress.ip_network(self.source) if self.source else None


@dataclass
class FakeRule:
    """A routing rule: conditions (None: not tested), and a table or another action."""

    family: int
    priority: int
    table: int = MAIN_TABLE
    action: int = TO_TABLE
    source: str | None = None
    destination: str | None = None
    mark: tuple[int, int] | None = None
    uids: tuple[int, int] | None = None
    iif: str | None = None
    oif: str | None = None
    protocol: int | None = None
    sports: tuple[int, int] | None = None
    dports: tuple[int, int] | None = None
    tos: int = 0
    l3mdev: bool = False
    further: tuple[tuple[int, bytes], ...] = ()


def default_rules() -> list[FakeRule]:
    rules = []
    for family in (socket.AF_INET, socket.AF_INET6):
        rules += [FakeRule(family, 0, LOCAL_TABLE), FakeRule(family, 32766, MAIN_TABLE)]
    return [*rules, FakeRule(socket.AF_INET, 32767, DEFAULT_TABLE)]


class Flow(NamedTuple):
    """The key of a route look-up."""

    family: int
    destination: _Address
    source: _Address | None
    oif: int
    mark: int
    uid: int
    tos: int
    protocol: int
    sport: int
    dport: int


class Refused(Exception):
    """The look-up fails with an errno."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Found(NamedTuple):
    """The result of a look-up. route: None: the destination is assumed to be on the link."""

    route: FakeRoute | None
    kind: int
    oif: int
    gateway: str | None
    table: int


def all_routes(namespace: FakeNamespace) -> Iterator[FakeRoute]:
    """Yield the routes of the addresses, then the added ones."""
    up = {link.index: bool(link.flags & _IFF_UP) for link in namespace.links}
    tables = {link.index: _vrf_table(namespace, link.index) for link in namespace.links}
    for address in namespace.addresses:
        own = ipaddress.ip_interface(f"{address.local}/{address.prefix_length}")
        table = tables.get(address.index, 0)
        if own.ip.is_loopback and own.version == 4:
            yield FakeRoute(str(own.network), ((address.index, None),), LOCAL_TABLE, LOCAL)
        else:
            host = f"{address.local}/{own.max_prefixlen}"
            yield FakeRoute(host, ((address.index, None),), table or LOCAL_TABLE, LOCAL)
        if up.get(address.index) and not address.peer and address.prefix_length < own.max_prefixlen:
            yield FakeRoute(str(own.network), ((address.index, None),), table or MAIN_TABLE)
        if up.get(address.index) and address.peer:
            yield FakeRoute(address.peer, ((address.index, None),), table or MAIN_TABLE)
    yield from namespace.routes


def _vrf_table(namespace: FakeNamespace, index: int) -> int:
    links = {link.index: link for link in namespace.links}
    link = links.get(index)
    if link is not None and link.master in links:
        link = links[link.master] if links[link.master].vrf_table else link
    return link.vrf_table if link is not None else 0


def route_get(namespace: FakeNamespace, flow: Flow, *, whole_route: bool) -> Found:
    """Look up a route. Raises Refused."""
    four = flow.family == socket.AF_INET
    device = _device(namespace, flow.oif)
    if four and flow.source is not None and not _is_own(namespace, flow.source):
        raise Refused(errno.ENETUNREACH)
    if flow.oif and device is None:
        raise Refused(errno.ENODEV if four else errno.ENETUNREACH)
    if four and device is not None and not device.flags & _IFF_UP:
        raise Refused(errno.ENETUNREACH)
    try:
        route = _by_rules(namespace, flow)
    except Refused:
        if not (four and flow.oif) or (device is not None and device.vrf_table):
            raise
        if whole_route:
            raise Refused(errno.EHOSTUNREACH) from None
        return Found(None, UNICAST, flow.oif, None, 0)
    if route.kind == LOCAL:
        return Found(route, LOCAL, _LOOPBACK_INDEX, None, route.table)
    hops = [hop for hop in route.hops if flow.oif == hop[0]] or list(route.hops)
    oif, gateway = hops[int(flow.destination) % len(hops)]
    return Found(route, route.kind, oif, gateway, route.table)


def _device(namespace: FakeNamespace, index: int) -> FakeLink | None:
    return next((link for link in namespace.links if link.index == index), None)


def _is_own(namespace: FakeNamespace, address: object) -> bool:
    """__ip_dev_find: an address of an interface, or a local one of the local table."""
    return any(ipaddress.ip_address(own.local) == address for own in namespace.addresses) or any(
        route.table == LOCAL_TABLE and route.kind == LOCAL and address in route.network
        for route in all_routes(namespace)
    )


def _by_rules(namespace: FakeNamespace, flow: Flow) -> FakeRoute:
    routes = [route for route in all_routes(namespace) if route.family == flow.family]
    vrf_table = _vrf_table(namespace, flow.oif)
    for rule in sorted(namespace.rules, key=lambda rule: rule.priority):
        if rule.family != flow.family or not _applies(namespace, rule, flow):
            continue
        if rule.action != TO_TABLE:
            raise Refused(_RULE_ERRORS[rule.action])
        if rule.l3mdev and not vrf_table:
            continue
        table = vrf_table if rule.l3mdev else rule.table
        found = _in_table(namespace, [route for route in routes if route.table == table], flow)
        if found is None or found.kind == THROW:
            continue
        if found.kind in _ROUTE_ERRORS:
            raise Refused(_ROUTE_ERRORS[found.kind])
        return found
    raise Refused(errno.ENETUNREACH)


def _within(address: _Address | None, prefix: str | None) -> bool:
    """True without a prefix, or if the prefix contains the address."""
    return prefix is None or (address is not None and address in ipaddress.ip_network(prefix))


def _applies(namespace: FakeNamespace, rule: FakeRule, flow: Flow) -> bool:
    device = _device(namespace, flow.oif)
    name = device.name if device is not None else None
    return (
        _within(flow.source, rule.source)
        and _within(flow.destination, rule.destination)
        and (rule.mark is None or (flow.mark ^ rule.mark[0]) & rule.mark[1] == 0)
        and (rule.uids is None or rule.uids[0] <= flow.uid <= rule.uids[1])
        and rule.iif in (None, "lo")
        and rule.oif in (None, name)
        and rule.protocol in (None, flow.protocol)
        and (rule.sports is None or rule.sports[0] <= flow.sport <= rule.sports[1])
        and (rule.dports is None or rule.dports[0] <= flow.dport <= rule.dports[1])
        and rule.tos in (0, flow.tos)
    )


def _in_table(namespace: FakeNamespace, routes: list[FakeRoute], flow: Flow) -> FakeRoute | None:
    matching = [
        route
        for route in routes
        if flow.destination in route.network and _within(flow.source, route.source)
    ]
    device = _device(namespace, flow.oif)
    if flow.oif and not (device is not None and device.vrf_table):
        on_device = [
            route
            for route in matching
            if route.kind in _ROUTE_ERRORS or any(hop[0] == flow.oif for hop in route.hops)
        ]
        strict = (
            flow.family == socket.AF_INET or flow.source is None or flow.destination.is_link_local
        )
        matching = on_device if strict else matching
    return min(
        matching,
        key=lambda route: (
            -route.network.prefixlen,
            -(route.source_network.prefixlen if route.source_network else 0),
            all(hop[0] != flow.oif for hop in route.hops),
            route.metric,
        ),
        default=None,
    )
