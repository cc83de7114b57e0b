# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: how many sockets were destroyed of late, for the policy's limit."""

from __future__ import annotations

from .document import Limits

# The time of a limit is cut into so many parts; what was destroyed in one counts as destroyed at
# its end. So the memory is bounded, and the limit holds for any window, wherever it begins.
_PARTS = 64


class Spent:
    """What was destroyed within the time of the limits, at most `limits.per_ms` ago."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        # The end of a part, and how many were destroyed in it; in order.
        self._parts: dict[int, int] = {}

    def _end(self, now_ms: int) -> int:
        length = max(1, self.limits.per_ms // _PARTS)
        return (now_ms // length + 1) * length

    def _forget(self, now_ms: int) -> None:
        oldest = now_ms - self.limits.per_ms
        self._parts = {end: count for end, count in self._parts.items() if end > oldest}

    def count(self, now_ms: int) -> int:
        self._forget(now_ms)
        return sum(self._parts.values())

    def add(self, now_ms: int, count: int) -> None:
        """So many are about to be destroyed."""
        if count:
            end = self._end(now_ms)
            self._parts[end] = self._parts.get(end, 0) + count

    def give_back(self, at_ms: int, count: int) -> None:
        """So many of those that add(at_ms, ...) told of were not destroyed after all."""
        end = self._end(at_ms)
        if end in self._parts:
            self._parts[end] = max(0, self._parts[end] - count)

    def room_ms(self, now_ms: int, wanted: int) -> int | None:
        """When so many more may be destroyed, if none is before; None: never at once."""
        if wanted > self.limits.max_sockets:
            return None
        left = self.count(now_ms)
        if left + wanted <= self.limits.max_sockets:
            return now_ms
        for end, count in sorted(self._parts.items()):
            left -= count
            if left + wanted <= self.limits.max_sockets:
                return end + self.limits.per_ms
        raise AssertionError("without anything spent there is room for as many as the limit says")
