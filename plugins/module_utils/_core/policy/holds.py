# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Hold times: how long sockets have violated a rule without interruption.

A hold counts from the end of the first evaluation that shows the violation to the start of the last
one. If an evaluation fails, the time between its neighbors does not count: the hold is paused, and
neither ends nor advances. All times are milliseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from ..host.namespaces import Identity

# Identifies a socket in its namespace: (protocol, cookie, local port, remote port, remote address).
# The cookie alone is not enough: a socket keeps it when its owner connects it to another peer.
Key = tuple[str, int, int, int, bytes]

# Whether a violation, first seen at a time, may have ceased since the last evaluation.
Doubted = Callable[[int], bool]

MAX_HOLDS = 1 << 18
# The share of one user, so that nobody takes the place of the holds of others.
MAX_HOLDS_PER_USER = 1 << 16

# Holds of violations that were first seen longer ago than this do not restart any more.
RESTART_WINDOW_MS = 60_000


class Hold(NamedTuple):
    """The hold of one socket under one rule.

    since_ms: when the violation was first seen. counted_ms: time counted before from_ms. from_ms:
    start of the present period without a gap.
    """

    since_ms: int
    counted_ms: int
    from_ms: int


@dataclass
class _Series:
    """The last evaluation of one rule in one namespace, and its holds.

    gap: the time until the next evaluation does not count. restart: the next evaluation restarts
    the holds, whatever happens before it. by_user: the number of holds by user.
    """

    began_ms: int
    ended_ms: int
    gap: bool = False
    restart: bool = False
    holds: dict[Key, Hold] = field(default_factory=dict)
    by_user: Counter[int | None] = field(default_factory=Counter)

    def continues(self, began_ms: int, max_gap_ms: int | None) -> bool:
        """Whether the time up to an evaluation that begins at `began_ms` counts."""
        if self.gap:
            return False
        return max_gap_ms is None or began_ms - self.ended_ms <= max_gap_ms

    def restarts(self, hold: Hold, now_ms: int, doubted: Doubted | None) -> bool:
        if now_ms - hold.since_ms >= RESTART_WINDOW_MS:
            return False
        return self.restart or (doubted is not None and doubted(hold.since_ms))

    def pause(self, hold: Hold, resumed_ms: int) -> Hold:
        """Leave out the time from the last evaluation to `resumed_ms`."""
        counted = hold.counted_ms + max(0, self.began_ms - hold.from_ms)
        return Hold(hold.since_ms, counted, resumed_ms)


class Holds:
    """Holds by namespace and rule. Tracks MAX_HOLDS and MAX_HOLDS_PER_USER; the rest never expire.

    max_gap_ms: if evaluations are further apart, the time between them does not count; None: it
    always counts.
    """

    def __init__(self, max_gap_ms: int | None) -> None:
        self._max_gap_ms = max_gap_ms
        self._series: dict[tuple[Identity, str], _Series] = {}
        # The number of holds in all series, and by user.
        self._count = 0
        self._by_user: Counter[int | None] = Counter()

    def observe(
        self,
        namespace: Identity,
        rule: str,
        began_ms: int,
        ended_ms: int,
        keys: Mapping[Key, int | None],
        doubted: Callable[[Key, int], bool] | None = None,
    ) -> int:
        """Record the sockets that violate a rule in an evaluation; other holds of the rule end.

        keys: each with the user in whose share it counts; None: it has none. doubted: for a key and
        the time at which it was first seen, whether its hold restarts.
        Returns the number of sockets that exceed MAX_HOLDS or the share of their user.
        """
        name = namespace, rule
        last = self._series.get(name)
        series = self._series[name] = _Series(began_ms, ended_ms)
        self._release(last)
        free = MAX_HOLDS - self._count
        continues = last is not None and last.continues(began_ms, self._max_gap_ms)
        untracked = 0
        for key, user in keys.items():
            hold = None if last is None else last.holds.get(key)
            if hold is None or last is None:
                hold = Hold(ended_ms, 0, ended_ms)
            elif last.restarts(hold, ended_ms, doubted and partial(doubted, key)):
                hold = Hold(hold.since_ms, 0, ended_ms)
            elif not continues:
                hold = last.pause(hold, ended_ms)
            used = self._by_user[user] + series.by_user[user]
            if len(series.holds) < free and used < MAX_HOLDS_PER_USER:
                series.holds[key] = hold
                series.by_user[user] += 1
            else:
                untracked += 1
        self._count += len(series.holds)
        self._by_user.update(series.by_user)
        return untracked

    def _release(self, series: _Series | None) -> None:
        """Free the places of the holds of a series."""
        if series is None:
            return
        self._count -= len(series.holds)
        for user, number in series.by_user.items():
            self._by_user[user] -= number
            if not self._by_user[user]:
                del self._by_user[user]

    def mark_gap(self, namespace: Identity, rule: str, *, restart: bool) -> None:
        """Record that an evaluation failed. restart: violations may have ceased before it."""
        series = self._series.get((namespace, rule))
        if series is not None:
            series.gap = True
            series.restart = series.restart or restart

    def mark_gaps(self) -> None:
        """Do not count the time up to the next evaluation of each rule in each namespace."""
        for series in self._series.values():
            series.gap = True

    def retain(self, namespaces: Iterable[Identity], rules: Iterable[str]) -> None:
        """Forget all other namespaces and rules."""
        identities, names = set(namespaces), set(rules)
        for name in list(self._series):
            if name[0] not in identities or name[1] not in names:
                self._release(self._series.pop(name))

    def forget(self, namespace: Identity, rules: Iterable[str]) -> None:
        """Forget these rules in a namespace."""
        for rule in rules:
            self._release(self._series.pop((namespace, rule), None))

    def retain_rules(self, rules: Iterable[str]) -> None:
        """Forget all other rules."""
        self.retain((identity for identity, _rule in self._series), rules)

    def count(self, namespace: Identity, rule: str) -> int:
        """The number of holds of a rule in a namespace."""
        series = self._series.get((namespace, rule))
        return 0 if series is None else len(series.holds)

    def get(self, namespace: Identity, rule: str, key: Key) -> Hold | None:
        series = self._series.get((namespace, rule))
        return None if series is None else series.holds.get(key)

    def expires_at_ms(self, namespace: Identity, rule: str, key: Key, hold_ms: int) -> int | None:
        """When an evaluation must begin at the earliest to find the hold expired; None: no hold."""
        hold = self.get(namespace, rule, key)
        return None if hold is None else hold.from_ms + max(0, hold_ms - hold.counted_ms)

    def expired(self, namespace: Identity, rule: str, key: Key, hold_ms: int) -> bool:
        """Whether the hold had expired when the last evaluation began."""
        series = self._series.get((namespace, rule))
        hold = None if series is None else series.holds.get(key)
        if series is None or hold is None:
            return False
        return hold.counted_ms + max(0, series.began_ms - hold.from_ms) >= hold_ms

    def would_expire(
        self,
        namespace: Identity,
        rule: str,
        key: Key,
        hold_ms: int,
        began_ms: int,
        doubted: Doubted | None = None,
    ) -> bool:
        """Whether an evaluation that begins then and shows the violation finds it expired."""
        series = self._series.get((namespace, rule))
        hold = None if series is None else series.holds.get(key)
        if series is None or hold is None or series.restarts(hold, began_ms, doubted):
            return hold_ms == 0
        end_ms = began_ms if series.continues(began_ms, self._max_gap_ms) else series.began_ms
        return hold.counted_ms + max(0, end_ms - hold.from_ms) >= hold_ms
