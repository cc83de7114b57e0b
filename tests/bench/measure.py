# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processor time and memory, side by side in one run.

Processor time, of user and kernel together, is what the work takes; the time on the clock is also
what others on a shared machine take. The work waits for nothing, so on a quiet machine both agree.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple


class Taken(NamedTuple):
    """Seconds. cpu: of the processor, in user and kernel mode. wall: on the clock."""

    cpu: float
    wall: float

    def text(self) -> str:
        return f"{self.cpu * 1000:7.1f} ms"


class Comparison(NamedTuple):
    """ours, theirs: medians. at_most: the promise about the ratio of processor times.

    promised: False: it is a goal, and the line tells whether it is reached.
    """

    name: str
    peer: str
    ours: Taken
    theirs: Taken
    at_most: float
    promised: bool = True

    @property
    def ratio(self) -> float:
        return self.ours.cpu / self.theirs.cpu

    @property
    def kept(self) -> bool:
        return self.reached or not self.promised

    @property
    def reached(self) -> bool:
        return self.ratio <= self.at_most

    def line(self) -> str:
        if self.promised:
            verdict = f"at most {self.at_most:.2f}: {'kept' if self.reached else 'NOT KEPT'}"
        else:
            verdict = f"goal {self.at_most:.2f}: {'reached' if self.reached else 'not reached'}"
        return (
            f"{self.name:<38} {self.ours.text()}   {self.peer:<28} {self.theirs.text()}"
            f"   ratio {self.ratio:4.2f} (on the clock {self.ours.wall / self.theirs.wall:4.2f})"
            f"   {verdict}"
        )


def taken(action: Callable[[], object]) -> Taken:
    """What it takes, in this process and in the children that it waits for."""
    cpu, wall = _cpu(), time.perf_counter()
    action()
    return Taken(_cpu() - cpu, time.perf_counter() - wall)


def _cpu() -> float:
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def median(times: list[Taken]) -> Taken:
    return Taken(
        statistics.median(each.cpu for each in times),
        statistics.median(each.wall for each in times),
    )


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[Taken, Taken]:
    """Medians of both, measured in turns, so that a noisy machine is noisy for both."""
    times = [(taken(ours), taken(theirs)) for _round in range(rounds)]
    return median([own for own, _other in times]), median([other for _own, other in times])


def run_quietly(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peak_memory_mb(action: Callable[[], object]) -> tuple[float, float]:
    """(before, peak) resident megabytes of a child process that does it."""
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
    with os.fdopen(read) as answer:
        before, after = answer.read().split()
    os.waitpid(pid, 0)
    return int(before) / 1024, int(after) / 1024
