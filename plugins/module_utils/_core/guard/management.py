# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the way by which the caller reaches this host.

Who runs over ssh has the connection's ends in SSH_CONNECTION (sshd(8)); sudo strips it, but some
ancestor process still has it. Salt's minion keeps connections to its master's ports.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from ..host.host import Host
from ..netlink.constants import V4_MAPPED_PREFIX

# Salt's publish_port and ret_port.
SALT_PORTS = frozenset({4505, 4506})

_VARIABLE = b"SSH_CONNECTION="

Ends = tuple[bytes, int, bytes, int]


def ancestors(proc: str, pid: int) -> list[int]:
    """A process and those it descends from, nearest first, as far as they can be seen."""
    found: list[int] = []
    while pid and pid not in found:
        found.append(pid)
        try:
            with open(f"{proc}/{pid}/stat", "rb") as stream:
                # proc_pid_stat(5): the command, field 2, may hold anything, parentheses too.
                fields = stream.read().rpartition(b")")[2].split()
            pid = int(fields[1])
        except (OSError, IndexError, ValueError):
            break
    return found


def ssh_connections(host: Host, pids: list[int]) -> frozenset[Ends]:
    """The ssh connections that the caller and these processes came by, each in both directions.

    (local address, local port, remote address, remote port); addresses have 4 bytes for IPv4 and
    v4-mapped, else 16. Both directions, since the client may be on this host, in another namespace.
    """
    values = [host.environ.get("SSH_CONNECTION", "")]
    for pid in pids:
        try:
            with open(f"{host.proc}/{pid}/environ", "rb") as stream:
                variables = stream.read().split(b"\0")
        except OSError:
            continue
        values += [
            os.fsdecode(each[len(_VARIABLE) :]) for each in variables if each.startswith(_VARIABLE)
        ]
    found: set[Ends] = set()
    for value in set(values):
        found.update(_both_ways(value))
    return frozenset(found)


def _both_ways(value: str) -> Iterator[Ends]:
    """From ``client-address client-port server-address server-port``; nothing where it is not."""
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
    plain = text.partition("%")[0]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            address = socket.inet_pton(family, plain)
        except OSError:
            continue
        return address[12:] if address[:12] == V4_MAPPED_PREFIX and len(address) == 16 else address
    return None
