# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The destroy budget holds for any window, across changes of limits and restarts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.policy import budget as budgets
from linuxnet_sockets.policy.budget import (
    MAX_ENTRIES,
    MAX_INTERVAL_MS,
    MAX_KEY_COUNTS,
    MAX_KEYS,
    RETENTION_MS,
    BudgetKey,
    BudgetSnapshot,
    DestroyBudget,
)
from linuxnet_sockets.policy.model import MAX_SOCKETS, PACE, REFUSE, TOTAL, Limits

KEY = BudgetKey("a-rule", 1000)

_PERS = st.sampled_from([1_000, 7_777, 60_000, 3_600_000, 86_400_000])
_TIMES = st.sampled_from([0, 1, 40, 900, 1_000, 30_000, 61_000, 3_000_000, 50_000_000])
# Milliseconds since the last step, a new `per` or None, whether the agent restarts, refunds.
_STEPS = st.lists(
    st.tuples(_TIMES, st.one_of(st.none(), _PERS), st.booleans(), st.integers(0, 4)),
    max_size=60,
)


def _total(number: int, per_ms: int) -> Limits:
    return Limits(number, per_ms, scope=TOTAL)


@given(_PERS, _STEPS)
def test_budget_holds_for_every_window(
    per_ms: int, steps: list[tuple[int, int | None, bool, int]]
) -> None:
    """Whatever limits change, restarts and refunds happen."""
    budget = DestroyBudget(_total(5, per_ms))
    now, destroyed = 10_000_000, list[tuple[int, int]]()
    for later, other, restarted, back in steps:
        now += later
        if other is not None:
            budget.limits = _total(5, other)
        if restarted:
            budget = DestroyBudget(budget.limits, budget.snapshot())
        per_ms = budget.limits.per_ms
        room = max(0, 5 - budget.count(now))
        budget.add(now, {KEY: room})
        returned = min(back, room)
        budget.refund(now, {KEY: returned})
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


_KEYS = st.builds(
    BudgetKey, st.sampled_from(["one", "two"]), st.sampled_from([None, 0, 1500, 1501])
)
# Milliseconds since the last step, what is due, whether the agent restarts, refunds.
_PASSES = st.lists(
    st.tuples(_TIMES, st.lists(_KEYS, max_size=12), st.booleans(), st.integers(0, 3)), max_size=30
)


@given(
    _PASSES,
    st.sampled_from([1_000, 7_777, 3_600_000]),
    st.sampled_from([REFUSE, PACE]),
    st.sampled_from([2, 1_000]),
)
def test_limits_of_every_rule_and_user_hold(
    passes: list[tuple[int, list[BudgetKey], bool, int]],
    per_ms: int,
    on_excess: str,
    most_keys: int,
) -> None:
    """In any window: never more than max_sockets of one key, and never more than the total."""
    limits = Limits(3, per_ms, on_excess, total=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budgets, "MAX_KEYS", most_keys)
        budget = DestroyBudget(limits)
        now, destroyed = 10_000_000, list[tuple[int, BudgetKey]]()
        for later, due, restarted, back in passes:
            now += later
            if restarted:
                budget = DestroyBudget(limits, budget.snapshot())
            allowance = budget.allow(due, now)
            allowed = [due[at] for at in range(len(due)) if at not in allowance.excluded]
            _check_allowance(due, allowance, limits)
            budget.add(now, Counter(allowed))
            budget.refund(now, Counter(allowed[:back]))
            destroyed += [(now, key) for key in allowed[back:]]
            recent = [key for at, key in destroyed if at > now - per_ms]
            assert len(recent) <= 8
            assert all(count <= 3 for count in Counter(recent).values())
            assert len({each.key for each in budget.snapshot().by_key}) <= most_keys + 1
        # In the end, everything is available again.
        free = now + 3 * per_ms
        assert budget.allow([KEY] * 3, free) == ({}, ())


