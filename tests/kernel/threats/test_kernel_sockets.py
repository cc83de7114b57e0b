# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets of the kernel live, and sockets of users that look like them die."""

from __future__ import annotations

import socket
from typing import Any

from tests.kernel.conftest import Diag
from tests.kernel.threats import programs
from tests.kernel.threats.vpn import DEVICE, VpnHost, protections, strict_policy, wait_for_reset
from tests.support.topologies.networks import ip
from tests.support.topologies.waiting import until
from tests.support.unit_agent import Adversary, UnitAgent, line_of

VXLAN_PORT = 4789


def without_holder(sock: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Close a socket, of which a message that nobody receives keeps a reference.

    To the guard it then looks like one of NFS or iSCSI: it belongs to root, and no process holds
    it. Returns the sockets that hold the message.
    """
    ends = socket.socketpair()
    socket.send_fds(ends[0], [b"x"], [sock.fileno()])
    sock.close()
    return ends


def test_connection_of_root_without_holder_lives(vpn: VpnHost, user: Adversary) -> None:
    listening = vpn.listen()
    port = listening.getsockname()[1]
    mount = vpn.host.socket()
    mount.connect((vpn.server4, port))
    server_of_mount = vpn.accept(listening)
    message = without_holder(mount)
    with UnitAgent(vpn.host, strict_policy()) as agent:
        process = user.start(programs.IN_FLIGHT, vpn.server4, str(port))
        assert line_of(process) == "connected"
        wait_for_reset(vpn.accept(listening), vpn.start_vpn())
        agent.wait_for_pass()
        assert protections(agent) == {"kernel"}
        _data, (descriptor,), _flags, _from = socket.recv_fds(message[1], 1, 1)
        with socket.socket(fileno=descriptor) as received:
            received.sendall(b"still here")
        assert server_of_mount.recv(10) == b"still here"
    for end in message:
        end.close()


def test_tunnel_of_the_kernel_lives(vpn: VpnHost, diag: Diag) -> None:
    """VXLAN has a UDP socket that no process ever held."""
    link = f"link add vx0 type vxlan id 7 dstport {VXLAN_PORT} dev {vpn.pair.client_device}"
    ip(vpn.host, link, "link set vx0 up")
    vpn.host.delete_link_at_end("vx0")
    sockets = diag(vpn.host)
    (tunnel,) = (each for each in sockets.all("udp") if each.sport == VXLAN_PORT)
    assert tunnel.uid == 0
    rule: dict[str, Any] = {
        "name": "tunnels",
        "while": {"interface": DEVICE, "is": "up"},
        "match": {"protocol": "udp", "state": "all", "local_port": VXLAN_PORT},
    }
    document = {**strict_policy(protect={"unconnected": False}), "rules": [rule]}
    with UnitAgent(vpn.host, document) as agent:
        vpn.start_vpn()
        until(lambda: protections(agent) == {"kernel"}, "the tunnel as a protected violation")
        assert sockets.alive(tunnel)
