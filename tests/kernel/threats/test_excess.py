# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user who opens too many connections protects only these, and no other user's."""

from __future__ import annotations

import socket

from tests.kernel.threats.vpn import RULE, VpnHost, policy, wait_for_reset
from tests.support.topologies.waiting import until
from tests.support.unit_agent import ADVERSARY_UID, Adversary, UnitAgent, line_of

CONNECT = """
import socket, sys
target = sys.argv[1], int(sys.argv[2])
opened = [socket.create_connection(target) for _number in range(int(sys.argv[3]))]
print("connected", flush=True)
sys.stdin.read()
"""

EXCESS = 501


def connections(
    vpn: VpnHost, user: Adversary, listening: socket.socket, number: int
) -> list[socket.socket]:
    """The server's ends of so many connections past the VPN."""
    port = str(listening.getsockname()[1])
    process = user.start(CONNECT, vpn.server4, port, str(number))
    peers = [vpn.accept(listening) for _number in range(number)]
    assert line_of(process) == "connected"
    return peers


def is_open(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def test_excess_of_one_user_does_not_protect_others(vpn: VpnHost, user: Adversary) -> None:
    listening = vpn.listen()
    with UnitAgent(vpn.host, policy()) as agent, Adversary(vpn.host, uid=1501) as other:
        many = connections(vpn, user, listening, EXCESS)
        (peer,) = connections(vpn, other, listening, 1)
        started = vpn.start_vpn()
        wait_for_reset(peer, started)
        until(lambda: list(agent.destroyed().values()) == [RULE], "the line in the log")
        assert all(is_open(each) for each in many)
        until(lambda: agent.status()["budget"] is not None, "the status after the pass")
        (exceeded,) = agent.status()["budget"]["exceeded"]
        assert exceeded["rule"] == RULE
        assert (exceeded["uid"], exceeded["due"]) == (ADVERSARY_UID, EXCESS)
        status, text = agent.command("status")
        assert status == 1
        assert f"uid {ADVERSARY_UID}" in text
        assert agent.log_lines("budget exceeded", RULE, f"uid {ADVERSARY_UID}")
        metrics = agent.metrics()
        (name,) = (each for each in metrics if each.startswith("budget_exceeded{"))
        assert f'uid="{ADVERSARY_UID}"' in name
        assert metrics[name] == EXCESS
