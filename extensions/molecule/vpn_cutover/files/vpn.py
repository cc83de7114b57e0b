# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VPN for tests: IPv4 in UDP without encryption, with the routing of wg-quick(8).

usage: vpn.py serve ADDRESS/LENGTH
       vpn.py connect ADDRESS/LENGTH SERVER

The server forwards a packet to the client that last sent from its destination address.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

DEVICE = "/dev/net/tun"
NAME = "tun0"
PORT = MARK = 51820
SO_MARK = 36  # include/uapi/asm-generic/socket.h
# include/uapi/linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def ip(arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments.split()], check=True)


def open_tunnel(address: str) -> int:
    """Create the interface, which exists while the returned descriptor is open."""
    if not Path(DEVICE).exists():
        Path(DEVICE).parent.mkdir(exist_ok=True)
        # Documentation/admin-guide/devices.txt: 10 char, 200 = /dev/net/tun
        os.mknod(DEVICE, 0o020600, os.makedev(10, 200))
    descriptor = os.open(DEVICE, os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", NAME.encode(), IFF_TUN | IFF_NO_PI))
    ip(f"address add {address} dev {NAME}")
    ip(f"link set {NAME} mtu 1400 up")
    return descriptor


def route_everything() -> None:
    """Route all packets through the VPN, except its own and those routed by the main table."""
    ip(f"route add default dev {NAME} table {MARK}")
    ip(f"rule add not fwmark {MARK} table {MARK}")
    ip("rule add table main suppress_prefixlength 0")


def main() -> None:
    """Forward packets until killed."""
    act, address, *server = sys.argv[1:]
    tunnel = open_tunnel(address)
    carrier = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    carrier.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
    ways: dict[bytes, tuple[str, int]] = {}
    if act == "connect":
        carrier.connect((server[0], PORT))
        route_everything()
    else:
        carrier.bind(("0.0.0.0", PORT))
    while True:
        ready, _writable, _failed = select.select([tunnel, carrier], [], [])
        # Until the other end listens, packets are lost.
        with contextlib.suppress(ConnectionRefusedError):
            if tunnel in ready:
                packet = os.read(tunnel, 2048)
                if act == "connect":
                    carrier.send(packet)
                elif packet[16:20] in ways:
                    carrier.sendto(packet, ways[packet[16:20]])
            if carrier in ready:
                packet, sender = carrier.recvfrom(2048)
                ways[packet[12:16]] = sender
                os.write(tunnel, packet)


if __name__ == "__main__":
    main()
