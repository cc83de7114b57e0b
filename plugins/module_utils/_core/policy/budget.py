# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Destroy budget: how many sockets `limits` still allow to destroy.

All rules share one budget. It remembers destroyed sockets for longer than the present limits need,
so that a reloaded policy with a longer `per` counts them too.
"""

from __future__ import annotations

from typing import NamedTuple

from .model import MAX_DURATION_MS, Limits

# The longest possible `per`: older entries count for no limits.
RETENTION_MS = MAX_DURATION_MS
# `per` is divided into at least this many intervals. All sockets that are destroyed in one interval
# count as destroyed at its end. This bounds the memory, and never lets more sockets through.
_INTERVALS = 32
# An interval ends at most this long after the time that it was opened for.
MAX_INTERVAL_MS = RETENTION_MS // _INTERVALS
# Entries older than `per` are merged into intervals of their age divided by this number.
_AGE_DIVISOR = 4
# Beyond this number the two oldest entries are merged. One `per` needs half of it at most.
MAX_ENTRIES = 128


class BudgetSnapshot(NamedTuple):
    """The state of a budget, to persist across restarts. Milliseconds of CLOCK_MONOTONIC.

    entries: (end of the interval, number of sockets destroyed in it). unknown_until_ms: an unknown
    number of sockets was destroyed up to this time; None: the entries are complete.
    """

    entries: tuple[tuple[int, int], ...] = ()
    unknown_until_ms: int | None = None


class DestroyBudget:
    """Counts the sockets destroyed in the last `limits.per_ms` milliseconds."""

    def __init__(
        self,
        limits: Limits,
        snapshot: BudgetSnapshot = BudgetSnapshot(),  # noqa: B008 - immutable
    ) -> None:
        self.limits = limits
        self._entries: dict[int, int] = dict(snapshot.entries)
        self._unknown_until_ms = snapshot.unknown_until_ms

    def snapshot(self) -> BudgetSnapshot:
        return BudgetSnapshot(tuple(sorted(self._entries.items())), self._unknown_until_ms)

    def count(self, now_ms: int) -> int:
        """Sockets destroyed within `per_ms`; at least `max_sockets` while the count is unknown."""
        start = now_ms - self.limits.per_ms
        known = sum(count for end, count in self._entries.items() if end > start)
        if self.unknown_until_ms(now_ms) is None:
            return known
        return max(known, self.limits.max_sockets)

    def unknown_until_ms(self, now_ms: int) -> int | None:
        """When the unknown period no longer counts; None: the count is known."""
        if self._unknown_until_ms is None:
            return None
        until_ms = self._unknown_until_ms + self.limits.per_ms
        return until_ms if until_ms > now_ms else None

    def add(self, now_ms: int, count: int) -> None:
        """Charge sockets that are about to be destroyed."""
        if count:
            self._compact(now_ms)
            end = self._interval_end(now_ms)
            self._entries[end] = self._entries.get(end, 0) + count

    def refund(self, at_ms: int, count: int) -> None:
        """Undo part of the last add(at_ms, ...): these sockets were not destroyed after all."""
        end = self._interval_end(at_ms)
        if end in self._entries:
            self._entries[end] = max(0, self._entries[end] - count)

    def available_at_ms(self, now_ms: int, count: int) -> int | None:
        """When the budget allows `count` sockets, if none is added before then; None: never."""
        if count > self.limits.max_sockets:
            return None
        available = self.unknown_until_ms(now_ms) or now_ms
        start = now_ms - self.limits.per_ms
        counted = sorted(entry for entry in self._entries.items() if entry[0] > start)
        used = sum(destroyed for _end, destroyed in counted)
        for end, destroyed in counted:
            if used + count <= self.limits.max_sockets:
                break
            used -= destroyed
            available = max(available, end + self.limits.per_ms)
        return available

    def _interval_end(self, now_ms: int) -> int:
        length = _interval_length(self.limits.per_ms // _INTERVALS)
        return (now_ms // length + 1) * length

    def _compact(self, now_ms: int) -> None:
        """Drop entries that count for no limits, and merge old ones."""
        merged: dict[int, int] = {}
        for end, count in sorted(self._entries.items()):
            age = now_ms - self.limits.per_ms - end
            if count and now_ms - end < RETENTION_MS:
                # Rounded up: an entry never counts as older than it is. The length depends on the
                # age, so that rounding never moves an entry back into the present `per`.
                length = _interval_length(age // _AGE_DIVISOR)
                rounded = -(-end // length) * length
                merged[rounded] = merged.get(rounded, 0) + count
        ends = sorted(merged)
        for older, newer in zip(ends, ends[1 : max(1, len(ends) - MAX_ENTRIES + 2)]):
            merged[newer] += merged.pop(older)
        self._entries = merged


def _interval_length(length: int) -> int:
    """The largest power of two up to a length, at least 1.

    With powers of two, rounding up to one length and then to a longer one gives the same end as
    rounding to the longer one at once.
    """
    return 1 << (max(1, length).bit_length() - 1)
