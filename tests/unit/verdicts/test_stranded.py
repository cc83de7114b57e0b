# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The four stranded verdicts, and situations that only look like them."""

from __future__ import annotations

import errno
import socket

import pytest

from tests.support.fake_kernel import FakeAddress, FakeRoute, FakeRule, FakeSocket, model
from tests.unit.verdicts.networks import (
    DOWN,
    ENDS,
    ETH0,
    FREEBIND,
    LINK_LOCAL,
    LO,
    LOCAL,
    LOCAL6,
    NO_CARRIER,
    REMOTE,
    REMOTE6,
    SOCKOPT,
    TRANSPARENT,
    WG0,
    WG_LOCAL,
    WG_LOCAL6,
    Networked,
    connection,
    datagrams,
    link,
)

ALL_UNKNOWN = {"address_gone?", "unroutable?", "no_carrier?", "rerouted?"}
BLACKHOLE, UNREACHABLE, PROHIBIT = 6, 7, 8


@pytest.mark.parametrize(("local", "remote"), ENDS)
@pytest.mark.parametrize("make", [connection, datagrams])
def test_healthy_connection_is_not_stranded(make, local: str, remote: str) -> None:
    assert Networked().evaluate(make(local, remote)) == set()


@pytest.mark.parametrize(("local", "remote"), ENDS)
@pytest.mark.parametrize("make", [connection, datagrams])
def test_address_gone(make, local: str, remote: str) -> None:
    net = Networked()
    net.drop(LOCAL, LOCAL6)
    assert net.evaluate(make(local, remote)) == {"address_gone"}


STATES = [
    model.ESTABLISHED,
    model.SYN_SENT,
    model.FIN_WAIT1,
    model.FIN_WAIT2,
    model.CLOSE_WAIT,
    model.LAST_ACK,
    model.CLOSING,
]


@pytest.mark.parametrize("state", STATES)
def test_address_gone_in_each_state_with_peer(state: int) -> None:
    net = Networked()
    net.drop(LOCAL)
    assert net.evaluate(connection(state=state)) == {"address_gone"}


@pytest.mark.parametrize("state", [model.TIME_WAIT, model.NEW_SYN_RECV])
def test_time_wait_and_half_open_are_unknown(state: int) -> None:
    net = Networked()
    assert net.evaluate(connection(state=state)) == set()
    net.drop(LOCAL)
    assert net.evaluate(connection(state=state)) == {"address_gone?"}


@pytest.mark.parametrize(
    "sock",
    [
        FakeSocket(local=LOCAL, local_port=22, state=model.LISTEN),
        FakeSocket(local="0.0.0.0", local_port=22, state=model.LISTEN),
        FakeSocket(protocol=model.UDP, local=LOCAL, local_port=53, state=model.CLOSE),
        connection(protocol=model.MPTCP),
        datagrams("224.0.0.251", REMOTE),
        datagrams("::", REMOTE6),
    ],
)
def test_socket_without_peer_or_host_address_is_unknown(
    sock: FakeSocket,
) -> None:
    net = Networked()
    net.drop(LOCAL)
    assert net.evaluate(sock) == ALL_UNKNOWN


def test_address_on_another_link_is_not_gone() -> None:
    net = Networked()
    net.drop(LOCAL, LOCAL6)
    net.here.addresses += [FakeAddress(LOCAL, 24, WG0), FakeAddress(LOCAL6, 64, WG0)]
    net.unroute()
    net.vpn()
    assert net.evaluate(connection()) == set()
    assert net.evaluate(connection(LOCAL6, REMOTE6)) == set()


def test_link_local_address_counts_on_its_link_only() -> None:
    net = Networked()
    there = connection(LINK_LOCAL, "fe80::99", ifindex=ETH0)
    elsewhere = connection(LINK_LOCAL, "fe80::99", ifindex=WG0, local_port=40_001)
    net.here.routes += [
        FakeRoute("fe80::/64", ((ETH0, None),)),
        FakeRoute("fe80::/64", ((WG0, None),)),
    ]
    assert net.evaluate(there) == set()
    assert net.evaluate(elsewhere) == {"address_gone"}
    net.drop(LINK_LOCAL)
    assert net.evaluate(there) == {"address_gone"}


