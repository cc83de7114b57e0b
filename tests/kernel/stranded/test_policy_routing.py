# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes by rules: each connection is judged by its own mark, owner, device, ports and source."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable

import pytest

from tests.kernel.destroy_subprocess import destroy_in_subprocess
from tests.kernel.stranded.connections import GONE, NOTHING, REROUTED, Connections, chosen
from tests.support.topologies.networks import VPN_MARK, Talk, Uplinks, ip, send_all_by

Tunnel = Callable[..., io.FileIO]


@pytest.fixture
def other_table(uplinks: Uplinks) -> int:
    """A table of routes by wlan0, which no rule asks yet."""
    ip(
        uplinks.host,
        f"route add {uplinks.other4} table 77",
        f"route add {uplinks.other6} table 77",
    )
    return 77


@pytest.fixture
def vpn(uplinks: Uplinks, connections: Connections, tunnel: Tunnel) -> None:  # noqa: ARG001
    """What wg-quick(8) does, with a tun device: all goes there but what has the VPN's own mark."""
    tunnel("tun0")
    send_all_by(uplinks.host, "tun0")


def _rerouted(uplinks: Uplinks, *to: str) -> set[int]:
    return chosen(uplinks.host, stranded=[{"verdict": "rerouted", "to": list(to)}])


def _cookies(*talks: Talk) -> set[int]:
    return {talk.cookie for talk in talks}


@pytest.mark.usefixtures("vpn")
def test_a_vpn_came_up(uplinks: Uplinks, connections: Connections) -> None:
    protected = {
        "the VPN's transport": uplinks.udp(uplinks.service4, mark=VPN_MARK),
        "the VPN's transport, 6": uplinks.udp(uplinks.service6, mark=VPN_MARK),
        "a neighbour": uplinks.tcp(uplinks.eth4_gateway),
        "a neighbour, 6": uplinks.tcp(uplinks.eth6_gateway),
        "through the VPN": uplinks.udp(uplinks.service4),
        "through the VPN, 6": uplinks.udp(uplinks.service6),
        "bound to eth0": uplinks.tcp(uplinks.service4, device="eth0"),
        "bound to eth0, mapped": uplinks.tcp(f"::ffff:{uplinks.service4}", device="eth0"),
        "bound to eth0, 6": uplinks.tcp(uplinks.service6, device="eth0"),
    }
    assert protected["through the VPN"].sock.getsockname()[0] == "10.9.0.1"
    assert protected["the VPN's transport, 6"].sock.getsockname()[0] == uplinks.eth6
    connections.are(REROUTED, REROUTED, {name: (each, NOTHING) for name, each in protected.items()})
    bypassing = _cookies(*connections.four.values(), *connections.six.values())
    assert _rerouted(uplinks, "tun0") == bypassing
    assert _rerouted(uplinks, "wlan0", "tun0") == bypassing
    assert _rerouted(uplinks, "wlan0") == set()
    assert _rerouted(uplinks, "tun1") == set()


def test_a_vpn_that_went_again(uplinks: Uplinks, connections: Connections, tunnel: Tunnel) -> None:
    end = tunnel("tun0")
    ip(
        uplinks.host,
        "addr add 10.9.0.1 peer 10.9.0.2 dev tun0",
        f"route add {uplinks.service4}/32 dev tun0",
    )
    inside = uplinks.udp(uplinks.service4), uplinks.udp("10.9.0.2")
    connections.are(REROUTED, NOTHING, {str(each): (each, NOTHING) for each in inside})
    end.close()
    connections.are(NOTHING, NOTHING, {str(each): (each, GONE) for each in inside})


def test_routing_that_is_asymmetric_and_works(uplinks: Uplinks, connections: Connections) -> None:
    """It looks the same, but does not leave by where a rule says that it must not."""
    for default, other in (
        (uplinks.default4, uplinks.other4),
        (uplinks.default6, uplinks.other6),
    ):
        ip(uplinks.host, f"route del {default}", f"route add {other}")
    for name in ("tcp", "tcp6"):
        talk = {**connections.four, **connections.six}[name]
        assert talk.peer is not None
        talk.sock.sendall(b"question")
        assert talk.peer.recv(8) == b"question"
        talk.peer.sendall(b"answer")
        assert talk.sock.recv(8) == b"answer"
    connections.are(REROUTED, REROUTED)
    assert _rerouted(uplinks, "tun0") == set()
    assert len(_rerouted(uplinks, "wlan0")) == len(connections.four) + len(connections.six)


def test_rules_by_mark(uplinks: Uplinks, connections: Connections, other_table: int) -> None:
    marked = {
        address: uplinks.tcp(address, mark=0x13)
        for address in (uplinks.service4, f"::ffff:{uplinks.service4}", uplinks.service6)
    }
    unlike = uplinks.tcp(uplinks.service4, mark=0x23), uplinks.tcp(uplinks.service6, mark=0x23)
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add fwmark 0x10/0xf0 table {other_table}")
    connections.are(
        NOTHING,
        NOTHING,
        {
            **{address: (talk, REROUTED) for address, talk in marked.items()},
            **{str(talk): (talk, NOTHING) for talk in unlike},
        },
    )


