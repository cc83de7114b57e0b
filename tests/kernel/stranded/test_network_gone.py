# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stranded verdicts after real changes of the network."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from tests.kernel.stranded.connections import (
    CARRIER,
    GONE,
    NOTHING,
    REROUTED,
    UNROUTABLE,
    Connections,
    recorded,
)
from tests.support.topologies.networks import UplinkConnection, Uplinks, close_silently, ip
from tests.support.topologies.waiting import until


def test_deleted_address(uplinks: Uplinks, connections: Connections) -> None:
    """The kernel removes IPv4 routes with it; IPv6 look-ups still succeed."""
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0", f"addr del {uplinks.eth6}/64 dev eth0")
    connections.assert_verdicts(GONE | UNROUTABLE, GONE)


def test_deleted_address_with_second_default_route(
    uplinks: Uplinks, connections: Connections
) -> None:
    uplinks.add_fallback_routes()
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0", f"addr del {uplinks.eth6}/64 dev eth0")
    connections.assert_verdicts(GONE, GONE)


def test_deleted_address_strands_only_its_connections(
    uplinks: Uplinks, connections: Connections
) -> None:
    """With promote_secondaries the secondary address stays."""
    uplinks.host.sysctl("ipv4/conf/all/promote_secondaries", 1)
    ip(uplinks.host, "addr add 192.0.2.11/24 dev eth0", "addr add 2001:db8:a::11/64 dev eth0 nodad")
    second = uplinks.tcp(uplinks.eth4_gateway, "192.0.2.11")
    second6 = uplinks.tcp(uplinks.eth6_gateway, "2001:db8:a::11")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0", f"addr del {uplinks.eth6}/64 dev eth0")
    connections.assert_verdicts(
        GONE, GONE, {"second": (second, NOTHING), "second6": (second6, NOTHING)}
    )


def test_secondary_address_is_deleted_with_its_primary(
    uplinks: Uplinks, connections: Connections
) -> None:
    for which in ("all", "eth0"):
        uplinks.host.sysctl(f"ipv4/conf/{which}/promote_secondaries", 0)
    ip(uplinks.host, "addr add 192.0.2.11/24 dev eth0")
    second = uplinks.tcp(uplinks.eth4_gateway, "192.0.2.11")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    gone = GONE | UNROUTABLE
    connections.assert_verdicts(gone, NOTHING, {"second": (second, gone)})


def test_link_down(uplinks: Uplinks, connections: Connections) -> None:
    """IPv4 keeps the address and loses the routes; IPv6 loses both."""
    ip(uplinks.host, "link set eth0 down")
    assert uplinks.eth4 in ip(uplinks.host, "addr show eth0")
    connections.assert_verdicts(UNROUTABLE, GONE | UNROUTABLE)


def test_link_down_and_up(uplinks: Uplinks, connections: Connections) -> None:
    """The kernel does not restore IPv6 addresses."""
    ip(uplinks.host, "link set eth0 down", "link set eth0 up", f"route add {uplinks.default4}")
    connections.assert_verdicts(NOTHING, GONE | UNROUTABLE)
    uplinks.host.address("eth0", f"{uplinks.eth6}/64")
    ip(uplinks.host, f"route add {uplinks.default6}")
    connections.assert_verdicts(NOTHING, NOTHING)


def test_link_down_with_second_default_route(uplinks: Uplinks, connections: Connections) -> None:
    uplinks.add_fallback_routes()
    connections.assert_verdicts(NOTHING, NOTHING)
    ip(uplinks.host, "link set eth0 down")
    connections.assert_verdicts(REROUTED, GONE)


def test_carrier_lost(uplinks: Uplinks, connections: Connections) -> None:
    """The addresses stay, and look-ups succeed."""
    ip(uplinks.far, "link set f0 down")
    connections.assert_verdicts(CARRIER, CARRIER)
    ip(uplinks.far, "link set f0 up")
    connections.assert_verdicts(NOTHING, NOTHING)


@pytest.mark.parametrize("fallback", [False, True])
def test_carrier_lost_with_ignore_routes_with_linkdown(
    uplinks: Uplinks, connections: Connections, fallback: bool
) -> None:
    if fallback:
        uplinks.add_fallback_routes()
    for family in ("ipv4", "ipv6"):
        for which in ("all", "eth0"):
            uplinks.host.sysctl(f"{family}/conf/{which}/ignore_routes_with_linkdown", 1)
    ip(uplinks.far, "link set f0 down")
    until(
        lambda: all(
            "linkdown" in ip(uplinks.host, f"{family} route show default")
            for family in ("-4", "-6")
        ),
        "the routes are ignored",
        seconds=20,
    )
    expected = REROUTED if fallback else UNROUTABLE
    connections.assert_verdicts(expected, expected)


