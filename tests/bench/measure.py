# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times and memory, side by side in one run."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple


class Comparison(NamedTuple):
    """ours, theirs: medians in seconds. ratio: ours over theirs; at most: the promise."""

    name: str
    peer: str
    ours: float
    theirs: float
    at_most: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def kept(self) -> bool:
        return self.ratio <= self.at_most

    def line(self) -> str:
        return (
            f"{self.name:<46} {self.ours * 1000:8.1f} ms   {self.peer:<28}"
            f" {self.theirs * 1000:8.1f} ms   ratio {self.ratio:5.2f}"
            f"   at most {self.at_most:.2f}   {'kept' if self.kept else 'NOT KEPT'}"
        )


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Medians of both, measured in turns, so that a noisy machine is noisy for both."""
    taken = [(seconds(ours), seconds(theirs)) for _round in range(rounds)]
    return (
        statistics.median(own for own, _other in taken),
        statistics.median(other for _own, other in taken),
    )


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
