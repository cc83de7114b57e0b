# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What strands connections: each verdict, by what really happened to the network."""

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
from tests.support.topologies.networks import Talk, Uplinks, ip, vanish
from tests.support.topologies.waiting import until


def test_an_address_deleted(uplinks: Uplinks, connections: Connections) -> None:
    """IPv4 routes go with it; IPv6 look-ups go on to succeed."""
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0", f"addr del {uplinks.eth6}/64 dev eth0")
    connections.are(GONE | UNROUTABLE, GONE)


def test_an_address_deleted_while_another_default_route_stays(
    uplinks: Uplinks, connections: Connections
) -> None:
    uplinks.fall_back()
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0", f"addr del {uplinks.eth6}/64 dev eth0")
    connections.are(GONE, GONE)


def test_only_the_connections_of_the_address_that_went(
    uplinks: Uplinks, connections: Connections
) -> None:
    """A secondary address stays where secondaries are promoted."""
    uplinks.host.sysctl("ipv4/conf/all/promote_secondaries", 1)
    ip(uplinks.host, "addr add 192.0.2.11/24 dev eth0", "addr add 2001:db8:a::11/64 dev eth0 nodad")
    second = uplinks.tcp(uplinks.eth4_gateway, "192.0.2.11")
    second6 = uplinks.tcp(uplinks.eth6_gateway, "2001:db8:a::11")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0", f"addr del {uplinks.eth6}/64 dev eth0")
    connections.are(GONE, GONE, {"second": (second, NOTHING), "second6": (second6, NOTHING)})


def test_a_secondary_address_goes_with_its_primary(
    uplinks: Uplinks, connections: Connections
) -> None:
    for which in ("all", "eth0"):
        uplinks.host.sysctl(f"ipv4/conf/{which}/promote_secondaries", 0)
    ip(uplinks.host, "addr add 192.0.2.11/24 dev eth0")
    second = uplinks.tcp(uplinks.eth4_gateway, "192.0.2.11")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    gone = GONE | UNROUTABLE
    connections.are(gone, NOTHING, {"second": (second, gone)})


def test_a_link_down(uplinks: Uplinks, connections: Connections) -> None:
    """IPv4 keeps the address and loses the routes; IPv6 loses both."""
    ip(uplinks.host, "link set eth0 down")
    assert uplinks.eth4 in ip(uplinks.host, "addr show eth0")
    connections.are(UNROUTABLE, GONE | UNROUTABLE)


def test_a_link_down_and_up_again(uplinks: Uplinks, connections: Connections) -> None:
    """IPv6 addresses do not come back by themselves."""
    ip(uplinks.host, "link set eth0 down", "link set eth0 up", f"route add {uplinks.default4}")
    connections.are(NOTHING, GONE | UNROUTABLE)
    uplinks.host.address("eth0", f"{uplinks.eth6}/64")
    ip(uplinks.host, f"route add {uplinks.default6}")
    connections.are(NOTHING, NOTHING)


def test_a_link_down_while_another_default_route_stays(
    uplinks: Uplinks, connections: Connections
) -> None:
    uplinks.fall_back()
    connections.are(NOTHING, NOTHING)
    ip(uplinks.host, "link set eth0 down")
    connections.are(REROUTED, GONE)


def test_a_carrier_lost(uplinks: Uplinks, connections: Connections) -> None:
    """The addresses stay, and look-ups succeed."""
    ip(uplinks.far, "link set f0 down")
    connections.are(CARRIER, CARRIER)
    ip(uplinks.far, "link set f0 up")
    connections.are(NOTHING, NOTHING)


@pytest.mark.parametrize("fallback", [False, True])
def test_a_carrier_lost_where_the_kernel_ignores_such_routes(
    uplinks: Uplinks, connections: Connections, fallback: bool
) -> None:
    if fallback:
        uplinks.fall_back()
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
    told = REROUTED if fallback else UNROUTABLE
    connections.are(told, told)


def test_the_namespace_of_the_peer_removed(uplinks: Uplinks, connections: Connections) -> None:
    """A veth goes with its other end, and takes its addresses along."""
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
    connections.are(NOTHING, NOTHING, {name: (talk, NOTHING) for name, talk in lost.items()})
    for talk in lost.values():
        assert talk.peer is not None
        vanish(talk.peer)
    guest.close()
    until(lambda: "eth2" not in ip(uplinks.host, "link show"), "eth2 is gone", seconds=30)
    # Where the default routes would lead those that are not bound to eth2, nobody asks.
    connections.are(
        NOTHING,
        NOTHING,
        {
            name: (talk, GONE | UNROUTABLE if "eth2" in name else GONE)
            for name, talk in lost.items()
        },
    )