def test_peer_namespace_removed(uplinks: Uplinks, connections: Connections) -> None:
    """The kernel removes a veth with its other end, and its addresses."""
    guest = uplinks.lab.namespace("guest")
    uplinks.link("eth2", "g0", guest)
    uplinks.host.address("eth2", "10.2.0.1/24", "2001:db8:2::1/64", "fe80::1/64")
    guest.address("g0", "10.2.0.2/24", "2001:db8:2::2/64", "fe80::2/64")
    lost = {
        **{
            remote: uplinks.tcp(remote, to=guest)
            for remote in ("10.2.0.2", "::ffff:10.2.0.2", "2001:db8:2::2", "fe80::2%eth2")
        },
        "bound to eth2": uplinks.tcp("10.2.0.2", to=guest, device="eth2"),
        "bound to eth2, 6": uplinks.tcp("2001:db8:2::2", to=guest, device="eth2"),
    }
    connections.assert_verdicts(
        NOTHING, NOTHING, {name: (connection, NOTHING) for name, connection in lost.items()}
    )
    for connection in lost.values():
        assert connection.peer is not None
        close_silently(connection.peer)
    guest.close()
    until(lambda: "eth2" not in ip(uplinks.host, "link show"), "eth2 is gone", seconds=30)
    # The default routes apply only to sockets that are not bound to eth2.
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        {
            name: (connection, GONE | UNROUTABLE if "eth2" in name else GONE)
            for name, connection in lost.items()
        },
    )


@pytest.mark.parametrize("family", [4, 6])
def test_deleted_route(uplinks: Uplinks, connections: Connections, family: int) -> None:
    bound = uplinks.tcp(uplinks.service4, device="eth0")
    bound6 = uplinks.tcp(uplinks.service6, device="eth0")
    ip(uplinks.host, f"route del {uplinks.default4 if family == 4 else uplinks.default6}")
    # IPv4 treats a destination without a route as a neighbour on the bound link.
    bounds = {
        "bound": (bound, NOTHING),
        "bound6": (bound6, UNROUTABLE if family == 6 else NOTHING),
    }
    connections.assert_verdicts(
        UNROUTABLE if family == 4 else NOTHING, UNROUTABLE if family == 6 else NOTHING, bounds
    )


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        *(("route", kind) for kind in ("unreachable", "prohibit", "blackhole", "throw")),
        *(("rule", kind) for kind in ("unreachable", "prohibit", "blackhole")),
    ],
)
def test_rejecting_route_or_rule(
    uplinks: Uplinks, connections: Connections, how: str, kind: str
) -> None:
    if how == "route":
        ip(
            uplinks.host,
            f"route add {kind} {uplinks.service4}/32",
            f"route add {kind} {uplinks.service6}/128",
        )
    else:
        ip(
            uplinks.host,
            f"rule add to {uplinks.service4}/32 {kind}",
            f"rule add to {uplinks.service6}/128 {kind}",
        )
    neighbour = uplinks.tcp(uplinks.eth4_gateway), uplinks.tcp(uplinks.eth6_gateway)
    connections.assert_verdicts(
        UNROUTABLE, UNROUTABLE, {str(each): (each, NOTHING) for each in neighbour}
    )


def test_tunnel_without_its_program(
    uplinks: Uplinks, connections: Connections, tunnel: Callable[..., io.FileIO]
) -> None:
    """A persistent tun device loses its carrier; another one is removed with its address."""
    ends = {}
    opened_connections = {}
    for number, name in enumerate(("tun0", "tun1"), start=1):
        ends[name] = tunnel(name, persistent=name == "tun0")
        ip(uplinks.host, f"addr add 10.{number}.0.1 peer 10.{number}.0.2 dev {name}")
        opened_connections[name] = uplinks.udp(f"10.{number}.0.2")
        assert opened_connections[name].sock.getsockname()[0] == f"10.{number}.0.1"
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        {name: (connection, NOTHING) for name, connection in opened_connections.items()},
    )
    for end in ends.values():
        end.close()
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        {"tun0": (opened_connections["tun0"], CARRIER), "tun1": (opened_connections["tun1"], GONE)},
    )


