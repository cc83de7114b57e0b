# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Rate limiting of work on a sequence of items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

# Seconds of work in one slice.
_MAX_SLICE = 0.1


class RateLimiter:
    """A limit of items per second, over all calls. per_second: None: no limit.

    A slice has the items of a tenth of a second, or one item if that is less than one. A slice that
    takes longer than its time delays the next. Lost time is not made up for.
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
        """Yield the items in order, in slices, each when it is due. Sleeps in between."""
        if self._per_second is None:
            if items:
                yield items
            return
        size = max(1, int(self._per_second * _MAX_SLICE))
        for start in range(0, len(items), size):
            part = items[start : start + size]
            now = self._monotonic()
            if self._not_before is not None and now < self._not_before:
                self._sleep(self._not_before - now)
                now = max(self._monotonic(), self._not_before)
            self._not_before = now + len(part) / self._per_second
            yield part
