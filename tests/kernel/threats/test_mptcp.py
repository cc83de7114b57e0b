# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An MPTCP connection past the VPN: engine auto destroys it, engine netlink reports it."""

from __future__ import annotations

import socket
import time

import pytest

from tests.kernel.threats.vpn import RULE, VpnHost, policy, wait_for_reset
from tests.support.topologies.states import listener
from tests.support.topologies.waiting import until
from tests.support.unit_agent import Adversary, UnitAgent, line_of

IPPROTO_MPTCP = 262

CONNECT = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
sock.connect((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
sys.stdin.read()
"""


def connection(vpn: VpnHost, user: Adversary) -> socket.socket:
    """The server's end of an MPTCP connection past the VPN."""
    try:
        listening = listener(vpn.server, vpn.server4, protocol=IPPROTO_MPTCP)
    except OSError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")
    with listening:
        process = user.start(CONNECT, vpn.server4, str(listening.getsockname()[1]))
        peer = vpn.accept(listening)
        assert line_of(process) == "connected"
    return peer


def connection_lives(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) != b""
    except BlockingIOError:
        return True


def test_auto_destroys_it(vpn: VpnHost, user: Adversary) -> None:
    with UnitAgent(vpn.host, policy(engine="auto")) as agent:
        peer = connection(vpn, user)
        wait_for_reset(peer, vpn.start_vpn())
        until(lambda: list(agent.destroyed().values()) == [RULE], "the line in the log")
        until(lambda: agent.status()["rules"][0]["outcomes"] == {"destroyed": 1}, "the status")
        assert agent.status()["unenforced"] == 0


def test_netlink_reports_it(vpn: VpnHost, user: Adversary) -> None:
    with UnitAgent(vpn.host, policy()) as agent:
        peer = connection(vpn, user)
        vpn.start_vpn()
        until(lambda: agent.status()["inhibited_by"] == "unenforced", "the status", seconds=10)
        status = agent.status()
        assert status["enforcing"] is True
        assert status["unenforced"] == 1
        assert status["rules"][0]["unenforced"] == {"unsupported_protocol": 1}
        code, text = agent.command("status")
        assert code == 1
        assert "1 unsupported_protocol" in text
        labels = f'rule="{RULE}",reason="unsupported_protocol"'
        assert agent.metrics()[f"unenforced{{{labels}}}"] == 1
        assert agent.log_lines(RULE, "cannot be destroyed", "unsupported_protocol")
        # It stays so while the destination is in backoff.
        time.sleep(1)
        agent.wait_for_pass()
        assert agent.status()["inhibited_by"] == "unenforced"
        assert connection_lives(peer)
