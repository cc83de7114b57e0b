# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RateLimiter on a clock that only sleeping and working advance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.destroy.rate_limit import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds

    def limiter(self, per_second: float | None) -> RateLimiter:
        return RateLimiter(per_second, monotonic=self.monotonic, sleep=self.sleep)


def test_no_limit_yields_all_items_at_once() -> None:
    clock = Clock()
    assert list(clock.limiter(None).slices([1, 2, 3])) == [[1, 2, 3]]
    assert clock.slept == []


def test_no_items_take_no_time() -> None:
    clock = Clock()
    assert list(clock.limiter(5).slices([])) == []
    assert list(clock.limiter(None).slices([])) == []
    assert clock.slept == []


def test_slice_has_the_items_of_a_tenth_of_a_second() -> None:
    clock = Clock()
    assert [len(part) for part in clock.limiter(100).slices(range(35))] == [10, 10, 10, 5]
    assert clock.slept == pytest.approx([0.1, 0.1, 0.1])


def test_low_rate_yields_single_items() -> None:
    clock = Clock()
    assert [len(part) for part in clock.limiter(0.5).slices(range(3))] == [1, 1, 1]
    assert clock.slept == pytest.approx([2.0, 2.0])


def test_first_slice_does_not_wait() -> None:
    clock = Clock()
    assert next(clock.limiter(1).slices(["a", "b"])) == ["a"]
    assert clock.slept == []


def test_rate_holds_over_several_calls() -> None:
    clock = Clock()
    limiter = clock.limiter(2)
    list(limiter.slices(["a"]))
    list(limiter.slices(["b"]))
    assert clock.slept == pytest.approx([0.5])


def test_lost_time_is_not_made_up_for() -> None:
    clock = Clock()
    starts: list[float] = []
    for _part in clock.limiter(10).slices(range(4)):
        starts.append(clock.now)
        if len(starts) == 1:
            clock.now += 5
    gaps = [later - earlier for earlier, later in zip(starts, starts[1:])]
    assert gaps == pytest.approx([5.0, 0.1, 0.1])


@given(st.floats(0.01, 100_000), st.integers(1, 500))
def test_rate_is_never_exceeded_and_no_item_is_lost(rate: float, count: int) -> None:
    clock = Clock()
    done: list[int] = []
    start = clock.now
    for part in clock.limiter(rate).slices(range(count)):
        # The items before this slice fit into the time since the start.
        assert len(done) <= (clock.now - start) * rate + 1e-3
        done += part
    assert done == list(range(count))
