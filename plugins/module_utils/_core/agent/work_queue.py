# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Work queue: which network namespace to reconcile next, and when.

As in a Kubernetes controller, equal keys collapse: a key says where something changed, not what.
Pure: every time is an argument, in seconds of a monotonic clock.

Urgent keys (an event, a hold that expires) come before those of the resync. Within a class, owners
take turns, so that the namespaces of one user do not delay those of others.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

# The delay after an event. An address change comes with several route changes.
DEBOUNCE_S = 0.001
# An urgent key of root waits at most this long for CPU time: after an event, and before something
# that is due at a known time, such as a hold. So does one key of each other owner.
MAX_WAIT_S = 2.0
MAX_TIMER_WAIT_S = 0.5
# A key is late if it waits this long after it should have been taken.
LATE_S = 5.0
# While events continue, a key rests up to this many times the CPU time of its last run.
REST_FACTOR = 14
# The longest rest before something that is due at a known time.
MAX_TIMER_REST_S = 0.1
# How much CPU time must be left to take a key: an urgent one of root, an urgent one of another
# owner, one of the resync. The rest is reserved for the classes before.
ROOT_LEVEL_S = 0.0
OTHERS_LEVEL_S = 0.3
RESYNC_LEVEL_S = 0.5

# The uid that owns the namespaces of the host and of its services.
ROOT = 0
# Above this number of owners, those without due keys are forgotten.
_MAX_IDLE_TURNS = 64

_NEVER = float("inf")

K = TypeVar("K", bound=Hashable)
# The seconds until this much CPU time is left.
CpuWait = Callable[[float], float]


class Reason(Enum):
    """Why a key is added. EVENT: something changed there. TIMER: something is due at that time,
    such as a hold. RESYNC: the key was not reconciled for a while."""

    EVENT = "event"
    TIMER = "timer"
    RESYNC = "resync"


@dataclass
class _Entry:
    """A key in the queue.

    urgent_at, resync_at: when it may be taken. since: when the first urgent reason came up.
    deadline: when it is taken even without CPU time. urgent, resync: the numbers of its valid items
    in the heaps; 0: there is none.
    """

    urgent_at: float = 0.0
    since: float = 0.0
    deadline: float = 0.0
    resync_at: float = 0.0
    urgent: int = 0
    resync: int = 0


class _Pace(NamedTuple):
    """The last run of a key: its end, the rest after it, and the longest rest."""

    ended: float
    rest_s: float
    longest_s: float


@dataclass
class _Turn(Generic[K]):
    """The due keys of one owner: heaps of (deadline, number, key) and (due since, number, key).

    served: the number of the last key taken. forced_at: when one was last taken without CPU time.
    """

    urgent: list[tuple[float, int, K]] = field(default_factory=list)
    resync: list[tuple[float, int, K]] = field(default_factory=list)
    served: int = 0
    forced_at: float = float("-inf")