@pytest.mark.parametrize("flags", [0x40, 0x08, 0x20], ids=["tentative", "dadfailed", "deprecated"])
def test_address_with_any_flags_counts(flags: int) -> None:
    net = Networked()
    net.drop(LOCAL6)
    net.here.addresses.append(FakeAddress(LOCAL6, 64, ETH0, flags=flags))
    assert net.evaluate(connection(LOCAL6, REMOTE6)) == set()


def test_point_to_point_peer_address_is_not_local() -> None:
    net = Networked()
    net.here.links.append(link(4, "tun0"))
    net.here.addresses.append(FakeAddress("10.8.0.2", 32, 4, peer="10.8.0.1"))
    assert net.evaluate(connection("10.8.0.2", "10.8.0.1")) == set()
    assert net.evaluate(connection("10.8.0.1", "10.8.0.2")) == {"address_gone"}


@pytest.mark.parametrize(
    ("local", "remote", "prefix"),
    [("198.51.100.9", REMOTE, "198.51.100.0/24"), ("2001:db8:c::9", REMOTE6, "2001:db8:c::/64")],
)
def test_anyip_address_is_not_gone(local: str, remote: str, prefix: str) -> None:
    net = Networked()
    assert net.evaluate(connection(local, remote)) == {"address_gone"}
    net.here.routes.append(FakeRoute(prefix, ((LO, None),), table=255, kind=2))
    net.vpn()
    assert net.evaluate(connection(local, remote)) == set()


def test_all_of_127_0_0_0_is_local() -> None:
    assert Networked().evaluate(connection("127.0.0.53", "127.0.0.1")) == set()


@pytest.mark.parametrize("options", [TRANSPARENT, FREEBIND])
def test_transparent_and_freebind_sockets_are_not_stranded(options: bytes) -> None:
    net = Networked()
    net.drop(LOCAL)
    net.unroute()
    assert net.evaluate(connection(attributes={SOCKOPT: options})) == set()


def test_missing_socket_options_are_unknown() -> None:
    net = Networked()
    net.kernel.abilities.reports_sockopt = False
    assert net.evaluate(connection()) == set()
    net.drop(LOCAL)
    assert net.evaluate(connection()) == {"address_gone?"}


@pytest.mark.parametrize(("local", "remote"), ENDS)
@pytest.mark.parametrize("make", [connection, datagrams])
def test_unroutable(make, local: str, remote: str) -> None:
    net = Networked()
    net.unroute()
    assert net.evaluate(make(local, remote)) == {"unroutable"}


@pytest.mark.parametrize("kind", [BLACKHOLE, UNREACHABLE, PROHIBIT])
@pytest.mark.parametrize(("local", "remote"), ENDS)
def test_rejecting_route_is_unroutable(kind: int, local: str, remote: str) -> None:
    net = Networked()
    net.here.routes += [
        FakeRoute("203.0.113.0/24", kind=kind),
        FakeRoute("2001:db8:f::/64", kind=kind),
    ]
    assert net.evaluate(connection(local, remote)) == {"unroutable"}


@pytest.mark.parametrize("action", [BLACKHOLE, UNREACHABLE, PROHIBIT])
def test_rejecting_rule_is_unroutable(action: int) -> None:
    net = Networked()
    net.here.rules.append(FakeRule(socket.AF_INET, 10, action=action, destination="203.0.113.0/24"))
    assert net.evaluate(connection()) == {"unroutable"}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES])
def test_unexplained_rejection_is_unknown(code: int) -> None:
    net = Networked()
    net.here.route_errors[REMOTE] = code
    net.here.routes.append(FakeRoute("198.51.100.0/24", kind=BLACKHOLE))
    net.here.routes.append(FakeRoute("198.51.100.0/24", kind=PROHIBIT))
    assert net.evaluate(connection()) == {"unroutable?", "no_carrier?", "rerouted?"}


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOMEM, errno.EAGAIN])
def test_failed_lookup_is_unknown(code: int) -> None:
    net = Networked()
    net.here.route_errors.update({REMOTE: code, "198.51.100.9": code})
    assert net.evaluate(connection()) == {"unroutable?", "no_carrier?", "rerouted?"}
    assert "address_gone?" in net.evaluate(connection("198.51.100.9", REMOTE))


