# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Idle work: read which processes hold which sockets, before an event asks for it.

A round lists all processes. It reads the tables of new processes, and those with another number of
descriptors than before. Then it reads the other tables again, in turn, until the next round.

A pass validates each remembered descriptor, and searches all processes for the rest. So an outdated
index costs time only.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable

from ..guard.owner_index import ALL_USERS_QUOTA, OwnerIndex
from ..host.processes import FdDirectory, process_numbers
from ..host.user_ids import root_ids

# The limit in CPU time per second.
_RATE = 0.003
# One step takes this long, and then a chunk of descriptors: reading one takes up to two
# microseconds.
_STEP_S = 0.003
_CHUNK = 1_024
_ROUND_S = 10.0
# Smaller tables are read in each round: opening the directory costs as much.
_SMALL = 16
# In one round and of one user who is not root, so that all others are read too.
_USER_LIMIT = ALL_USERS_QUOTA


class OwnerIndexer:
    """Keeps an index up to date. Implements IdleWork.

    proc: the directory of procfs. monotonic: the clock, in seconds. cpu_s: the CPU time used so
    far, in seconds.
    """

    def __init__(
        self,
        proc: str,
        index: OwnerIndex,
        monotonic: Callable[[], float],
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._proc = proc
        self._index = index
        self._monotonic = monotonic
        self._cpu_s = cpu_s
        # The number of descriptors when a table was last read, by pid.
        self._counts: dict[int, int] = {}
        self._unchecked: deque[int] = deque()
        # Tables to read again in turn. The others follow in the next round.
        self._unchanged: deque[int] = deque()
        self._later: list[int] = []
        # The table that is being read, and the first number that is unread.
        self._reading: tuple[int, int] | None = None
        # The first unread number of tables that a user's limit cut short, by pid.
        self._continue_at: dict[int, int] = {}
        # Descriptors read in this round, by user.
        self._read: Counter[int] = Counter()
        self._roots: frozenset[int] = frozenset()
        self._round_began = self._next_round = float("-inf")
        # Whether all processes were checked in this round.
        self._checked = False

    def step(self) -> float:
        """Read some descriptors; return the seconds until the next step."""
        now, began_s = self._monotonic(), self._cpu_s()
        if now >= self._next_round and not (self._unchecked or self._reading):
            self._begin_round(now)
        more = True
        while more and self._cpu_s() - began_s < _STEP_S:
            more = self._work()
        if not (self._checked or self._unchecked or self._reading):
            self._checked = True
            # Leave as much time for the unchanged tables as the check of all processes took.
            self._next_round = max(self._next_round, 2 * now - self._round_began)
        wait_s = (self._cpu_s() - began_s) / _RATE
        return wait_s if more else max(wait_s, self._next_round - now)

    def _begin_round(self, now: float) -> None:
        try:
            pids = process_numbers(self._proc)
        except OSError:
            pids = []
        present = set(pids)
        for known in (self._counts, self._continue_at):
            for pid in known.keys() - present:
                del known[pid]
        self._unchecked.extend(pids)
        self._unchanged.extend(self._later)
        self._unchanged = deque(dict.fromkeys(pid for pid in self._unchanged if pid in present))
        self._later.clear()
        self._read.clear()
        self._roots = root_ids(self._proc)
        self._round_began, self._next_round = now, now + _ROUND_S
        self._checked = False

    def _work(self) -> bool:
        """Check one process or read one chunk; return whether there was one."""
        if self._reading is not None:
            pid, first = self._reading
            self._reading = None
            self._read_table(pid, first, check=False)
        elif self._unchecked:
            self._read_table(self._unchecked.popleft(), 0, check=True)
        elif self._unchanged:
            self._read_table(self._unchanged.popleft(), 0, check=False)
        else:
            return False
        return True

    def _read_table(self, pid: int, first: int, *, check: bool) -> None:
        """Read a chunk of a table. check: not if it seems unchanged."""
        try:
            user = os.stat(f"{self._proc}/{pid}").st_uid
            with FdDirectory(self._proc, pid) as directory:
                count = directory.count
                if check and count > _SMALL and count == self._counts.get(pid):
                    self._later.append(pid)
                    return
                first = first or self._continue_at.pop(pid, 0)
                if user not in self._roots and self._read[user] >= _USER_LIMIT:
                    self._later.append(pid)
                    self._continue_at[pid] = first
                    return
                numbers, links = directory.read(first, _CHUNK)
        except OSError:
            # It has ended, or is unreadable.
            return
        self._counts[pid] = count
        self._read[user] += len(links)
        self._index.remember_all(pid, numbers, links)
        if len(numbers) >= _CHUNK:
            self._reading = pid, numbers[-1] + 1