class WorkQueue(Generic[K]):
    """Keys to reconcile. resync_s: the interval of the resync.

    A key of the resync that waits for longer than that, and than LATE_S, becomes urgent.
    """

    def __init__(self, resync_s: float) -> None:
        self._overdue_s = max(resync_s, LATE_S)
        self._numbers = itertools.count(1)
        self._entries: dict[K, _Entry] = {}
        self._paces: dict[K, _Pace] = {}
        self._owners: dict[K, int] = {}
        self._turns: dict[int, _Turn[K]] = {}
        # (time, number, key) of entries that are not due, and of resyncs that become urgent.
        self._future: list[tuple[float, int, K]] = []

    def set_owner(self, key: K, owner: int) -> None:
        """Set the uid that owns a key, before the key is added. Without one, root owns it."""
        self._owners[key] = owner

    def add(self, key: K, at: float, reason: Reason) -> None:
        """Enqueue a key for a time. Of several times of one key, the earliest counts."""
        entry = self._entries.setdefault(key, _Entry())
        if reason is not Reason.RESYNC:
            longest_s = MAX_TIMER_WAIT_S if reason is Reason.TIMER else MAX_WAIT_S
            self._add_urgent(key, entry, at, at + longest_s, self._rested_at(key, reason))
        elif not entry.resync or at < entry.resync_at:
            entry.resync_at, entry.resync = at, self._schedule(at, key)

    def _add_urgent(
        self, key: K, entry: _Entry, since: float, deadline: float, rested_at: float
    ) -> None:
        at = max(since, rested_at)
        if not entry.urgent:
            entry.urgent_at, entry.since, entry.deadline = at, since, deadline
        elif at >= entry.urgent_at and deadline >= entry.deadline:
            return
        else:
            entry.urgent_at = min(at, entry.urgent_at)
            entry.since = min(since, entry.since)
            entry.deadline = min(deadline, entry.deadline)
        entry.urgent = self._schedule(entry.urgent_at, key)

    def _schedule(self, at: float, key: K) -> int:
        number = next(self._numbers)
        heapq.heappush(self._future, (at, number, key))
        return number

    def _rested_at(self, key: K, reason: Reason) -> float:
        pace = self._paces.get(key)
        if pace is None:
            return float("-inf")
        if reason is Reason.TIMER:
            return pace.ended + min(pace.longest_s, MAX_TIMER_REST_S)
        return pace.ended + pace.rest_s

    def ran(self, key: K, began: float, ended: float, cpu_s: float) -> None:
        """Record a run of a key, to pace the next ones.

        After a single event, the next one is handled at once. While events continue, the key rests
        for longer each time, so that a flood costs a tenth of a core at most.
        """
        pace = self._paces.get(key)
        longest_s = min(REST_FACTOR * cpu_s, MAX_WAIT_S)
        rest_s = 0.0
        if pace is not None and began - pace.ended <= 2 * pace.longest_s:
            rest_s = min(max(2 * pace.rest_s, DEBOUNCE_S), longest_s)
        self._paces[key] = _Pace(ended, rest_s, longest_s)

    def forget(self, key: K) -> None:
        """Remove a key that no longer exists."""
        self._entries.pop(key, None)
        self._paces.pop(key, None)
        self._owners.pop(key, None)

    def take(self, now: float, cpu_wait_s: CpuWait) -> K | None:
        """Remove and return the key to reconcile now; None: there is none, or no CPU time.

        All reasons to reconcile the key are done with it, later ones too: add them again after its
        run.
        """
        self._collect_due(now)
        for urgent in (True, False):
            allowed = [
                turn
                for owner, turn in self._turns.items()
                if self._wait_s(owner, turn, urgent, now, cpu_wait_s) <= 0
            ]
            if allowed:
                turn = min(allowed, key=lambda each: each.served)
                _since, _number, key = heapq.heappop(turn.urgent if urgent else turn.resync)
                del self._entries[key]
                turn.served = next(self._numbers)
                if urgent and cpu_wait_s(OTHERS_LEVEL_S) > 0:
                    turn.forced_at = now
                return key
        return None

    def until_s(self, now: float, cpu_wait_s: CpuWait) -> float | None:
        """Return the seconds until take() may return a key; None: the queue is empty."""
        self._collect_due(now)
        waits = [self._future[0][0] - now] if self._future else []
        for owner, turn in self._turns.items():
            for urgent in (True, False):
                waits.append(self._wait_s(owner, turn, urgent, now, cpu_wait_s))
        wait_s = min(waits, default=_NEVER)
        return None if wait_s == _NEVER else max(0.0, wait_s)

    def due(self, now: float) -> int:
        """Return the number of keys that may be taken now, or wait for CPU time."""
        return sum(
            bool(entry.urgent and entry.urgent_at <= now)
            or bool(entry.resync and entry.resync_at <= now)
            for entry in self._entries.values()
        )

    def late(self, now: float) -> dict[K, float]:
        """Return the keys that wait for too long, with the seconds since they should have run."""
        found = {}
        for key, entry in self._entries.items():
            since = min(
                entry.since if entry.urgent else _NEVER,
                entry.resync_at + self._overdue_s if entry.resync else _NEVER,
            )
            if now - since > LATE_S:
                found[key] = now - since
        return found

    def _collect_due(self, now: float) -> None:
        """Move what is due to the turns of its owner."""
        if len(self._turns) > _MAX_IDLE_TURNS:
            self._drop_idle_turns(now)
        while self._future and self._future[0][0] <= now:
            at, number, key = heapq.heappop(self._future)
            entry = self._entries.get(key)
            if entry is None:
                continue
            turn = self._turns.setdefault(self._owners.get(key, ROOT), _Turn())
            if number == entry.urgent:
                heapq.heappush(turn.urgent, (entry.deadline, number, key))
            elif number == entry.resync and at == entry.resync_at:
                heapq.heappush(turn.resync, (at, number, key))
                heapq.heappush(self._future, (at + self._overdue_s, number, key))
            elif number == entry.resync:
                self._add_urgent(key, entry, at, at + MAX_WAIT_S, at)

    def _drop_idle_turns(self, now: float) -> None:
        self._turns = {
            owner: turn
            for owner, turn in self._turns.items()
            if turn.urgent or turn.resync or now - turn.forced_at < MAX_WAIT_S
        }

    def _wait_s(
        self, owner: int, turn: _Turn[K], urgent: bool, now: float, cpu_wait_s: CpuWait
    ) -> float:
        """The seconds until the first due key of an owner may be taken; infinity: there is none."""
        deadline = self._first(turn.urgent if urgent else turn.resync, urgent)
        if deadline is None:
            return _NEVER
        if not urgent:
            return cpu_wait_s(RESYNC_LEVEL_S)
        if owner == ROOT:
            return min(cpu_wait_s(ROOT_LEVEL_S), deadline - now)
        deadline = max(deadline, turn.forced_at + MAX_WAIT_S)
        return min(cpu_wait_s(OTHERS_LEVEL_S), deadline - now)

    def _first(self, heap: list[tuple[float, int, K]], urgent: bool) -> float | None:
        """The time of the first valid item of a heap; None: there is none."""
        while heap:
            at, number, key = heap[0]
            entry = self._entries.get(key)
            if entry is not None and number == (entry.urgent if urgent else entry.resync):
                return at
            heapq.heappop(heap)
        return None