def test_multicast_destination_is_unknown() -> None:
    net = Networked()
    for remote in ("224.0.0.251", "255.255.255.255"):
        found = net.evaluate(datagrams(LOCAL, remote))
        assert found == {"unroutable?", "no_carrier?", "rerouted?"}
    assert net.evaluate(datagrams(LOCAL6, "ff02::fb")) == {
        "unroutable?",
        "no_carrier?",
        "rerouted?",
    }


@pytest.mark.parametrize(("local", "remote"), ENDS)
def test_no_carrier(local: str, remote: str) -> None:
    net = Networked()
    net.eth0.flags = NO_CARRIER
    assert net.evaluate(connection(local, remote)) == {"no_carrier"}
    net.eth0.flags = 0x11043
    assert net.evaluate(connection(local, remote)) == set()


def test_carrier_of_other_link_is_ignored() -> None:
    net = Networked()
    net.wg0.flags = NO_CARRIER
    assert net.evaluate(connection()) == set()


@pytest.mark.parametrize(("local", "remote"), ENDS)
@pytest.mark.parametrize("make", [connection, datagrams])
def test_rerouted(make, local: str, remote: str) -> None:
    net = Networked()
    net.vpn()
    assert net.evaluate(make(local, remote)) == {"rerouted"}
    other = {LOCAL: WG_LOCAL, LOCAL6: WG_LOCAL6}.get(local)
    if other:
        assert net.evaluate(make(other, remote)) == set()


@pytest.mark.parametrize(("local", "remote"), ENDS)
def test_rerouted_to(local: str, remote: str) -> None:
    net = Networked()
    net.vpn()
    net.here.add(connection(local, remote))
    route_state, (decoded,) = net.route_state()
    assert route_state.evaluate(decoded, "rerouted", frozenset({"wg0"})) is True
    assert route_state.evaluate(decoded, "rerouted", frozenset({"wg0", "wg1"})) is True
    assert route_state.evaluate(decoded, "rerouted", frozenset({"eth1"})) is False
    assert route_state.evaluate(decoded, "rerouted", frozenset()) is False


@pytest.mark.parametrize(
    "holder",
    [
        link(LO, "lo", flags=0x10049),
        link(9, "vips", link_kind="dummy"),
        link(9, "red", vrf_table=100),
    ],
)
def test_address_on_loopback_or_dummy_is_not_rerouted(holder) -> None:
    net = Networked()
    if holder.index != LO:
        net.here.links.append(holder)
    net.here.addresses += [
        FakeAddress("198.51.100.9", 32, holder.index),
        FakeAddress("2001:db8:c::9", 128, holder.index),
    ]
    if holder.vrf_table:
        for address in net.here.addresses[-2:]:
            net.here.routes.append(FakeRoute(address.local, ((LO, None),), table=255, kind=2))
    assert net.evaluate(connection("198.51.100.9", REMOTE)) == set()
    assert net.evaluate(connection("2001:db8:c::9", REMOTE6)) == set()


def test_address_on_two_links_is_not_rerouted() -> None:
    net = Networked()
    net.here.addresses.append(FakeAddress(LOCAL, 24, WG0))
    assert net.evaluate(connection()) == set()
    net.vpn()
    assert net.evaluate(connection()) == set()


def test_connection_within_host_is_not_rerouted() -> None:
    net = Networked()
    assert net.evaluate(connection(LOCAL, WG_LOCAL)) == set()
    assert net.evaluate(connection(LOCAL6, WG_LOCAL6)) == set()


@pytest.mark.parametrize(("local", "remote"), ENDS)
def test_bound_socket_is_not_rerouted(local: str, remote: str) -> None:
    net = Networked()
    net.here.routes += [
        FakeRoute("0.0.0.0/0", ((WG0, None),), metric=100),
        FakeRoute("::/0", ((WG0, None),), metric=100),
    ]
    assert net.evaluate(connection(local, remote, ifindex=WG0)) == set()
    assert net.evaluate(connection(local, remote, ifindex=ETH0)) == set()