def _check_allowance(
    due: Sequence[BudgetKey], allowance: budgets.Allowance, limits: Limits
) -> None:
    """The excess names the excluded ones, and excludes all of a key or the last ones."""
    excluded = {due[position] for position in allowance.excluded}
    named = {BudgetKey(each.rule, each.uid) for each in allowance.exceeded if each.rule is not None}
    assert bool(allowance.excluded) == bool(allowance.exceeded)
    assert named <= excluded
    if len(named) == len(allowance.exceeded):
        assert named == excluded
    for key in excluded:
        kept = [
            position not in allowance.excluded for position, each in enumerate(due) if each == key
        ]
        assert kept == sorted(kept, reverse=True)
        assert limits.on_excess == PACE or not any(kept)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_excess_of_one_user_excludes_nothing_else(others: list[int]) -> None:
    limits = Limits(5, total=1_000)
    due = [BudgetKey("one", 1500)] * 501
    due += [BudgetKey("one", uid) for uid, count in enumerate(others) for _each in range(count)]
    due += [BudgetKey("two", 1500)]
    allowance = DestroyBudget(limits).allow(due, 1_000)
    assert set(allowance.excluded) == set(range(501))
    (excess,) = allowance.exceeded
    assert (excess.rule, excess.uid, excess.due, excess.max_sockets) == ("one", 1500, 501, 5)


def test_many_uids_get_no_new_budget_and_no_memory() -> None:
    """65,536 uids in turn, each with a full budget of its own as long as there is room."""
    limits = Limits(3, 60_000, total=MAX_SOCKETS)
    budget = DestroyBudget(limits)
    allowed = 0
    for number in range(0, 65_536, 512):
        due = [BudgetKey("one", uid) for uid in range(number, number + 512) for _each in range(3)]
        allowance = budget.allow(due, 1_000 + number)
        keys = Counter(key for at, key in enumerate(due) if at not in allowance.excluded)
        budget.add(1_000 + number, keys)
        allowed += sum(keys.values())
    # All of the last ones share one count.
    assert allowed <= 3 * (MAX_KEYS + 1)
    assert len(budget.snapshot().by_key) <= MAX_KEY_COUNTS
    again = DestroyBudget(limits, budget.snapshot())
    assert again.allow([BudgetKey("one", 65_535)] * 4, 60_000).excluded
    assert len(again.allow([BudgetKey("one", 1)], 60_000).excluded) == 1
    # They are forgotten when the window is over.
    assert again.allow([BudgetKey("one", 70_000)] * 3, 1_000_000).excluded == {}
    again.add(1_000_000, {BudgetKey("one", 70_000): 3})
    assert len(again.snapshot().by_key) == 1


@given(st.integers(1, 3_000), st.sampled_from([1_000, 60_000, 86_400_000]))
def test_memory_is_bounded_and_count_is_complete(step_ms: int, per_ms: int) -> None:
    budget = DestroyBudget(_total(10**9, per_ms))
    for number in range(3_000):
        budget.add(number * step_ms, {KEY: 1})
    assert len(budget.snapshot().entries) <= MAX_ENTRIES
    assert len(budget.snapshot().by_key) <= MAX_KEY_COUNTS // MAX_KEYS
    budget.limits = _total(10**9, RETENTION_MS)
    assert budget.count(3_000 * step_ms) == 3_000


def test_compaction_does_not_extend_the_window() -> None:
    """Paced for an hour: never more than the length of an interval later."""
    budget = DestroyBudget(_total(2, 10_000))
    now = 0
    for _each in range(360):
        budget.add(now, {KEY: 2})
        free = budget.available_at_ms(now, 1)
        assert free is not None
        assert 10_000 < free - now <= 10_000 + 10_000 // 32
        now = free


def test_unknown_count_uses_up_the_budget() -> None:
    budget = DestroyBudget(_total(2, 1_000), BudgetSnapshot(unknown_until_ms=5_000))
    assert budget.count(5_999) == 2
    assert budget.available_at_ms(5_500, 1) == budget.unknown_until_ms(5_500) == 6_000
    assert budget.count(6_000) == 0
    assert budget.unknown_until_ms(6_000) is None
    budget.limits = _total(3, 2_000)
    assert budget.count(6_000) == 3
    assert DestroyBudget(budget.limits, budget.snapshot()).count(6_999) == 3


def test_unknown_count_excludes_every_user() -> None:
    budget = DestroyBudget(Limits(2, 1_000), BudgetSnapshot(unknown_until_ms=5_000))
    allowance = budget.allow([KEY, BudgetKey("two", 0)], 5_500)
    assert set(allowance.excluded) == {0, 1}
    assert budget.available_at_ms(5_500, 2) == 6_000
    assert budget.allow([KEY], 6_000).excluded == {}
