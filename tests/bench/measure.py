# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measurement of CPU time, elapsed time and memory, compared with a peer in the same run.

CPU time (user and kernel) measures the work alone. Elapsed time also contains the load of other
processes. The measured work does not wait, so both agree on an idle machine.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple


class Time(NamedTuple):
    """Seconds. cpu: CPU time in user and kernel mode. wall: elapsed time."""

    cpu: float
    wall: float

    def text(self) -> str:
        return f"{self.cpu * 1000:7.1f} ms"


HEADER = (
    f"{'measurement':<40} {'collection':>10}   {'peer':<29} {'time':>10}"
    "   CPU ratio   elapsed ratio   result"
)


class Comparison(NamedTuple):
    """Median times of the collection and of a peer, with the maximum ratio of their CPU times.

    required: whether the bench fails above the maximum. Otherwise the maximum is a goal.
    """

    name: str
    peer: str
    own: Time
    peer_time: Time
    max_ratio: float
    required: bool = True

    @property
    def ratio(self) -> float:
        return self.own.cpu / self.peer_time.cpu

    @property
    def passed(self) -> bool:
        return self.within_maximum or not self.required

    @property
    def within_maximum(self) -> bool:
        return self.ratio <= self.max_ratio

    def line(self) -> str:
        if self.required:
            result = f"limit {self.max_ratio:.2f}: {'met' if self.within_maximum else 'EXCEEDED'}"
        else:
            result = f"goal {self.max_ratio:.2f}: {'met' if self.within_maximum else 'not met'}"
        return (
            f"{self.name:<40} {self.own.text()}   {self.peer:<29} {self.peer_time.text()}"
            f"   {self.ratio:9.2f}   {self.own.wall / self.peer_time.wall:13.2f}   {result}"
        )


def measure(action: Callable[[], object]) -> Time:
    """Time of an action in this process and in the children that it waits for."""
    cpu, wall = _cpu(), time.perf_counter()
    action()
    return Time(_cpu() - cpu, time.perf_counter() - wall)


def _cpu() -> float:
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def median(times: list[Time]) -> Time:
    return Time(
        statistics.median(time.cpu for time in times),
        statistics.median(time.wall for time in times),
    )


def alternate(
    own: Callable[[], object], peer: Callable[[], object], rounds: int
) -> tuple[Time, Time]:
    """Medians of both actions, run alternately, so that other load affects both equally."""
    times = [(measure(own), measure(peer)) for _round in range(rounds)]
    return median([pair[0] for pair in times]), median([pair[1] for pair in times])


def run_quietly(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peak_memory_mb(action: Callable[[], object]) -> tuple[float, float]:
    """Resident memory in MiB before the action and at its peak, in a child process."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            action()
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            os.write(write, f"{before} {after}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        before, after = pipe.read().split()
    os.waitpid(pid, 0)
    return int(before) / 1024, int(after) / 1024
