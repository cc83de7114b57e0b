# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the agent looks: any history of events, and however long its looks take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.scheduler import REST, SETTLE_S, Cadence

_RESYNC_S = 30.0
_gaps = st.floats(0.0, 40.0, allow_nan=False)
_works = st.floats(0.0, 3.0, allow_nan=False)


@given(st.lists(st.tuples(_gaps, _works), max_size=60))
def test_no_event_is_missed_and_a_tenth_of_a_core_is_kept(
    history: list[tuple[float, float]],
) -> None:
    """Each event comes a while after the one before; each look takes its processor time."""
    cadence = Cadence(_RESYNC_S)
    works = iter([work for _gap, work in history])
    now = spent = longest = 0.0
    not_evaluated: list[float] = []
    last_look = 0.0

    def look() -> None:
        """Begins now; what happened before is seen by it."""
        nonlocal now, spent, last_look, longest
        assert now - last_look <= max(_RESYNC_S, REST * longest) + 1e-6
        for each in not_evaluated:
            assert now - each <= SETTLE_S + (REST + 1) * longest + 1e-6
        not_evaluated.clear()
        work = next(works, 0.0)
        longest = max(longest, work)
        now += work
        spent += work
        last_look = now
        cadence.looked(now)
        cadence.worked(now, work)

    def until(end: float) -> None:
        nonlocal now
        while True:
            if not_evaluated and cadence.listens(now):
                cadence.heard(now)
            wait = cadence.wait_s(now)
            if not wait:
                look()
                continue
            step = min(wait, cadence.rest_s(now) or wait)
            if now + step > end:
                break
            now += step
        now = max(now, end)

    look()
    for gap, _work in history:
        until(now + gap)
        not_evaluated.append(now)
        if cadence.listens(now):
            cadence.heard(now)
    until(now + _RESYNC_S + (REST + 1) * longest + 1)
    assert not not_evaluated
    assert spent <= 0.1 * (now + REST * longest) + 1e-6


def test_a_look_is_due_at_the_start_and_at_the_earliest_wish() -> None:
    cadence = Cadence(_RESYNC_S)
    assert cadence.wait_s(5.0) == 0.0
    cadence.looked(5.0)
    assert cadence.wait_s(5.0) == _RESYNC_S
    cadence.want(9.0)
    cadence.want(12.0)
    assert cadence.wait_s(5.0) == 4.0
    assert cadence.wait_s(10.0) == 0.0
    cadence.worked(10.0, 0.5)
    assert not cadence.listens(10.0)
    assert cadence.wait_s(10.0) == REST * 0.5 == cadence.rest_s(10.0)
    assert cadence.listens(10.0 + REST * 0.5)


def test_a_policy_that_takes_long_to_read_makes_the_next_one_wait_and_no_look() -> None:
    cadence = Cadence(_RESYNC_S)
    assert cadence.reading_rest_s(0.0) == 0.0
    cadence.looked(1.0)
    cadence.worked(1.0, 0.75, 0.5)
    assert cadence.rest_s(1.0) == REST * 0.25
    assert cadence.reading_rest_s(1.0) == REST * 0.75
    # Looks meanwhile make it wait for no longer.
    cadence.worked(2.0, 0.5)
    assert cadence.reading_rest_s(2.0) == REST * 0.75 - 1.0
