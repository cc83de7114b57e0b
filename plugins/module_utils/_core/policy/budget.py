# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Destroy budget: how many sockets `limits` still allow to destroy.

The sockets of each rule and user are counted together, and all sockets once more for the total. The
total remembers destroyed sockets for longer than the present limits need, so that a reloaded policy
with a longer `per` counts them too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .model import MAX_DURATION_MS, PACE, RULE_AND_USER, Limits

# The longest possible `per`: older entries count for no limits.
RETENTION_MS = MAX_DURATION_MS
# `per` is divided into at least this many intervals. All sockets that are destroyed in one interval
# count as destroyed at its end. This bounds the memory, and never lets more sockets through.
_INTERVALS = 32
_INTERVALS_OF_KEY = 4
# An interval ends at most this long after the time that it was opened for.
MAX_INTERVAL_MS = RETENTION_MS // _INTERVALS
MAX_KEY_INTERVAL_MS = RETENTION_MS // _INTERVALS_OF_KEY
# Entries older than `per` are merged into intervals of their age divided by this number.
_AGE_DIVISOR = 4
# Beyond this number the two oldest entries are merged. One `per` needs half of it at most.
MAX_ENTRIES = 128
# The number of rules and users that are counted separately. The others share one count: a user with
# many uids neither fills the memory nor gets a new budget.
MAX_KEYS = 1_024
# Intervals are up to twice as many as _INTERVALS_OF_KEY, since their length is a power of two.
MAX_KEY_COUNTS = (MAX_KEYS + 1) * (2 * _INTERVALS_OF_KEY + 1)


class BudgetKey(NamedTuple):
    """A rule and a user. uid: None: sockets without an owner, such as closed ones."""

    rule: str
    uid: int | None


# Stands for all keys beyond MAX_KEYS. No rule has this name.
OTHERS = BudgetKey("*", None)


class KeyCount(NamedTuple):
    """How many sockets of a rule and user were destroyed in an interval that ends at end_ms."""

    key: BudgetKey
    end_ms: int
    sockets: int


class BudgetSnapshot(NamedTuple):
    """The state of a budget, to persist across restarts. Milliseconds of CLOCK_MONOTONIC.

    entries: (end of the interval, number of sockets destroyed in it). unknown_until_ms: an unknown
    number of sockets was destroyed up to this time; None: the entries are complete. by_key: by rule
    and user, without those that `per` no longer covers.
    """

    entries: tuple[tuple[int, int], ...] = ()
    unknown_until_ms: int | None = None
    by_key: tuple[KeyCount, ...] = ()


class BudgetExceeded(NamedTuple):
    """More violations are due than the budget allows.

    due: violations, of one rule and user or of all. destroyed_in_window: sockets of these that were
    destroyed within limits.per_ms before. rule, uid: None for all rules and users; uid also for
    sockets without an owner. user: the name of uid, None if it has none.
    """

    due: int
    destroyed_in_window: int
    limits: Limits
    rule: str | None = None
    uid: int | None = None
    user: str | None = None

    @property
    def max_sockets(self) -> int:
        """The number that the limits allow within per_ms."""
        return self.limits.max_total if self.rule is None else self.limits.max_sockets


# How many rules and users that exceed the budget a result lists.
_MAX_EXCEEDED = 50


def exceeded_budget(exceeded: Sequence[BudgetExceeded]) -> dict[str, Any] | None:
    """The limits, and the rules and users that exceed them, as JSON; None: none does."""
    if not exceeded:
        return None
    limits = exceeded[0].limits
    # The total first, then the largest.
    first = sorted(exceeded, key=lambda each: (each.rule is not None, -each.due))[:_MAX_EXCEEDED]
    return {
        "max_sockets": limits.max_sockets,
        "per_ms": limits.per_ms,
        "on_excess": limits.on_excess,
        "scope": limits.scope,
        "total": limits.max_total,
        "exceeded": [
            {
                "rule": each.rule,
                "uid": each.uid,
                "user": each.user,
                "due": each.due,
                "destroyed_in_window": each.destroyed_in_window,
            }
            for each in first
        ],
    }


class Excluded(NamedTuple):
    """Why a violation is excluded. key: what exceeds its limit; None: the total.

    sockets: how many the limit must allow at once before the violation is destroyed.
    """

    key: BudgetKey | None
    sockets: int


class Allowance(NamedTuple):
    """What the budget allows. excluded: by position."""

    excluded: dict[int, Excluded]
    exceeded: tuple[BudgetExceeded, ...] = ()


