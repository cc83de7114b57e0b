# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The token bucket of CPU time, for any history of charges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.token_bucket import BURST_S, RATE, TokenBucket

_gaps = st.floats(0.0, 40.0, allow_nan=False)
_cpu_times = st.floats(0.0, 3.0, allow_nan=False)


@given(st.lists(st.tuples(_gaps, _cpu_times), max_size=60))
def test_work_with_balance_uses_a_tenth_of_a_core_and_a_burst(
    history: list[tuple[float, float]],
) -> None:
    """Work that starts only with a positive balance, and that may take longer than it."""
    bucket = TokenBucket()
    now = 100.0
    used: list[tuple[float, float]] = []
    for gap_s, cpu_s in history:
        now += gap_s
        if bucket.balance_s(now) > 0:
            # Work as long as a full bucket is not charged completely.
            cpu_s = min(cpu_s, BURST_S)
            now += cpu_s
            bucket.charge(now, cpu_s)
            used.append((now, cpu_s))
    for index in range(len(used)):
        window = used[index:]
        began = window[0][0] - window[0][1]
        overdraft_s = max(cpu_s for _ended, cpu_s in window)
        total_s = sum(cpu_s for _ended, cpu_s in window)
        assert total_s <= BURST_S + overdraft_s + RATE * (now - began) + 1e-6


@given(st.lists(st.tuples(_gaps, _cpu_times), max_size=30), st.floats(-0.5, 1.0))
def test_level_is_reached_after_the_predicted_wait(
    history: list[tuple[float, float]], level_s: float
) -> None:
    bucket = TokenBucket()
    now = 0.0
    for gap_s, cpu_s in history:
        now += gap_s
        bucket.charge(now, cpu_s)
        assert -BURST_S <= bucket.balance_s(now) <= BURST_S
    wait_s = bucket.until_s(now, level_s)
    assert bucket.balance_s(now + wait_s) >= level_s - 1e-6
    if wait_s > 1e-3:
        assert bucket.balance_s(now + wait_s / 2) < level_s


def test_new_bucket_is_full_and_debt_is_limited() -> None:
    bucket = TokenBucket()
    assert bucket.balance_s(7.0) == BURST_S
    bucket.charge(7.0, 0.4)
    assert bucket.balance_s(7.0) == pytest.approx(0.6)
    assert bucket.balance_s(9.0) == pytest.approx(0.8)
    bucket.charge(9.0, 100.0)
    assert bucket.balance_s(9.0) == -BURST_S
    assert bucket.until_s(9.0, 0.0) == pytest.approx(BURST_S / RATE)


def test_clock_that_steps_back_adds_nothing() -> None:
    bucket = TokenBucket()
    bucket.charge(10.0, 0.5)
    assert bucket.balance_s(5.0) == pytest.approx(0.5)
