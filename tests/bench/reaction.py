# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a change of the network to the last connection that it ends: the agent, and a shell's loop.

Time on the clock: what counts is when the last application has heard of it.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import time

from tests.bench import measure, population, resident

ADDRESS = "10.65.77.77"
_PORT = 6_999
_GOAL = 0.2
# What one would write: every event of an address, and whoever has it still goes.
LOOP = f"ip monitor address | while read -r line; do ss -K -Htn src {ADDRESS}; done"


def compare(far: population.FarEnd, count: int, rounds: int) -> measure.Comparison:
    """Medians of so many rounds, taken in turns. The agent also finds out why each is stranded,
    who holds it and whether it is protected, and looks again whether it is gone."""
    bash = shutil.which("bash") or "bash"
    with (
        far.listener(_PORT, count * rounds * 2),
        resident.agent() as agent,
        resident.started(bash, "-c", LOOP) as loop,
    ):
        times = [
            (_reaction(count, resting=loop), _reaction(count, resting=agent))
            for _round in range(rounds)
        ]
    ours = measure.median([own for own, _other in times])
    theirs = measure.median([other for _own, other in times])
    name = f"{count} connections after their address"
    return measure.Comparison(name, "ip monitor | ss -K", ours, theirs, _GOAL, promised=False)


def _reaction(count: int, *, resting: int) -> measure.Taken:
    """Seconds from the deletion of the address to the last abort, with one of the two asleep."""
    os.killpg(resting, signal.SIGSTOP)
    try:
        measure.run_quietly("ip", "addr", "add", f"{ADDRESS}/32", "dev", "near")
        # Until its event has been dealt with: the loop ends connections then too.
        time.sleep(0.7)
        held = [_connect() for _each in range(count)]
        poll = select.poll()
        for sock in held:
            poll.register(sock, 0)
        began = time.perf_counter()
        measure.run_quietly("ip", "addr", "del", f"{ADDRESS}/32", "dev", "near")
        left = {sock.fileno() for sock in held}
        while left:
            for descriptor, _event in poll.poll(20_000) or [_late(left)]:
                poll.unregister(descriptor)
                left.discard(descriptor)
        took = time.perf_counter() - began
        for sock in held:
            sock.close()
    finally:
        os.killpg(resting, signal.SIGCONT)
        # Whoever was awake has told of it and rested, and the other has nothing left to do.
        time.sleep(1)
    return measure.Taken(took, took)


def _late(left: set[int]) -> tuple[int, int]:
    raise SystemExit(f"{len(left)} connections were not ended")


def _connect() -> socket.socket:
    sock = socket.socket()
    sock.bind((ADDRESS, 0))
    sock.connect((population.DEFAULT_REMOTE, _PORT))
    return sock
