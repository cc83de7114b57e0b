# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Network namespaces that no main thread is in: of other threads, and of descriptors of nsfs.

A thread can be in another namespace than its process (setns(2)), and a descriptor keeps a namespace
that nothing is in. Both take a walk: one stat for each thread, one readlink for each descriptor.
The walk is bounded for each user, so that one user's threads and descriptors do not delay the rest.
A caller that resolves `all` again and again, as the agent does, goes on where the last walk ended.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from .threads import live_thread, threads_with_own_descriptors

Identity = tuple[int, int]

# How many threads and descriptors of a user one walk reads; of root, and of all users together.
_PER_USER = 20_000
_IN_TOTAL = 200_000
# How long the descriptors of a process count as read.
_FRESH_S = 60.0

# The number of links of /proc/PID/task is the number of threads and two (proc_task_getattr).
_LINKS_OF_SINGLE_THREAD = 3
# The position in /proc/PID/fd that belongs to descriptor 0, after . and .. (proc_readfd_common).
_FIRST_POSITION = 2


class ProcessEntry(NamedTuple):
    """A process. task: the inode of /proc/PID/task, which no later process has. uid: its owner."""

    pid: int
    task: int
    uid: int
    threads: int


def read_entry(proc: str, pid: int) -> ProcessEntry | None:
    """Read what identifies a process; None: it has ended."""
    try:
        status = os.stat(f"{proc}/{pid}/task")
    except OSError:
        return None
    threads = status.st_nlink - _LINKS_OF_SINGLE_THREAD + 1
    return ProcessEntry(pid, status.st_ino, status.st_uid, threads)


class _Walked(NamedTuple):
    """What is known of the descriptors of a process.

    at: the time of the last walk. next: the descriptor to go on with; 0: all were read. found: the
    path of a descriptor by namespace.
    """

    at: float
    next: int
    found: dict[Identity, str]


class HolderWalk:
    """Finds namespaces through threads and descriptors. Remembers what it read of each process.

    clock: seconds, as time.monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._walked: dict[tuple[int, int], _Walked] = {}
        self._left: dict[int, int] = {}
        self._left_in_total = 0

    def of_threads(
        self, proc: str, processes: Iterable[ProcessEntry]
    ) -> dict[Identity, tuple[int, int]]:
        """The network namespaces of threads other than the main one, as pid and thread.

        Begins a new walk.
        """
        self._left = {}
        self._left_in_total = _IN_TOTAL
        found: dict[Identity, tuple[int, int]] = {}
        for process in processes:
            if process.threads <= 1:
                continue
            for thread in self._threads(proc, process):
                with suppress(OSError):
                    status = os.stat(f"{proc}/{process.pid}/task/{thread}/ns/net")
                    found.setdefault((status.st_dev, status.st_ino), (process.pid, thread))
        return found

    def _threads(self, proc: str, process: ProcessEntry) -> list[int]:
        """The further threads of a process; as many as may be read, chosen at random."""
        with suppress(OSError):
            threads = [
                int(name)
                for name in os.listdir(f"{proc}/{process.pid}/task")
                if name.isdigit() and int(name) != process.pid
            ]
            allowed = min(len(threads), self._allowed(process.uid))
            self._spend(process.uid, allowed)
            return sorted(random.sample(threads, allowed) if allowed < len(threads) else threads)
        return []

    def of_descriptors(
        self, proc: str, processes: Iterable[ProcessEntry], device: int
    ) -> dict[Identity, str]:
        """The network namespaces that a descriptor keeps, with its path. device: of nsfs.

        Takes part in the bounds of the walk that of_threads began. A path may have come to lead
        elsewhere: compare the identity when you open it.
        """
        now = self._clock()
        before, self._walked = self._walked, {}
        due: list[ProcessEntry] = []
        for process in processes:
            known = before.get((process.pid, process.task))
            if known is not None:
                self._walked[process.pid, process.task] = known
            if known is None or known.next or now - known.at >= _FRESH_S:
                due.append(process)
        due.sort(key=lambda process: before.get((process.pid, process.task), _NEVER).at)
        for process in due:
            self._walk(proc, process, device, now)
        found: dict[Identity, str] = {}
        for walked in self._walked.values():
            for identity, path in walked.found.items():
                found.setdefault(identity, path)
        return found

    def _walk(self, proc: str, process: ProcessEntry, device: int, now: float) -> None:
        key = process.pid, process.task
        start = self._walked.get(key, _NEVER).next
        # Of the round that is going on, or nothing.
        found = dict(self._walked[key].found) if start else {}
        for directory in _tables(proc, process):
            end = self._read_table(directory, start, process.uid, device, found)
            start = 0
            if end:
                self._walked[key] = _Walked(now, end, found)
                return
        self._walked[key] = _Walked(now, 0, found)

    def _read_table(
        self, directory: str, start: int, uid: int, device: int, found: dict[Identity, str]
    ) -> int:
        """Read a table of descriptors. Returns the descriptor to go on with; 0: the table ended."""
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return 0
        allowed, read = self._allowed(uid), 0
        try:
            if start:
                os.lseek(descriptor, start + _FIRST_POSITION, os.SEEK_SET)
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if read >= allowed:
                        return int(entry.name)
                    read += 1
                    try:
                        link = os.readlink(entry.name, dir_fd=descriptor)
                    except OSError:
                        continue
                    # As ns_dname in fs/nsfs.c writes it. Paths start with a slash.
                    if link.startswith("net:[") and link[5:-1].isdigit():
                        found.setdefault((device, int(link[5:-1])), f"{directory}/{entry.name}")
        except OSError:
            # The process has ended.
            return 0
        finally:
            os.close(descriptor)
            self._spend(uid, read)
        return 0

    def _allowed(self, uid: int) -> int:
        """How many threads and descriptors of a user this walk may still read."""
        left = self._left_in_total
        return left if uid == 0 else min(left, self._left.setdefault(uid, _PER_USER))

    def _spend(self, uid: int, count: int) -> None:
        self._left_in_total -= count
        if uid != 0:
            self._left[uid] -= count


_NEVER = _Walked(float("-inf"), 0, {})


def _tables(proc: str, process: ProcessEntry) -> Iterator[str]:
    """The descriptor tables of a process: of the main thread, and of threads with their own."""
    base = f"{proc}/{process.pid}"
    if process.threads <= 1:
        yield f"{base}/fd"
        return
    leader = live_thread(proc, process.pid)
    yield f"{base}/fd" if leader is None else f"{base}/task/{leader}/fd"
    for thread in threads_with_own_descriptors(proc, process.pid):
        yield f"{base}/task/{thread}/fd"