@pytest.mark.parametrize("family", [4, 6])
def test_a_route_deleted(uplinks: Uplinks, connections: Connections, family: int) -> None:
    bound = uplinks.tcp(uplinks.service4, device="eth0")
    bound6 = uplinks.tcp(uplinks.service6, device="eth0")
    ip(uplinks.host, f"route del {uplinks.default4 if family == 4 else uplinks.default6}")
    # IPv4 takes what it has no route to for a neighbour on the link that the socket is bound to.
    bounds = {
        "bound": (bound, NOTHING),
        "bound6": (bound6, UNROUTABLE if family == 6 else NOTHING),
    }
    connections.are(
        UNROUTABLE if family == 4 else NOTHING, UNROUTABLE if family == 6 else NOTHING, bounds
    )


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        *(("route", kind) for kind in ("unreachable", "prohibit", "blackhole", "throw")),
        *(("rule", kind) for kind in ("unreachable", "prohibit", "blackhole")),
    ],
)
def test_a_route_or_rule_that_refuses(
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
    connections.are(UNROUTABLE, UNROUTABLE, {str(each): (each, NOTHING) for each in neighbour})


def test_a_tunnel_that_its_program_left(
    uplinks: Uplinks, connections: Connections, tunnel: Callable[..., io.FileIO]
) -> None:
    """A persistent tun device loses its carrier; one that is not goes, and its address too."""
    ends = {}
    talks = {}
    for number, name in enumerate(("tun0", "tun1"), start=1):
        ends[name] = tunnel(name, persistent=name == "tun0")
        ip(uplinks.host, f"addr add 10.{number}.0.1 peer 10.{number}.0.2 dev {name}")
        talks[name] = uplinks.udp(f"10.{number}.0.2")
        assert talks[name].sock.getsockname()[0] == f"10.{number}.0.1"
    connections.are(NOTHING, NOTHING, {name: (talk, NOTHING) for name, talk in talks.items()})
    for end in ends.values():
        end.close()
    connections.are(
        NOTHING, NOTHING, {"tun0": (talks["tun0"], CARRIER), "tun1": (talks["tun1"], GONE)}
    )


def test_link_local_addresses_are_one_links_own(uplinks: Uplinks, connections: Connections) -> None:
    """The same address stays on another link."""
    for near, far in (("eth0", "f0"), ("wlan0", "f1")):
        uplinks.host.address(near, "fe80::1/64")
        uplinks.far.address(far, "fe80::2/64")
    by_eth0, by_wlan0 = uplinks.tcp("fe80::2%eth0"), uplinks.tcp("fe80::2%wlan0")
    datagrams = uplinks.udp("fe80::2%eth0"), uplinks.udp("fe80::2%wlan0")

    def are(eth0: frozenset[str], wlan0: frozenset[str], six: frozenset[str] = NOTHING) -> None:
        connections.are(
            six,
            six,
            {
                "eth0": (by_eth0, eth0),
                "eth0, udp": (datagrams[0], eth0),
                "wlan0": (by_wlan0, wlan0),
                "wlan0, udp": (datagrams[1], wlan0),
            },
        )

    are(NOTHING, NOTHING)
    ip(uplinks.far, "link set f0 down")
    are(CARRIER, NOTHING, CARRIER)
    ip(uplinks.far, "link set f0 up")
    ip(uplinks.host, "addr del fe80::1/64 dev wlan0")
    are(NOTHING, GONE)
    ip(uplinks.host, "addr del fe80::1/64 dev eth0")
    are(GONE, GONE)


def test_a_point_to_point_address(uplinks: Uplinks, connections: Connections) -> None:
    """What counts is the own end, not the peer's, which another address may still name."""
    ip(uplinks.host, "addr add 10.5.0.1 peer 10.5.0.2 dev eth0")
    ip(uplinks.far, "addr add 10.5.0.2 peer 10.5.0.1 dev f0")
    talk = uplinks.tcp("10.5.0.2")
    assert talk.sock.getsockname()[0] == "10.5.0.1"
    connections.are(NOTHING, NOTHING, {"point to point": (talk, NOTHING)})
    ip(uplinks.host, "addr del 10.5.0.1 peer 10.5.0.2 dev eth0")
    # As the peer of another link's address.
    ip(uplinks.host, "addr add 10.6.0.1 peer 10.5.0.1 dev wlan0")
    connections.are(NOTHING, NOTHING, {"point to point": (talk, GONE)})


def test_what_a_verdict_rests_on(
    uplinks: Uplinks, connections: Connections, tunnel: Callable[..., io.FileIO]
) -> None:
    host, four, six = uplinks.host, connections.four["tcp"], connections.six["tcp6"]

    def told(talk: Talk) -> list[dict[str, Any]] | None:
        return recorded(host, remote=[uplinks.service4, uplinks.service6])[talk.cookie]

    tunnel("tun0")
    ip(host, f"route add {uplinks.service4}/32 dev tun0 table 77", "-4 rule add pref 9 table 77")
    assert told(six) == []
    (rerouted,) = told(four) or ()
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
    (no_carrier,) = told(six) or ()
    assert no_carrier["verdict"] == "no_carrier"
    assert no_carrier["evidence"]["leaves_by"] == ["eth0"]
    assert no_carrier["evidence"]["carrier"] is False
    ip(host, "link set eth0 down")
    (unroutable,) = told(four) or ()
    assert unroutable["verdict"] == "unroutable"
    assert unroutable["evidence"] == {
        "remote": uplinks.service4,
        "interface": None,
        "lookup": "ENETUNREACH",
    }
    gone, _unroutable = told(six) or ()
    assert gone["verdict"] == "address_gone"
    assert gone["evidence"]["address"] == uplinks.eth6
