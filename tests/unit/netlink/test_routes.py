# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes and routing rules over rtnetlink."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.errors import MalformedMessage, NetlinkError, SocketsError
from linuxnet_sockets.netlink import routes
from linuxnet_sockets.netlink.connection import NETLINK_ROUTE, Connection
from tests.support.fake_kernel import FakeKernel, FakeRoute, FakeRule, faults


def _open(kernel: FakeKernel) -> Connection:
    return Connection(kernel.open("current", NETLINK_ROUTE), timeout=0.2)


def _packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _added(*added: FakeRoute) -> list[routes.Route]:
    kernel = FakeKernel()
    before = set(routes.routes(_open(kernel)))
    kernel.current.routes += added
    return [route for route in routes.routes(_open(kernel)) if route not in before]


def test_route_with_gateway() -> None:
    (found,) = _added(FakeRoute("10.0.0.0/8", ((2, "192.0.2.2"),), table=1000, metric=50))
    assert found == routes.Route(
        socket.AF_INET,
        _packed("10.0.0.0"),
        8,
        0,
        1000,
        routes.UNICAST,
        50,
        (routes.Hop(2, _packed("192.0.2.2")),),
        0,
    )
    assert (found.oif, found.gateway) == (2, _packed("192.0.2.2"))


def test_default_route_covers_its_family() -> None:
    four, six = _added(FakeRoute("0.0.0.0/0", ((2, None),)), FakeRoute("::/0", ((2, None),)))
    assert (four.destination, four.prefix_length) == (bytes(4), 0)
    assert (six.destination, six.prefix_length) == (bytes(16), 0)
    assert four.covers(_packed("203.0.113.1"))
    assert not four.covers(_packed("2001:db8::1"))
    assert six.covers(_packed("2001:db8::1"))
    assert not six.covers(_packed("203.0.113.1"))


@pytest.mark.parametrize("destination", ["10.64.0.0/10", "2001:db8:40::/42"])
def test_route_covers_its_prefix(destination: str) -> None:
    network = ipaddress.ip_network(destination)
    (found,) = _added(FakeRoute(destination, ((2, None),)))
    assert found.covers(network[0].packed)
    assert found.covers(network[-1].packed)
    assert not found.covers((network[0] - 1).packed)
    assert not found.covers((network[-1] + 1).packed)


@pytest.mark.parametrize(
    ("destination", "gateways"),
    [
        ("10.0.0.0/8", ("192.0.2.2", "198.51.100.2")),
        ("10.0.0.0/8", ("192.0.2.2", "fe80::2")),
        ("2001:db8:1::/48", ("2001:db8::2", "fe80::2")),
    ],
)
def test_multipath_route_has_all_hops(destination: str, gateways: tuple[str, str]) -> None:
    (found,) = _added(FakeRoute(destination, ((2, gateways[0]), (3, gateways[1]))))
    assert found.hops == tuple(
        routes.Hop(index, _packed(text)) for index, text in enumerate(gateways, 2)
    )
    assert (found.oif, found.gateway) == (0, b"")


def test_route_with_nexthop_id() -> None:
    (found,) = _added(FakeRoute("10.0.0.0/8", ((2, None),), nexthop_id=7))
    assert (found.hops, found.nexthop_id) == ((), 7)


def test_route_with_source_prefix() -> None:
    (found,) = _added(FakeRoute("2001:db8:1::/48", ((2, None),), source="2001:db8::/32"))
    assert found.source_length == 32


def test_routes_by_kind() -> None:
    kernel = FakeKernel()
    kernel.current.link(2, "eth0", "192.0.2.1/24")
    kernel.current.routes += [
        FakeRoute("10.0.0.0/8", kind=routes.BLACKHOLE),
        FakeRoute("10.1.0.0/16", kind=routes.PROHIBIT),
    ]
    found = routes.routes(_open(kernel), [routes.BLACKHOLE, routes.LOCAL])
    assert {route.kind for route in found} == {routes.BLACKHOLE, routes.LOCAL}
    assert _packed("192.0.2.1") in {route.destination for route in found}


