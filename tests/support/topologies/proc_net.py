# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse /proc/net/tcp and similar files: socket states without netlink."""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path
from typing import NamedTuple

from .topology import LabNamespace


class Line(NamedTuple):
    """One line. Queues in bytes; state as a number (include/net/tcp_states.h)."""

    local: str
    local_port: int
    remote: str
    remote_port: int
    state: int
    wqueue: int
    rqueue: int
    uid: int
    inode: int


def read(namespace: LabNamespace, protocol: str = "tcp") -> list[Line]:
    """Return the IPv4 and IPv6 sockets of one protocol."""
    found: list[Line] = []
    for table in (protocol, protocol + "6"):
        path = Path(f"/proc/thread-self/net/{table}")
        for text in namespace.run(path.read_text).splitlines()[1:]:
            words = text.split()
            local, remote = (_address(word) for word in words[1:3])
            wqueue, rqueue = (int(word, 16) for word in words[4].split(":"))
            uid, inode = int(words[7]), int(words[9])
            found.append(Line(*local, *remote, int(words[3], 16), wqueue, rqueue, uid, inode))
    return found


def _address(word: str) -> tuple[str, int]:
    """Decode an address: 32-bit words in the byte order of the machine."""
    digits, port = word.split(":")
    raw = bytes.fromhex(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return str(ipaddress.ip_address(socket.inet_ntop(family, raw))), int(port, 16)