def test_bound_socket_needs_a_route_only_with_ipv6() -> None:
    net = Networked()
    assert net.evaluate(connection(ifindex=WG0)) == set()
    assert net.evaluate(connection(LOCAL6, REMOTE6, ifindex=WG0)) == {"unroutable"}


@pytest.mark.parametrize(("local", "remote"), ENDS)
def test_missing_device_is_unroutable(local: str, remote: str) -> None:
    net = Networked()
    assert net.evaluate(connection(local, remote, ifindex=77)) == {"unroutable"}


def test_device_down_is_unroutable() -> None:
    net = Networked()
    net.eth0.flags = DOWN
    assert net.evaluate(connection(ifindex=ETH0)) == {"unroutable"}


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("metric_of_own", [0, 100])
def test_multipath_through_own_link_is_not_rerouted(number: int, metric_of_own: int) -> None:
    net = Networked()
    for prefix in ("203.0.113.0/24", "2001:db8:f::/64"):
        net.here.routes.append(FakeRoute(prefix, ((ETH0, None), (WG0, None))))
        net.here.routes.append(FakeRoute(prefix, ((ETH0, None),), metric=metric_of_own + 1))
    net.wg0.flags = NO_CARRIER
    assert net.evaluate(connection(LOCAL, f"203.0.113.{number}")) == set()
    assert net.evaluate(connection(LOCAL6, f"2001:db8:f::{number}")) == set()


@pytest.mark.parametrize("number", range(2))
def test_multipath_through_other_links_is_rerouted(number: int) -> None:
    net = Networked()
    net.here.link(4, "wg1", "10.1.0.1/24", "2001:db8:b::1/64")
    for prefix in ("203.0.113.0/24", "2001:db8:f::/64"):
        net.here.routes.append(FakeRoute(prefix, ((4, None), (WG0, None))))
    four = connection(LOCAL, f"203.0.113.{number}")
    six = connection(LOCAL6, f"2001:db8:f::{number}")
    assert net.evaluate(four) == {"rerouted"}
    assert net.evaluate(six) == {"rerouted"}
    route_state, sockets = net.route_state()
    for decoded in sockets:
        assert route_state.evaluate(decoded, "rerouted", {"wg0", "wg1"}) is True
        assert route_state.evaluate(decoded, "rerouted", {"wg0"}) is False
        assert route_state.evaluate(decoded, "rerouted", {"wg1"}) is False


def test_missing_next_hops_are_unknown() -> None:
    net = Networked()
    net.here.routes.append(FakeRoute("203.0.113.0/24", ((WG0, None),), nexthop_id=7))
    assert net.evaluate(connection()) == {"no_carrier?", "rerouted?"}


def test_vrf() -> None:
    net = Networked()
    net.here.links.append(link(8, "red", vrf_table=100))
    net.here.link(9, "eth9", "198.51.100.9/24").master = 8
    for family in (socket.AF_INET, socket.AF_INET6):
        net.here.rules.append(FakeRule(family, 1000, l3mdev=True))
    net.here.routes.append(FakeRoute("0.0.0.0/0", ((9, "198.51.100.254"),), table=100))
    inside = connection("198.51.100.9", REMOTE, ifindex=8)
    assert net.evaluate(inside) == set()
    net.drop("198.51.100.9")
    assert net.evaluate(inside) == {"address_gone"}
    # AnyIP in the table of the VRF applies only to sockets of the VRF.
    net.here.routes.append(FakeRoute("198.51.100.0/24", ((8, None),), table=100, kind=2))
    assert net.evaluate(inside) == set()
    assert net.evaluate(connection("198.51.100.9", REMOTE)) == {"address_gone"}


def test_link_local_in_vrf() -> None:
    net = Networked()
    net.here.links.append(link(8, "red", vrf_table=100))
    net.here.link(9, "eth9", "fe80::9/64").master = 8
    inside = connection("fe80::9", "fe80::99", ifindex=8)
    assert net.evaluate(inside) == {"unroutable?", "no_carrier?", "rerouted?"}
    net.drop("fe80::9")
    assert "address_gone" in net.evaluate(inside)
