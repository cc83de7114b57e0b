# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: for how long sockets have violated a rule without a break.

Time counts from the end of the first look that shows a violation to the beginning of the last one.
Where a look could not be made, the time around it counts for nothing: it neither ends a hold nor
advances it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..host.namespaces import Identity

# What tells one socket from another: (protocol, cookie, local port, remote port, remote address).
# The cookie of a socket that its owner connects elsewhere stays, and it is another socket then.
Key = tuple[str, int, int, int, bytes]

MOST_HOLDS = 1 << 18

# Doubts end no hold any more of what each look has shown for so long.
PATIENCE_MS = 60_000


class Held(NamedTuple):
    """since_ms: when it was first seen. counted_ms: what had been counted when the present stretch
    of looks began, at from_ms."""

    since_ms: int
    counted_ms: int
    from_ms: int


@dataclass
class _Series:
    """The looks at one rule in one namespace."""

    began_ms: int
    ended_ms: int
    interrupted: bool = False
    doubtful: bool = False
    holds: dict[Key, Held] = field(default_factory=dict)

    def continues(self, began_ms: int, longest_gap_ms: int | None) -> bool:
        """Whether the time since the last look counts."""
        if self.interrupted:
            return False
        return longest_gap_ms is None or began_ms - self.ended_ms <= longest_gap_ms

    def doubts(self, held: Held, now_ms: int) -> bool:
        """Whether it may have been over for a moment since the last look."""
        return self.doubtful and now_ms - held.since_ms < PATIENCE_MS

    def stopped(self, held: Held, ended_ms: int) -> Held:
        """A hold whose stretch ended with the last look, and whose next one begins now."""
        counted = held.counted_ms + max(0, self.began_ms - held.from_ms)
        return Held(held.since_ms, counted, ended_ms)


class Holds:
    """What is kept from look to look: bounded by MOST_HOLDS; what does not fit never counts.

    longest_gap_ms: looks that are further apart say nothing of the time between them; None: they
    always do.
    """

    def __init__(self, longest_gap_ms: int | None) -> None:
        self._longest_gap_ms = longest_gap_ms
        self._series: dict[tuple[Identity, str], _Series] = {}

    def saw(
        self, namespace: Identity, rule: str, began_ms: int, ended_ms: int, keys: Collection[Key]
    ) -> int:
        """These sockets violate the rule at this look, and no others do; how many were new, but
        found no place."""
        name = namespace, rule
        before = self._series.get(name)
        series = self._series[name] = _Series(began_ms, ended_ms)
        room = MOST_HOLDS - sum(len(each.holds) for each in self._series.values())
        goes_on = before is not None and before.continues(began_ms, self._longest_gap_ms)
        untracked = 0
        for key in keys:
            held = None if before is None else before.holds.get(key)
            if held is None or before is None:
                held = Held(ended_ms, 0, ended_ms)
            elif before.doubts(held, ended_ms):
                held = Held(held.since_ms, 0, ended_ms)
            elif not goes_on:
                held = before.stopped(held, ended_ms)
            if len(series.holds) < room:
                series.holds[key] = held
            else:
                untracked += 1
        return untracked

    def missed(self, namespace: Identity, rule: str) -> None:
        """A look that was due could not be made."""
        series = self._series.get((namespace, rule))
        if series is not None:
            series.interrupted = True

    def interrupted(self) -> None:
        for series in self._series.values():
            series.interrupted = True

    def doubt(self) -> None:
        """Whatever was held may have been in order for a moment since the last looks."""
        for series in self._series.values():
            series.doubtful = True

    def keep(self, namespaces: Iterable[Identity], rules: Iterable[str]) -> None:
        """Forget all other namespaces and rules."""
        kept, named = set(namespaces), set(rules)
        self._series = {
            key: series
            for key, series in self._series.items()
            if key[0] in kept and key[1] in named
        }

    def keep_rules(self, rules: Iterable[str]) -> None:
        """Forget all other rules."""
        self.keep((identity for identity, _rule in self._series), rules)

    def get(self, namespace: Identity, rule: str, key: Key) -> Held | None:
        series = self._series.get((namespace, rule))
        return None if series is None else series.holds.get(key)

    def over_at_ms(self, namespace: Identity, rule: str, key: Key, hold_ms: int) -> int | None:
        """The hold is over for a look that begins then or later; None: nothing is held."""
        held = self.get(namespace, rule, key)
        return None if held is None else held.from_ms + max(0, hold_ms - held.counted_ms)

    def is_over(self, namespace: Identity, rule: str, key: Key, hold_ms: int) -> bool:
        """Whether the hold was over when the last look began."""
        series = self._series.get((namespace, rule))
        held = None if series is None else series.holds.get(key)
        if series is None or held is None:
            return False
        return held.counted_ms + max(0, series.began_ms - held.from_ms) >= hold_ms

    def would_be_over(
        self, namespace: Identity, rule: str, key: Key, hold_ms: int, began_ms: int
    ) -> bool:
        """Whether it would be for a look that begins then and shows the violation still."""
        series = self._series.get((namespace, rule))
        held = None if series is None else series.holds.get(key)
        if series is None or held is None:
            return hold_ms == 0
        if series.doubts(held, began_ms):
            return hold_ms == 0
        until = began_ms if series.continues(began_ms, self._longest_gap_ms) else series.began_ms
        return held.counted_ms + max(0, until - held.from_ms) >= hold_ms