def test_rules_by_owner(uplinks: Uplinks, connections: Connections, other_table: int) -> None:
    try:
        owned = {
            (address, uid): uplinks.tcp(address, uid=uid)
            for address in (uplinks.service4, f"::ffff:{uplinks.service4}", uplinks.service6)
            for uid in (999, 1000, 2000, 2001)
        }
    except OSError as error:
        pytest.skip(f"root of this user namespace has no other users: {error}")
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add uidrange 1000-2000 table {other_table}")
    connections.are(
        NOTHING,
        NOTHING,
        {
            f"{address} of {uid}": (talk, REROUTED if 1000 <= uid <= 2000 else NOTHING)
            for (address, uid), talk in owned.items()
        },
    )


def test_rules_by_owner_do_not_concern_root(
    uplinks: Uplinks, connections: Connections, other_table: int
) -> None:
    """Who looks is not who owns."""
    for family in ("-4", "-6"):
        ip(
            uplinks.host,
            f"{family} rule add uidrange {os.getuid()}-{os.getuid()} table {other_table}",
        )
    connections.are(REROUTED, REROUTED)
    try:
        another = {
            "another's": (uplinks.tcp(uplinks.eth4_gateway, uid=1000), NOTHING),
            "another's, 6": (uplinks.tcp(uplinks.eth6_gateway, uid=1000), NOTHING),
        }
    except OSError as error:
        pytest.skip(f"root of this user namespace has no other users: {error}")
    connections.are(REROUTED, REROUTED, another)


@pytest.mark.parametrize("rule", ["ipproto tcp", "ipproto tcp dport 4433", "dport 4400-4433"])
def test_rules_by_protocol_and_port(
    uplinks: Uplinks, connections: Connections, other_table: int, rule: str
) -> None:
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add {rule} table {other_table}")
    concerned = frozenset(REROUTED if rule.startswith("dport") else NOTHING)
    # What came in has 4433 as its own port.
    accepted = NOTHING if "dport" in rule else REROUTED
    connections.are(
        REROUTED,
        REROUTED,
        {
            "udp": (connections.four["udp"], concerned),
            "udp, mapped": (connections.four["udp, mapped"], concerned),
            "udp6": (connections.six["udp6"], concerned),
            "tcp, accepted": (connections.four["tcp, accepted"], accepted),
            "tcp6, accepted": (connections.six["tcp6, accepted"], accepted),
        },
    )


def test_rules_by_source_port(uplinks: Uplinks, connections: Connections, other_table: int) -> None:
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add sport 4433 table {other_table}")
    accepted = (connections.four["tcp, accepted"], connections.six["tcp6, accepted"])
    connections.are(
        NOTHING,
        NOTHING,
        dict(zip(("tcp, accepted", "tcp6, accepted"), ((each, REROUTED) for each in accepted))),
    )


def test_rules_by_source(uplinks: Uplinks, connections: Connections, other_table: int) -> None:
    ip(uplinks.host, "addr add 192.0.2.11/24 dev eth0", "addr add 2001:db8:a::11/64 dev eth0 nodad")
    others = {
        "192.0.2.11": uplinks.tcp(uplinks.service4, "192.0.2.11"),
        "2001:db8:a::11": uplinks.tcp(uplinks.service6, "2001:db8:a::11"),
    }
    for source in others:
        ip(uplinks.host, f"rule add from {source} table {other_table}")
    connections.are(NOTHING, NOTHING, {name: (each, REROUTED) for name, each in others.items()})


def test_rules_by_type_of_service(
    uplinks: Uplinks, connections: Connections, other_table: int
) -> None:
    quick = uplinks.tcp(uplinks.service4, options=[(socket.IPPROTO_IP, socket.IP_TOS, 0x10)])
    quick6 = uplinks.tcp(
        uplinks.service6, options=[(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x10)]
    )
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add tos 0x10 table {other_table}")
    connections.are(NOTHING, NOTHING, {"quick": (quick, REROUTED), "quick6": (quick6, REROUTED)})


@pytest.mark.parametrize("negated", [False, True])
def test_who_may_not_see_marks_is_told_nothing_that_depends_on_them(
    uplinks: Uplinks,
    connections: Connections,  # noqa: ARG001
    other_table: int,
    negated: bool,
) -> None:
    """Without CAP_NET_ADMIN nobody knows of a mark."""
    match = {"stranded": {"verdict": "rerouted", "to": ["wlan0"]}, "remote": uplinks.service4}
    if negated:
        match = {"not": {"stranded": match["stranded"]}, "remote": uplinks.service4}
    ip(uplinks.host, f"rule add not fwmark 0x10 table {other_table}")
    spare_nothing = dict.fromkeys(
        ("control_connection", "ssh_sessions", "loopback", "listeners", "unconnected", "kernel"),
        False,
    )
    order = {"check": True, "protect": spare_nothing}
    seen = destroy_in_subprocess(match, [uplinks.host.name], **order)
    assert bool(seen["outcomes"]) is not negated
    unseen = destroy_in_subprocess(match, [uplinks.host.name], **order, without=["net_admin"])
    assert unseen["outcomes"] == {}
