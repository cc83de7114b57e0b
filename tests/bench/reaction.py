# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a change of the network to the last connection that it ends: the agent, and shell loops.

Time on the clock: what counts is when the last application has heard of it. It begins when the
kernel is told to delete the address; starting the program that tells it is not part of it.
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
# What one would write: every event of an address, and whoever has it still goes.
LOOP = "ip monitor address | while read -r line; do {} src {}; done"
# Alone, and telling of each connection what the agent's journal tells: who held it (-p), whose it
# was (-e), and how it stood (-i).
PEERS = ("ss -K -Htn", "ss -K -Htnpie")


def compare(
    far: population.FarEnd, count: int, others: int, rounds: int
) -> list[measure.Comparison]:
    """Medians of so many rounds, taken in turns. The agent also finds out why each is stranded,
    who holds it and whether it is protected, and looks again whether it is gone.

    others: connections of other addresses, which live on.
    """
    bash = shutil.which("bash") or "bash"
    ours: list[measure.Taken] = []
    least: list[measure.Taken] = []
    theirs: dict[str, list[measure.Taken]] = {peer: [] for peer in PEERS}
    with resident.agent() as agent:
        # To another port each time: the agent leaves alone what comes back again and again.
        for port in range(_PORT, _PORT + rounds):
            with far.listener(port, count * (len(PEERS) + 2)):
                ours.append(_reaction(port, count))
                os.killpg(agent, signal.SIGSTOP)
                for peer in PEERS:
                    with resident.started(bash, "-c", LOOP.format(peer, ADDRESS)):
                        theirs[peer].append(_reaction(port, count))
                least.append(_reaction(port, count, by_cookies=True))
                os.killpg(agent, signal.SIGCONT)
    alone = measure.median(least).wall
    share = alone / measure.median(theirs[PEERS[0]]).wall
    print(
        f"the kernel alone, told the cookies of {count} connections in advance, ends them in "
        f"{alone * 1000:.1f} ms: {share:.2f} of the loop with {PEERS[0]}",
        flush=True,
    )
    return [
        measure.Comparison(
            f"{count} of {count + others} after their address",
            f"ip monitor | {peer}",
            measure.median(ours),
            measure.median(theirs[peer]),
            _GOAL,
            promised=False,
        )
        for peer in PEERS
    ]


def _reaction(port: int, count: int, *, by_cookies: bool = False) -> measure.Taken:
    """Seconds from the deletion of the address to the last abort, by whoever is awake, or by one
    who need not look."""
    held: list[socket.socket] = []
    with _told_to_ip() as ip, select.epoll() as poll, _diag() as diag:
        _tell(ip, "add")
        # Until its event has been dealt with: the loop ends connections then too.
        time.sleep(0.7)
        try:
            for _each in range(count):
                held.append(_connect(port))
                poll.register(held[-1], select.EPOLLONESHOT)
            doomed = _from_address(diag) if by_cookies else []
            began = time.perf_counter()
            _tell(ip, "del")
            inet_diag.destroy(diag, doomed)
            left = count
            while left:
                ended = len(poll.poll(20, count))
                if not ended:
                    raise SystemExit(f"{left} connections were not ended")
                left -= ended
            took = time.perf_counter() - began
        finally:
            for sock in held:
                sock.close()
    # Whoever was awake tells of it, and rests.
    time.sleep(0.7)
    return measure.Taken(took, took)


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
def _told_to_ip() -> Iterator[IO[str]]:
    """Lines for one ip(8) that runs already."""
    words = ("ip", "-batch", "-")
    with subprocess.Popen(words, stdin=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        yield process.stdin


def _tell(ip: IO[str], what: str) -> None:
    ip.write(f"address {what} {ADDRESS}/32 dev near\n")


def _connect(port: int) -> socket.socket:
    sock = socket.socket()
    sock.bind((ADDRESS, 0))
    sock.connect((population.DEFAULT_REMOTE, port))
    return sock
