# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Threads whose descriptors /proc/PID/fd does not show.

/proc/PID/fd shows the descriptors of the main thread. It is empty if that thread has ended, and
incomplete if another thread has a descriptor table of its own (CLONE_FILES of unshare(2)).
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Iterator

# The link count of /proc/PID/task is the number of threads and two (proc_task_getattr).
_LINKS_WITHOUT_THREADS = 2
# Descriptor tables of one process that others are compared with.
_MAX_TABLES = 64
_ENDED = (b"Z", b"X", b"x")

# kcmp(2): its number on each architecture, and the type of the comparison.
_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "ppc64le": 354, "s390x": 343}
_KCMP_FILES = 2


def live_thread(proc: str, pid: int) -> int | None:
    """A thread of a process whose main thread has ended; None: it has not, or all have ended."""
    tasks = f"{proc}/{pid}/task"
    try:
        if thread_count(proc, pid) == 1 or not _has_ended(f"{proc}/{pid}"):
            return None
        for number in _numbers(tasks):
            if number != pid and not _has_ended(f"{tasks}/{number}"):
                return number
    except OSError:
        pass
    return None


def thread_count(proc: str, pid: int) -> int:
    """The number of threads of a process; 0: it has ended."""
    try:
        return os.stat(f"{proc}/{pid}/task").st_nlink - _LINKS_WITHOUT_THREADS
    except OSError:
        return 0


def threads_with_own_descriptors(proc: str, pid: int, limit: int | None = None) -> Iterator[int]:
    """One thread for each further descriptor table of a process.

    limit: the number of threads to compare; None: all. Without kcmp(2), and beyond the first tables
    of a process, every thread counts: each may have a table of its own.
    """
    try:
        if thread_count(proc, pid) == 1:
            return
        numbers = _numbers(f"{proc}/{pid}/task")
    except OSError:
        return
    seen = [live_thread(proc, pid) or pid]
    for number in numbers[:limit]:
        if number in seen:
            continue
        # The number of comparisons stays proportional to the number of threads.
        if len(seen) < _MAX_TABLES:
            if any(_share_descriptors(number, other) for other in seen):
                continue
            seen.append(number)
        yield number


def _numbers(tasks: str) -> list[int]:
    return sorted(int(name) for name in os.listdir(tasks) if name.isdigit())


def _has_ended(path: str) -> bool:
    """Whether a thread has ended; its entry may remain. Raises OSError if there is none."""
    with open(f"{path}/stat", "rb") as stream:
        # proc_pid_stat(5): field 2, the command, may contain spaces and parentheses.
        return stream.read().rpartition(b")")[2].strip()[:1] in _ENDED


def _share_descriptors(first: int, second: int) -> bool:
    """Whether two threads have the same descriptor table; False if kcmp(2) does not work."""
    number = _KCMP.get(platform.machine())
    if number is None:
        return False
    arguments = (number, first, second, _KCMP_FILES, 0, 0)
    return bool(_libc().syscall(*map(ctypes.c_long, arguments)) == 0)


@functools.lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
