# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy routing: verdicts use the mark, owner, device, ports and source of each connection."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable

import pytest

from tests.kernel.destroy_subprocess import destroy_in_subprocess
from tests.kernel.stranded.connections import GONE, NOTHING, REROUTED, Connections, selected
from tests.support.topologies.networks import (
    VPN_MARK,
    UplinkConnection,
    Uplinks,
    ip,
    route_all_through,
)

Tunnel = Callable[..., io.FileIO]


@pytest.fixture
def other_table(uplinks: Uplinks) -> int:
    """A table of routes over wlan0, without a rule."""
    ip(
        uplinks.host,
        f"route add {uplinks.other4} table 77",
        f"route add {uplinks.other6} table 77",
    )
    return 77


@pytest.fixture
def vpn(uplinks: Uplinks, connections: Connections, tunnel: Tunnel) -> None:  # noqa: ARG001
    """The rules of wg-quick(8) with a tun device: all traffic without the VPN's mark."""
    tunnel("tun0")
    route_all_through(uplinks.host, "tun0")


def _rerouted(uplinks: Uplinks, *to: str) -> set[int]:
    return selected(uplinks.host, stranded=[{"verdict": "rerouted", "to": list(to)}])


def _cookies(*opened_connections: UplinkConnection) -> set[int]:
    return {connection.cookie for connection in opened_connections}


@pytest.mark.usefixtures("vpn")
def test_vpn_up(uplinks: Uplinks, connections: Connections) -> None:
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
    connections.assert_verdicts(
        REROUTED, REROUTED, {name: (each, NOTHING) for name, each in protected.items()}
    )
    bypassing = _cookies(*connections.four.values(), *connections.six.values())
    assert _rerouted(uplinks, "tun0") == bypassing
    assert _rerouted(uplinks, "wlan0", "tun0") == bypassing
    assert _rerouted(uplinks, "wlan0") == set()
    assert _rerouted(uplinks, "tun1") == set()


def test_vpn_down_again(uplinks: Uplinks, connections: Connections, tunnel: Tunnel) -> None:
    end = tunnel("tun0")
    ip(
        uplinks.host,
        "addr add 10.9.0.1 peer 10.9.0.2 dev tun0",
        f"route add {uplinks.service4}/32 dev tun0",
    )
    inside = uplinks.udp(uplinks.service4), uplinks.udp("10.9.0.2")
    connections.assert_verdicts(REROUTED, NOTHING, {str(each): (each, NOTHING) for each in inside})
    end.close()
    connections.assert_verdicts(NOTHING, NOTHING, {str(each): (each, GONE) for each in inside})


def test_asymmetric_routing_is_rerouted_but_not_to_the_tunnel(
    uplinks: Uplinks, connections: Connections
) -> None:
    """`rerouted` is true, but not with the interface that the rule names."""
    for default, other in (
        (uplinks.default4, uplinks.other4),
        (uplinks.default6, uplinks.other6),
    ):
        ip(uplinks.host, f"route del {default}", f"route add {other}")
    for name in ("tcp", "tcp6"):
        connection = {**connections.four, **connections.six}[name]
        assert connection.peer is not None
        connection.sock.sendall(b"question")
        assert connection.peer.recv(8) == b"question"
        connection.peer.sendall(b"answer")
        assert connection.sock.recv(8) == b"answer"
    connections.assert_verdicts(REROUTED, REROUTED)
    assert _rerouted(uplinks, "tun0") == set()
    assert len(_rerouted(uplinks, "wlan0")) == len(connections.four) + len(connections.six)


def test_rule_by_mark(uplinks: Uplinks, connections: Connections, other_table: int) -> None:
    marked = {
        address: uplinks.tcp(address, mark=0x13)
        for address in (uplinks.service4, f"::ffff:{uplinks.service4}", uplinks.service6)
    }
    unlike = uplinks.tcp(uplinks.service4, mark=0x23), uplinks.tcp(uplinks.service6, mark=0x23)
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add fwmark 0x10/0xf0 table {other_table}")
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        {
            **{address: (connection, REROUTED) for address, connection in marked.items()},
            **{str(connection): (connection, NOTHING) for connection in unlike},
        },
    )


def test_rule_by_uid(uplinks: Uplinks, connections: Connections, other_table: int) -> None:
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
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        {
            f"{address} of {uid}": (connection, REROUTED if 1000 <= uid <= 2000 else NOTHING)
            for (address, uid), connection in owned.items()
        },
    )


def test_rule_by_uid_excludes_root(
    uplinks: Uplinks, connections: Connections, other_table: int
) -> None:
    """The UID of the socket counts, not that of the caller."""
    for family in ("-4", "-6"):
        ip(
            uplinks.host,
            f"{family} rule add uidrange {os.getuid()}-{os.getuid()} table {other_table}",
        )
    connections.assert_verdicts(REROUTED, REROUTED)
    try:
        another = {
            "another's": (uplinks.tcp(uplinks.eth4_gateway, uid=1000), NOTHING),
            "another's, 6": (uplinks.tcp(uplinks.eth6_gateway, uid=1000), NOTHING),
        }
    except OSError as error:
        pytest.skip(f"root of this user namespace has no other users: {error}")
    connections.assert_verdicts(REROUTED, REROUTED, another)


@pytest.mark.parametrize("rule", ["ipproto tcp", "ipproto tcp dport 4433", "dport 4400-4433"])
def test_rule_by_protocol_and_port(
    uplinks: Uplinks, connections: Connections, other_table: int, rule: str
) -> None:
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add {rule} table {other_table}")
    concerned = frozenset(REROUTED if rule.startswith("dport") else NOTHING)
    # Accepted connections have the local port 4433.
    accepted = NOTHING if "dport" in rule else REROUTED
    connections.assert_verdicts(
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


def test_rule_by_source_port(uplinks: Uplinks, connections: Connections, other_table: int) -> None:
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add sport 4433 table {other_table}")
    accepted = (connections.four["tcp, accepted"], connections.six["tcp6, accepted"])
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        dict(zip(("tcp, accepted", "tcp6, accepted"), ((each, REROUTED) for each in accepted))),
    )


def test_rule_by_source(uplinks: Uplinks, connections: Connections, other_table: int) -> None:
    ip(uplinks.host, "addr add 192.0.2.11/24 dev eth0", "addr add 2001:db8:a::11/64 dev eth0 nodad")
    others = {
        "192.0.2.11": uplinks.tcp(uplinks.service4, "192.0.2.11"),
        "2001:db8:a::11": uplinks.tcp(uplinks.service6, "2001:db8:a::11"),
    }
    for source in others:
        ip(uplinks.host, f"rule add from {source} table {other_table}")
    connections.assert_verdicts(
        NOTHING, NOTHING, {name: (each, REROUTED) for name, each in others.items()}
    )


def test_rule_by_tos(uplinks: Uplinks, connections: Connections, other_table: int) -> None:
    quick = uplinks.tcp(uplinks.service4, options=[(socket.IPPROTO_IP, socket.IP_TOS, 0x10)])
    quick6 = uplinks.tcp(
        uplinks.service6, options=[(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x10)]
    )
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add tos 0x10 table {other_table}")
    connections.assert_verdicts(
        NOTHING, NOTHING, {"quick": (quick, REROUTED), "quick6": (quick6, REROUTED)}
    )


@pytest.mark.parametrize("negated", [False, True])
def test_mark_rules_are_unknown_without_cap_net_admin(
    uplinks: Uplinks,
    connections: Connections,  # noqa: ARG001
    other_table: int,
    negated: bool,
) -> None:
    """The kernel reports marks only with CAP_NET_ADMIN."""
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
