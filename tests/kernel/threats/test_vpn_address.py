# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket with the address of the VPN that is bound to another interface leaves past the VPN."""

from __future__ import annotations

import time

from tests.kernel.threats.vpn import DEVICE, VpnHost, policy, wait_for_reset
from tests.support.topologies.networks import ip
from tests.support.unit_agent import Adversary, UnitAgent, line_of

# Arguments: address, port, interface. 25: SO_BINDTODEVICE, which needs no capability.
WITH_ADDRESS_OF_VPN = """
import socket, sys
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, 25, sys.argv[3].encode())
sock.bind(("10.9.0.1", 0))
sock.connect((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
sys.stdin.read()
"""


def test_rule_with_device_destroys_it(vpn: VpnHost, user: Adversary) -> None:
    """As the threat model recommends: a rule with `local` alone does not match it."""
    device = vpn.pair.client_device
    ways = [{"not": {"local": f"interface:{DEVICE}"}}, {"device": device}]
    rule = {**policy()["rules"][0], "match": {"user": "1000-60000", "any": ways}, "hold": "200ms"}
    ip(vpn.server, f"route add 10.9.0.1/32 via {vpn.host4}")
    listening = vpn.listen()
    with UnitAgent(vpn.host, policy(rules=[rule]), resync="1s"):
        vpn.start_vpn()
        port = str(listening.getsockname()[1])
        assert line_of(user.start(WITH_ADDRESS_OF_VPN, vpn.server4, port, device)) == "connected"
        wait_for_reset(vpn.accept(listening), time.monotonic())