class DestroyBudget:
    """Counts the sockets destroyed in the last `limits.per_ms` milliseconds."""

    def __init__(
        self,
        limits: Limits,
        snapshot: BudgetSnapshot = BudgetSnapshot(),  # noqa: B008 - immutable
    ) -> None:
        self.limits = limits
        self._all = _Window(dict(snapshot.entries))
        self._by_key: dict[BudgetKey, _Window] = {}
        for key, end_ms, count in snapshot.by_key:
            self._by_key.setdefault(key, _Window({})).entries[end_ms] = count
        self._unknown_until_ms = snapshot.unknown_until_ms

    def snapshot(self) -> BudgetSnapshot:
        return BudgetSnapshot(
            tuple(sorted(self._all.entries.items())),
            self._unknown_until_ms,
            tuple(
                KeyCount(key, *entry)
                for key, window in self._by_key.items()
                for entry in sorted(window.entries.items())
            ),
        )

    def count(self, now_ms: int) -> int:
        """Sockets destroyed within `per_ms`; at least the total while the count is unknown."""
        known = self._all.count(now_ms - self.limits.per_ms)
        if self.unknown_until_ms(now_ms) is None:
            return known
        return max(known, self.limits.max_total)

    def count_of(self, key: BudgetKey, now_ms: int) -> int:
        """Sockets of a rule and user destroyed within `per_ms`.

        For a key that is not counted separately: those of all such keys.
        """
        window = self._by_key.get(key) or self._by_key.get(OTHERS)
        return 0 if window is None else window.count(now_ms - self.limits.per_ms)

    def unknown_until_ms(self, now_ms: int) -> int | None:
        """When the unknown period no longer counts; None: the count is known."""
        if self._unknown_until_ms is None:
            return None
        until_ms = self._unknown_until_ms + self.limits.per_ms
        return until_ms if until_ms > now_ms else None

    def allow(self, due: Sequence[BudgetKey], now_ms: int) -> Allowance:
        """Decide which violations are excluded, by their positions in `due`, oldest first.

        Those of a rule and user that exceed `max_sockets` are excluded first. The others then share
        the total.
        """
        excluded: dict[int, Excluded] = {}
        exceeded: list[BudgetExceeded] = []
        if self.limits.scope == RULE_AND_USER:
            for key, positions in self._group(due, now_ms).items():
                used = self.count_of(key, now_ms)
                over = self._excess(positions, self.limits.max_sockets - used)
                if over:
                    count = 1 if self.limits.on_excess == PACE else len(positions)
                    excluded.update(dict.fromkeys(over, Excluded(key, count)))
                    counts = Counter(due[position] for position in positions)
                    exceeded += [
                        BudgetExceeded(counts[owner], used, self.limits, *owner)
                        for owner in dict.fromkeys(due[position] for position in over)
                    ]
        left = [position for position in range(len(due)) if position not in excluded]
        used = self.count(now_ms)
        over = self._excess(left, self.limits.max_total - used)
        if over:
            count = 1 if self.limits.on_excess == PACE else len(left)
            excluded.update(dict.fromkeys(over, Excluded(None, count)))
            exceeded.insert(0, BudgetExceeded(len(left), used, self.limits))
        return Allowance(excluded, tuple(exceeded))

    def _excess(self, positions: Sequence[int], remaining: int) -> Sequence[int]:
        """Which of the positions are excluded, as `on_excess` says: none, all, or the last ones."""
        if len(positions) <= remaining:
            return ()
        return positions[max(0, remaining) :] if self.limits.on_excess == PACE else positions

    def available_at_ms(self, now_ms: int, count: int, key: BudgetKey | None = None) -> int | None:
        """When a limit allows `count` sockets, if none is added before then; None: never.

        key: of a rule and user; None: of the total.
        """
        allowed = self.limits.max_total if key is None else self.limits.max_sockets
        if count > allowed:
            return None
        window = self._all if key is None else self._by_key.get(key, _Window({}))
        per_ms = self.limits.per_ms
        available = self.unknown_until_ms(now_ms) or now_ms
        counted = sorted(entry for entry in window.entries.items() if entry[0] > now_ms - per_ms)
        used = sum(destroyed for _end, destroyed in counted)
        for end, destroyed in counted:
            if used + count <= allowed:
                break
            used -= destroyed
            available = max(available, end + per_ms)
        return available

    def add(self, now_ms: int, keys: Mapping[BudgetKey, int]) -> None:
        """Charge sockets that are about to be destroyed."""
        count = sum(keys.values())
        if not count:
            return
        per_ms = self.limits.per_ms
        self._all.compact(now_ms, per_ms)
        self._all.add(_interval_end(now_ms, per_ms // _INTERVALS), count)
        self._forget(now_ms)
        end_ms = _interval_end(now_ms, per_ms // _INTERVALS_OF_KEY)
        for key, number in keys.items():
            if number:
                self._by_key.setdefault(self._counted_as(key), _Window({})).add(end_ms, number)

    def refund(self, at_ms: int, keys: Mapping[BudgetKey, int]) -> None:
        """Undo part of the last add(at_ms, ...): these sockets were not destroyed after all."""
        per_ms = self.limits.per_ms
        self._all.refund(_interval_end(at_ms, per_ms // _INTERVALS), sum(keys.values()))
        end_ms = _interval_end(at_ms, per_ms // _INTERVALS_OF_KEY)
        for key, number in keys.items():
            window = self._by_key.get(key) or self._by_key.get(OTHERS)
            if window is not None:
                window.refund(end_ms, number)

    def _counted_as(self, key: BudgetKey) -> BudgetKey:
        """The key itself, or OTHERS if it is not counted separately."""
        # While OTHERS counts sockets, some of them may be of this key.
        if key in self._by_key or (OTHERS not in self._by_key and len(self._by_key) < MAX_KEYS):
            return key
        return OTHERS

    def _group(self, due: Iterable[BudgetKey], now_ms: int) -> dict[BudgetKey, list[int]]:
        """The positions of violations that are counted together."""
        self._forget(now_ms)
        groups: dict[BudgetKey, list[int]] = {}
        free = MAX_KEYS - len(self._by_key)
        for position, key in enumerate(due):
            counted_as = self._counted_as(key)
            if counted_as not in self._by_key and counted_as not in groups:
                # As many new keys as add() has room for.
                counted_as = counted_as if free > 0 else OTHERS
                free -= 1
            groups.setdefault(counted_as, []).append(position)
        return groups

    def _forget(self, now_ms: int) -> None:
        """Drop the counts of keys that `per` no longer covers."""
        per_ms = self.limits.per_ms
        for window in self._by_key.values():
            window.coarsen(now_ms - per_ms, per_ms // _INTERVALS_OF_KEY)
        self._by_key = {key: window for key, window in self._by_key.items() if window.entries}


class _Window:
    """Numbers of destroyed sockets by the end of their interval, in milliseconds."""

    def __init__(self, entries: dict[int, int]) -> None:
        self.entries = entries

    def count(self, start_ms: int) -> int:
        """Sockets destroyed after `start_ms`."""
        return sum(count for end, count in self.entries.items() if end > start_ms)

    def add(self, end_ms: int, count: int) -> None:
        self.entries[end_ms] = self.entries.get(end_ms, 0) + count

    def refund(self, end_ms: int, count: int) -> None:
        if end_ms in self.entries:
            self.entries[end_ms] = max(0, self.entries[end_ms] - count)

    def coarsen(self, start_ms: int, length_ms: int) -> None:
        """Drop entries up to `start_ms`, and merge the others into intervals of this length."""
        merged: dict[int, int] = {}
        for end, count in self.entries.items():
            if count and end > start_ms:
                rounded = _rounded(end, length_ms)
                merged[rounded] = merged.get(rounded, 0) + count
        self.entries = merged

    def compact(self, now_ms: int, per_ms: int) -> None:
        """Drop entries that count for no limits, and merge old ones."""
        merged: dict[int, int] = {}
        for end, count in sorted(self.entries.items()):
            age = now_ms - per_ms - end
            if count and now_ms - end < RETENTION_MS:
                # Rounded up: an entry never counts as older than it is. The length depends on the
                # age, so that rounding never moves an entry back into the present `per`.
                rounded = _rounded(end, age // _AGE_DIVISOR)
                merged[rounded] = merged.get(rounded, 0) + count
        ends = sorted(merged)
        for older, newer in zip(ends, ends[1 : max(1, len(ends) - MAX_ENTRIES + 2)]):
            merged[newer] += merged.pop(older)
        self.entries = merged


def _interval_end(now_ms: int, length_ms: int) -> int:
    length = _interval_length(length_ms)
    return (now_ms // length + 1) * length


def _rounded(end_ms: int, length_ms: int) -> int:
    """The end of an interval, rounded up to a multiple of another length."""
    length = _interval_length(length_ms)
    return -(-end_ms // length) * length


def _interval_length(length: int) -> int:
    """The largest power of two up to a length, at least 1.

    With powers of two, rounding up to one length and then to a longer one gives the same end as
    rounding to the longer one at once.
    """
    return 1 << (max(1, length).bit_length() - 1)
