# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: spreads work evenly over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_LONGEST_SLICE = 0.1


class Pace:
    """At most so many items a second, over all calls; None is no limit.

    Items go in slices of a tenth of a second's worth, or one by one where that is less than one.
    A slice that takes longer than its share of time delays the next; nothing is caught up with.
    """

    def __init__(
        self,
        per_second: float | None,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._not_before: float | None = None

    def slices(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Parts of the items, in order, each when its time has come."""
        if self._per_second is None:
            if items:
                yield items
            return
        size = max(1, int(self._per_second * _LONGEST_SLICE))
        for start in range(0, len(items), size):
            part = items[start : start + size]
            now = self._monotonic()
            if self._not_before is not None and now < self._not_before:
                self._sleep(self._not_before - now)
                now = max(self._monotonic(), self._not_before)
            self._not_before = now + len(part) / self._per_second
            yield part
