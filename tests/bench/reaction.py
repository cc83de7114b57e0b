# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time from an address change to the last destroyed connection: the agent and shell loops.

Wall time, from the request to delete the address until the last application is notified. It
excludes the start of ip(8).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from linuxnet_sockets.netlink import bytecode, inet_diag
from linuxnet_sockets.netlink.connection import NETLINK_SOCK_DIAG, Connection, open_netlink
from tests.bench import measure, population, resident

ADDRESS = "10.65.77.77"
_PORT = 6_900
_GOAL = 0.2
# A shell loop: for each address event, destroy the connections with that address.
LOOP = "ip monitor address | while read -r line; do {} src {}; done"
# ss alone, and with the details that the agent logs: owner (-p, -e) and TCP state (-i).
PEERS = ("ss -K -Htn", "ss -K -Htnpie")


def compare(
    far: population.FarEnd, count: int, others: int, rounds: int
) -> list[measure.Comparison]:
    """Compare the medians of alternating rounds.

    The agent also evaluates why each connection is stranded, who owns it and whether it is
    protected, and verifies the result. others: connections from other addresses, which remain.
    """
    bash = shutil.which("bash") or "bash"
    agent_times: list[measure.Time] = []
    kernel_times: list[measure.Time] = []
    peer_times: dict[str, list[measure.Time]] = {peer: [] for peer in PEERS}
    with resident.agent() as agent:
        # Another port each time, because the agent backs off from repeated destinations.
        for port in range(_PORT, _PORT + rounds):
            with far.listener(port, count * (len(PEERS) + 2)):
                agent_times.append(reaction_time(port, count))
                os.killpg(agent, signal.SIGSTOP)
                for peer in PEERS:
                    with resident.started(bash, "-c", LOOP.format(peer, ADDRESS)):
                        peer_times[peer].append(reaction_time(port, count))
                kernel_times.append(reaction_time(port, count, by_cookies=True))
                os.killpg(agent, signal.SIGCONT)
    kernel_s = measure.median(kernel_times).wall
    share = kernel_s / measure.median(peer_times[PEERS[0]]).wall
    print(
        f"kernel only (cookies of {count} connections known in advance): {kernel_s * 1000:.1f} ms, "
        f"ratio {share:.2f} to the loop with {PEERS[0]}",
        flush=True,
    )
    return [
        measure.Comparison(
            f"{count} of {count + others} after address removal",
            f"ip monitor | {peer}",
            measure.median(agent_times),
            measure.median(peer_times[peer]),
            _GOAL,
            required=False,
        )
        for peer in PEERS
    ]


def reaction_time(port: int, count: int, *, by_cookies: bool = False) -> measure.Time:
    """Measure from the address removal to the last abort.

    by_cookies: destroy by known cookies instead of waiting for the agent or the shell loop.
    """
    held: list[socket.socket] = []
    with _ip_batch() as ip, select.epoll() as poll, _diag() as diag:
        _change_address(ip, "add")
        # Wait for the handling of this event: the loop destroys connections for it too.
        time.sleep(0.7)
        try:
            for _connection in range(count):
                held.append(_connect(port))
                poll.register(held[-1], select.EPOLLONESHOT)
            violating = _from_address(diag) if by_cookies else []
            began = time.perf_counter()
            _change_address(ip, "del")
            inet_diag.destroy(diag, violating)
            remaining = count
            while remaining:
                ended = len(poll.poll(20, count))
                if not ended:
                    raise SystemExit(f"{remaining} connections were not destroyed")
                remaining -= ended
            elapsed = time.perf_counter() - began
        finally:
            for sock in held:
                sock.close()
    # Logging of the agent.
    time.sleep(0.7)
    return measure.Time(elapsed, elapsed)


@contextmanager
def _diag() -> Iterator[Connection]:
    connection = Connection(open_netlink(NETLINK_SOCK_DIAG))
    try:
        yield connection
    finally:
        connection.close()


def _from_address(diag: Connection) -> list[inet_diag.DiagMessage]:
    source = bytecode.src_host(socket.AF_INET, 32, socket.inet_aton(ADDRESS))
    return inet_diag.dump(diag, "tcp", socket.AF_INET, bytecode=source)


@contextmanager
def _ip_batch() -> Iterator[IO[str]]:
    """Start ip(8) and yield its standard input."""
    command = ("ip", "-batch", "-")
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        yield process.stdin


def _change_address(ip: IO[str], verb: str) -> None:
    ip.write(f"address {verb} {ADDRESS}/32 dev near\n")


def _connect(port: int) -> socket.socket:
    sock = socket.socket()
    sock.bind((ADDRESS, 0))
    sock.connect((population.DEFAULT_REMOTE, port))
    return sock
