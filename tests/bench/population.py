# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many real connections inside the bench's own namespace, held by child processes."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

# A process may hold this many descriptors for sure, both ends of a connection and some to spare.
_CONNECTIONS_A_PROCESS = 4_000
SERVER_PORT = 7_000
NETWORK = "10.64.0.0/10"  # all of it local, on lo


def prepare_namespace() -> None:
    """Raise lo and make a whole network local, so that connections have many remotes."""
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "route", "add", "local", NETWORK, "dev", "lo"),
    ):
        subprocess.run(command, check=True)
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as setting:
        setting.write("10000 65000")


@contextmanager
def connections(count: int, remotes: dict[str, int]) -> Iterator[None]:
    """`count` established connections, so twice as many sockets.

    remotes: how many of them go to which address; the rest goes to 10.64.0.1.
    """
    targets = [address for address, share in remotes.items() for _each in range(share)]
    targets += ["10.64.0.1"] * (count - len(targets))
    holders: list[int] = []
    try:
        for start in range(0, count, _CONNECTIONS_A_PROCESS):
            part = targets[start : start + _CONNECTIONS_A_PROCESS]
            # A source address of its own for each process: the ports of one would run out.
            holders.append(_hold(part, f"10.65.0.{len(holders) + 1}", SERVER_PORT + len(holders)))
        yield
    finally:
        for pid in holders:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _hold(targets: list[str], source: str, port: int) -> int:
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            limit = 2 * len(targets) + 100
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            held = _connect(targets, source, port)
            os.write(ready_write, b"1" if held else b"0")
            signal.pause()
        finally:
            os._exit(1)
    os.close(ready_write)
    answer = os.read(ready_read, 1)
    os.close(ready_read)
    if answer != b"1":
        os.waitpid(pid, 0)
        raise RuntimeError("a process could not make its connections; see its traceback")
    return pid


def _connect(targets: list[str], source: str, port: int) -> list[socket.socket]:
    held: list[socket.socket] = []
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(128)
    held.append(listener)
    for target in targets:
        client = socket.socket()
        client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        client.bind((source, 0))
        client.connect((target, port))
        held += (client, listener.accept()[0])
    return held