def test_routes_by_prefix_length() -> None:
    kernel = FakeKernel()
    kernel.current.link(2, "eth0", "192.0.2.1/24")
    kernel.current.routes += [
        FakeRoute("10.0.0.0/8", ((2, None),)),
        FakeRoute("10.1.0.0/16", ((2, None),)),
        FakeRoute("2001:db8::/32", ((2, None),)),
    ]
    found = routes.routes(_open(kernel), lengths=[8, 32])
    assert {route.prefix_length for route in found} == {8, 32}
    found = routes.routes(_open(kernel), [routes.UNICAST], [16])
    assert [route.destination for route in found] == [_packed("10.1.0.0")]


def test_default_rules() -> None:
    found = routes.rules(_open(FakeKernel()))
    assert [(rule.family, rule.priority, rule.table) for rule in found] == [
        (socket.AF_INET, 0, routes.TABLE_LOCAL),
        (socket.AF_INET, 32766, routes.TABLE_MAIN),
        (socket.AF_INET, 32767, routes.TABLE_DEFAULT),
        (socket.AF_INET6, 0, routes.TABLE_LOCAL),
        (socket.AF_INET6, 32766, routes.TABLE_MAIN),
    ]
    assert {rule.action for rule in found} == {routes.ACTION_TABLE}


def test_rule_conditions() -> None:
    kernel = FakeKernel()
    kernel.current.rules.append(
        FakeRule(
            socket.AF_INET,
            100,
            table=51820,
            source="10.0.0.0/8",
            destination="192.0.2.0/24",
            mark=(1, 0xFF),
            uids=(1000, 2000),
            iif="lo",
            oif="eth0",
            protocol=6,
            sports=(1, 2),
            dports=(443, 443),
            tos=0x10,
        )
    )
    found = next(rule for rule in routes.rules(_open(kernel)) if rule.priority == 100)
    assert (found.table, found.source_length, found.destination_length) == (51820, 8, 24)
    assert found.tos == 0x10
    assert found.kinds >= {
        routes.FRA_FWMARK,
        routes.FRA_FWMASK,
        routes.FRA_UID_RANGE,
        routes.FRA_IIFNAME,
        routes.FRA_OIFNAME,
        routes.FRA_IP_PROTO,
        routes.FRA_SPORT_RANGE,
        routes.FRA_DPORT_RANGE,
    }


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EAFNOSUPPORT])
def test_no_rules_without_policy_routing(code: int) -> None:
    kernel = FakeKernel()
    kernel.current.faults.append(faults.done_with(code))
    # Messages before the error are ignored; such a kernel sends none.
    assert routes.rules(_open(kernel)) == []


def test_rejected_dump_is_an_error() -> None:
    kernel = FakeKernel()
    for dump in (routes.rules, routes.routes):
        kernel.current.faults.append(faults.done_with(errno.EPERM))
        with pytest.raises(NetlinkError) as caught:
            dump(_open(kernel))
        assert caught.value.errno == errno.EPERM


@given(st.binary(max_size=100))
def test_any_bytes_decode_or_raise(body: bytes) -> None:
    kernel = FakeKernel()
    for dump in (routes.rules, routes.routes):
        kernel.current.faults.append(faults.bodies(lambda _body: body))
        try:
            found = dump(_open(kernel))
        except SocketsError:
            continue
        for item in found:
            assert item.family in (socket.AF_INET, socket.AF_INET6)
            if isinstance(item, routes.Route):
                assert len(item.destination) == (4 if item.family == socket.AF_INET else 16)
                assert item.prefix_length <= 8 * len(item.destination)


def test_too_long_hop_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        routes.hops({routes.RTA_MULTIPATH: struct.pack("=HBBi", 24, 0, 0, 2)}, 0)


def test_dead_hops_of_a_multipath_route() -> None:
    raw = struct.pack("=HBBi", 8, 1, 0, 2) + struct.pack("=HBBi", 8, 0, 0, 3)
    found = routes.hops({routes.RTA_MULTIPATH: raw}, 0)
    assert found == (routes.Hop(2, b"", True), routes.Hop(3, b""))


def test_dead_single_hop_has_the_flags_of_the_route() -> None:
    found = {routes.RTA_OIF: struct.pack("=I", 2)}
    assert routes.hops(found, 1) == (routes.Hop(2, b"", True),)
    assert routes.hops(found, 16) == (routes.Hop(2, b""),)  # RTNH_F_LINKDOWN