def test_link_local_address_belongs_to_one_link(uplinks: Uplinks, connections: Connections) -> None:
    """The same address stays on another link."""
    for near, far in (("eth0", "f0"), ("wlan0", "f1")):
        uplinks.host.address(near, "fe80::1/64")
        uplinks.far.address(far, "fe80::2/64")
    by_eth0, by_wlan0 = uplinks.tcp("fe80::2%eth0"), uplinks.tcp("fe80::2%wlan0")
    datagrams = uplinks.udp("fe80::2%eth0"), uplinks.udp("fe80::2%wlan0")

    def assert_verdicts(
        eth0: frozenset[str], wlan0: frozenset[str], six: frozenset[str] = NOTHING
    ) -> None:
        connections.assert_verdicts(
            six,
            six,
            {
                "eth0": (by_eth0, eth0),
                "eth0, udp": (datagrams[0], eth0),
                "wlan0": (by_wlan0, wlan0),
                "wlan0, udp": (datagrams[1], wlan0),
            },
        )

    assert_verdicts(NOTHING, NOTHING)
    ip(uplinks.far, "link set f0 down")
    assert_verdicts(CARRIER, NOTHING, CARRIER)
    ip(uplinks.far, "link set f0 up")
    ip(uplinks.host, "addr del fe80::1/64 dev wlan0")
    assert_verdicts(NOTHING, GONE)
    ip(uplinks.host, "addr del fe80::1/64 dev eth0")
    assert_verdicts(GONE, GONE)


def test_point_to_point_address(uplinks: Uplinks, connections: Connections) -> None:
    """The local end counts, not the peer address of another interface."""
    ip(uplinks.host, "addr add 10.5.0.1 peer 10.5.0.2 dev eth0")
    ip(uplinks.far, "addr add 10.5.0.2 peer 10.5.0.1 dev f0")
    connection = uplinks.tcp("10.5.0.2")
    assert connection.sock.getsockname()[0] == "10.5.0.1"
    connections.assert_verdicts(NOTHING, NOTHING, {"point to point": (connection, NOTHING)})
    ip(uplinks.host, "addr del 10.5.0.1 peer 10.5.0.2 dev eth0")
    # As the peer of another link's address.
    ip(uplinks.host, "addr add 10.6.0.1 peer 10.5.0.1 dev wlan0")
    connections.assert_verdicts(NOTHING, NOTHING, {"point to point": (connection, GONE)})


def test_evidence_of_each_verdict(
    uplinks: Uplinks, connections: Connections, tunnel: Callable[..., io.FileIO]
) -> None:
    host, four, six = uplinks.host, connections.four["tcp"], connections.six["tcp6"]

    def stranded_entries(connection: UplinkConnection) -> list[dict[str, Any]] | None:
        return recorded(host, remote=[uplinks.service4, uplinks.service6])[connection.cookie]

    tunnel("tun0")
    ip(host, f"route add {uplinks.service4}/32 dev tun0 table 77", "-4 rule add pref 9 table 77")
    assert stranded_entries(six) == []
    (rerouted,) = stranded_entries(four) or ()
    assert rerouted == {
        "verdict": "rerouted",
        "for_ms": None,
        "evidence": {
            "address": uplinks.eth4,
            "held_by": ["eth0"],
            "leaves_by": ["tun0"],
            "carrier": True,
            "lookup": "unicast",
            "table": 77,
        },
    }
    ip(host, "-4 rule del pref 9")
    ip(uplinks.far, "link set f0 down")
    (no_carrier,) = stranded_entries(six) or ()
    assert no_carrier["verdict"] == "no_carrier"
    assert no_carrier["evidence"]["leaves_by"] == ["eth0"]
    assert no_carrier["evidence"]["carrier"] is False
    ip(host, "link set eth0 down")
    (unroutable,) = stranded_entries(four) or ()
    assert unroutable["verdict"] == "unroutable"
    assert unroutable["evidence"] == {
        "remote": uplinks.service4,
        "interface": None,
        "lookup": "ENETUNREACH",
    }
    gone, _unroutable = stranded_entries(six) or ()
    assert gone["verdict"] == "address_gone"
    assert gone["evidence"]["address"] == uplinks.eth6
