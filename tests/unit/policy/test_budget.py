# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The destroy budget holds for any window, across changes of limits and restarts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.policy.budget import (
    MAX_ENTRIES,
    MAX_INTERVAL_MS,
    RETENTION_MS,
    BudgetSnapshot,
    DestroyBudget,
)
from linuxnet_sockets.policy.model import Limits

_PERS = st.sampled_from([1_000, 7_777, 60_000, 3_600_000, 86_400_000])
# Milliseconds since the last step, a new `per` or None, whether the agent restarts, refunds.
_STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 40, 900, 1_000, 30_000, 61_000, 3_000_000, 50_000_000]),
        st.one_of(st.none(), _PERS),
        st.booleans(),
        st.integers(0, 4),
    ),
    max_size=60,
)


@given(_PERS, _STEPS)
def test_budget_holds_for_every_window(
    per_ms: int, steps: list[tuple[int, int | None, bool, int]]
) -> None:
    """Whatever limits change, restarts and refunds happen."""
    budget = DestroyBudget(Limits(5, per_ms))
    now, destroyed = 10_000_000, list[tuple[int, int]]()
    for later, other, restarted, back in steps:
        now += later
        if other is not None:
            budget.limits = Limits(5, other)
        if restarted:
            budget = DestroyBudget(budget.limits, budget.snapshot())
        per_ms = budget.limits.per_ms
        room = max(0, 5 - budget.count(now))
        budget.add(now, room)
        returned = min(back, room)
        budget.refund(now, returned)
        destroyed.append((now, room - returned))
        if room:
            assert sum(count for at, count in destroyed if at > now - per_ms) <= 5
        # The budget becomes available again.
        free = budget.available_at_ms(now, 5)
        assert free is not None
        assert budget.count(free) == 0
        oldest = [at for at, count in destroyed if count and at > now - RETENTION_MS]
        assert free <= max([now, *(at + per_ms + MAX_INTERVAL_MS for at in oldest)])
    assert len(budget.snapshot().entries) <= MAX_ENTRIES


@given(st.integers(1, 3_000), st.sampled_from([1_000, 60_000, 86_400_000]))
def test_memory_is_bounded_and_count_is_complete(step_ms: int, per_ms: int) -> None:
    budget = DestroyBudget(Limits(10**9, per_ms))
    for number in range(3_000):
        budget.add(number * step_ms, 1)
    assert len(budget.snapshot().entries) <= MAX_ENTRIES
    budget.limits = Limits(10**9, RETENTION_MS)
    assert budget.count(3_000 * step_ms) == 3_000


def test_compaction_does_not_extend_the_window() -> None:
    """Paced for an hour: never more than the length of an interval later."""
    budget = DestroyBudget(Limits(2, 10_000))
    now = 0
    for _each in range(360):
        budget.add(now, 2)
        free = budget.available_at_ms(now, 1)
        assert free is not None
        assert 10_000 < free - now <= 10_000 + 10_000 // 32
        now = free


def test_unknown_count_uses_up_the_budget() -> None:
    budget = DestroyBudget(Limits(2, 1_000), BudgetSnapshot(unknown_until_ms=5_000))
    assert budget.count(5_999) == 2
    assert budget.available_at_ms(5_500, 1) == budget.unknown_until_ms(5_500) == 6_000
    assert budget.count(6_000) == 0
    assert budget.unknown_until_ms(6_000) is None
    budget.limits = Limits(3, 2_000)
    assert budget.count(6_000) == 3
    assert DestroyBudget(budget.limits, budget.snapshot()).count(6_999) == 3
