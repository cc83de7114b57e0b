# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: how many sockets were destroyed of late, for the policy's limit.

It is one count for all rules, and it is kept for longer than the limit of the day asks for: a
policy with another limit, a longer time above all, finds there what was destroyed under the one
before it.
"""

from __future__ import annotations

from typing import NamedTuple

from .model import Limits

# As long as the time of a limit can be (parse._LONGEST_MS): what is older counts for none.
KEPT_MS = 24 * 3_600_000
# The time of a limit is cut into at least so many parts; what was destroyed in one counts as
# destroyed at its end. So the memory is bounded, and the limit holds for any stretch of time.
_PARTS = 32
# Where a part ends at the latest, after the moment that it is for.
LONGEST_PART_MS = KEPT_MS // _PARTS
# What is older than that time is kept less and less exactly, and never taken for older than it is.
_OLDER_PARTS = 4
# Of parts in all; beyond it the two oldest become one. Twice what one limit's time needs.
MOST_PARTS = 128


class Kept(NamedTuple):
    """What has to outlive whoever counts. Milliseconds of the clock that he counts by.

    parts: the end of each part of time, and how many were destroyed in it. unknown_ms: what was
    destroyed up to then is not known; None: it is.
    """

    parts: tuple[tuple[int, int], ...] = ()
    unknown_ms: int | None = None


class Spent:
    """What was destroyed within the time of the limits, at most `limits.per_ms` ago."""

    def __init__(self, limits: Limits, kept: Kept = Kept()) -> None:  # noqa: B008 - immutable
        self.limits = limits
        self._parts: dict[int, int] = dict(kept.parts)
        self._unknown_ms = kept.unknown_ms

    def kept(self) -> Kept:
        return Kept(tuple(sorted(self._parts.items())), self._unknown_ms)

    def count(self, now_ms: int) -> int:
        """As many as the limits allow, at least, where it is not known how many."""
        oldest = now_ms - self.limits.per_ms
        known = sum(count for end, count in self._parts.items() if end > oldest)
        if self.unknown_till_ms(now_ms) is None:
            return known
        return max(known, self.limits.max_sockets)

    def unknown_till_ms(self, now_ms: int) -> int | None:
        """When enough is known again to destroy anything; None: it is."""
        if self._unknown_ms is None or self._unknown_ms + self.limits.per_ms <= now_ms:
            return None
        return self._unknown_ms + self.limits.per_ms

    def add(self, now_ms: int, count: int) -> None:
        """So many are about to be destroyed."""
        if count:
            self._tidy(now_ms)
            end = self._end(now_ms)
            self._parts[end] = self._parts.get(end, 0) + count

    def give_back(self, at_ms: int, count: int) -> None:
        """So many of those that add(at_ms, ...) told of last were not destroyed after all."""
        end = self._end(at_ms)
        if end in self._parts:
            self._parts[end] = max(0, self._parts[end] - count)

    def room_ms(self, now_ms: int, wanted: int) -> int | None:
        """When so many more may be destroyed, if none is before; None: never at once."""
        if wanted > self.limits.max_sockets:
            return None
        room = self.unknown_till_ms(now_ms) or now_ms
        oldest = now_ms - self.limits.per_ms
        counted = sorted(each for each in self._parts.items() if each[0] > oldest)
        left = sum(count for _end, count in counted)
        for end, count in counted:
            if left + wanted <= self.limits.max_sockets:
                break
            left -= count
            room = max(room, end + self.limits.per_ms)
        return room

    def _end(self, now_ms: int) -> int:
        length = _grid(self.limits.per_ms // _PARTS)
        return (now_ms // length + 1) * length

    def _tidy(self, now_ms: int) -> None:
        """Forget what counts for no limit, and put together what is old."""
        tidied: dict[int, int] = {}
        for end, count in sorted(self._parts.items()):
            beyond = now_ms - self.limits.per_ms - end
            if count and now_ms - end < KEPT_MS:
                # Rounded up, but never to where it would count for the present limit again.
                length = _grid(beyond // _OLDER_PARTS)
                rounded = -(-end // length) * length
                tidied[rounded] = tidied.get(rounded, 0) + count
        ends = sorted(tidied)
        for old, newer in zip(ends, ends[1 : max(1, len(ends) - MOST_PARTS + 2)]):
            tidied[newer] += tidied.pop(old)
        self._parts = tidied


def _grid(length: int) -> int:
    """The largest power of two that is no longer, at least 1: what is rounded up to one grid, and
    then to another, is where the wider of them alone would have put it."""
    return 1 << (max(1, length).bit_length() - 1)
