# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was destroyed counts for any stretch of time, over other limits and other agents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.policy.budget import KEPT_MS, LONGEST_PART_MS, MOST_PARTS, Kept, Spent
from linuxnet_sockets.policy.model import Limits

_PERS = st.sampled_from([1_000, 7_777, 60_000, 3_600_000, 86_400_000])
# How much later, the new time of the limits or None, whether another agent takes over, how many.
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
def test_no_stretch_of_time_has_more_than_the_limit_of_its_end(
    per_ms: int, steps: list[tuple[int, int | None, bool, int]]
) -> None:
    """However the limits change, whoever counts, and whatever was given back."""
    spent = Spent(Limits(5, per_ms))
    now, destroyed = 10_000_000, list[tuple[int, int]]()
    for later, other, restarted, back in steps:
        now += later
        if other is not None:
            spent.limits = Limits(5, other)
        if restarted:
            spent = Spent(spent.limits, spent.kept())
        per_ms = spent.limits.per_ms
        room = max(0, 5 - spent.count(now))
        spent.add(now, room)
        returned = min(back, room)
        spent.give_back(now, returned)
        destroyed.append((now, room - returned))
        if room:
            assert sum(count for at, count in destroyed if at > now - per_ms) <= 5
        # And what is held back is not held back for ever.
        free = spent.room_ms(now, 5)
        assert free is not None
        assert spent.count(free) == 0
        oldest = [at for at, count in destroyed if count and at > now - KEPT_MS]
        assert free <= max([now, *(at + per_ms + LONGEST_PART_MS for at in oldest)])
    assert len(spent.kept().parts) <= MOST_PARTS


@given(st.integers(1, 3_000), st.sampled_from([1_000, 60_000, 86_400_000]))
def test_its_memory_is_bounded_and_nothing_is_lost_from_it(step_ms: int, per_ms: int) -> None:
    spent = Spent(Limits(10**9, per_ms))
    for number in range(3_000):
        spent.add(number * step_ms, 1)
    assert len(spent.kept().parts) <= MOST_PARTS
    spent.limits = Limits(10**9, KEPT_MS)
    assert spent.count(3_000 * step_ms) == 3_000


def test_what_is_old_does_not_come_back_to_count_for_the_same_limit() -> None:
    """Paced for an hour, two each ten seconds: never more than the grain later."""
    spent = Spent(Limits(2, 10_000))
    now = 0
    for _each in range(360):
        spent.add(now, 2)
        free = spent.room_ms(now, 1)
        assert free is not None
        assert 10_000 < free - now <= 10_000 + 10_000 // 32
        now = free


def test_what_is_not_known_counts_as_all_that_the_limits_allow() -> None:
    spent = Spent(Limits(2, 1_000), Kept(unknown_ms=5_000))
    assert spent.count(5_999) == 2
    assert spent.room_ms(5_500, 1) == spent.unknown_till_ms(5_500) == 6_000
    assert spent.count(6_000) == 0
    assert spent.unknown_till_ms(6_000) is None
    spent.limits = Limits(3, 2_000)
    assert spent.count(6_000) == 3
    assert Spent(spent.limits, spent.kept()).count(6_999) == 3
