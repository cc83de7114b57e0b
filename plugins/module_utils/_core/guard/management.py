# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The connection by which a host is managed over SSH.

sshd(8) puts the endpoints of a session into SSH_CONNECTION. sudo removes the variable, but an
ancestor process still has it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from ..host.host import Host
from ..netlink.constants import V4_MAPPED_PREFIX

_VARIABLE = b"SSH_CONNECTION="

# Local address, local port, remote address, remote port.
Endpoints = tuple[bytes, int, bytes, int]


def ancestors(proc: str, pid: int) -> list[int]:
    """The pids of a process and its visible ancestors, nearest first."""
    found: list[int] = []
    while pid and pid not in found:
        found.append(pid)
        try:
            with open(f"{proc}/{pid}/stat", "rb") as stream:
                # proc_pid_stat(5): field 2, the command, may contain spaces and parentheses.
                fields = stream.read().rpartition(b")")[2].split()
            pid = int(fields[1])
        except (OSError, IndexError, ValueError):
            break
    return found


def ssh_connections(host: Host, pids: list[int]) -> frozenset[Endpoints]:
    """The SSH connections of this process and the processes with these pids.

    Addresses have 4 bytes for IPv4 and v4-mapped, else 16. Each connection is returned in both
    directions: the client may be on this host, in another namespace.
    """
    values = [host.environ.get("SSH_CONNECTION", "")]
    for pid in pids:
        try:
            with open(f"{host.proc}/{pid}/environ", "rb") as stream:
                variables = stream.read().split(b"\0")
        except OSError:
            continue
        values += [
            os.fsdecode(variable[len(_VARIABLE) :])
            for variable in variables
            if variable.startswith(_VARIABLE)
        ]
    found: set[Endpoints] = set()
    for value in set(values):
        found.update(_both_directions(value))
    return frozenset(found)


def _both_directions(value: str) -> Iterator[Endpoints]:
    """Parse ``client-address client-port server-address server-port``; yields nothing on error."""
    fields = value.split()
    if len(fields) != 4 or not (fields[1].isdecimal() and fields[3].isdecimal()):
        return
    client, server = _address(fields[0]), _address(fields[2])
    if client is None or server is None:
        return
    client_port, server_port = int(fields[1]), int(fields[3])
    yield server, server_port, client, client_port
    yield client, client_port, server, server_port


def _address(text: str) -> bytes | None:
    unscoped = text.partition("%")[0]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            address = socket.inet_pton(family, unscoped)
        except OSError:
            continue
        return address[12:] if address[:12] == V4_MAPPED_PREFIX and len(address) == 16 else address
    return None
