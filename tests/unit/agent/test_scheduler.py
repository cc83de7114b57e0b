# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The times of passes, for any history of events and any CPU time of the passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.scheduler import COOLDOWN_FACTOR, DEBOUNCE_S, Scheduler

_RESYNC_S = 30.0
_gaps = st.floats(0.0, 40.0, allow_nan=False)
_cpu_times = st.floats(0.0, 3.0, allow_nan=False)


@given(st.lists(st.tuples(_gaps, _cpu_times), max_size=60))
def test_events_are_handled_within_a_tenth_of_a_core(
    history: list[tuple[float, float]],
) -> None:
    """history: seconds between two events, and the CPU time of each pass."""
    scheduler = Scheduler(_RESYNC_S)
    cpu_times = iter([cpu_s for _gap, cpu_s in history])
    now = cpu_total_s = longest = 0.0
    pending: list[float] = []
    last_pass = 0.0

    def run_pass() -> None:
        """Run a pass now, which handles all pending events."""
        nonlocal now, cpu_total_s, last_pass, longest
        assert now - last_pass <= max(_RESYNC_S, COOLDOWN_FACTOR * longest) + 1e-6
        for event in pending:
            assert now - event <= DEBOUNCE_S + (COOLDOWN_FACTOR + 1) * longest + 1e-6
        pending.clear()
        cpu_s = next(cpu_times, 0.0)
        longest = max(longest, cpu_s)
        now += cpu_s
        cpu_total_s += cpu_s
        last_pass = now
        scheduler.on_reconciled(now)
        scheduler.charge_cpu(now, cpu_s)

    def until(end: float) -> None:
        nonlocal now
        while True:
            if pending and scheduler.accepts_events(now):
                scheduler.on_event(now)
            wait = scheduler.until_next_pass_s(now)
            if not wait:
                run_pass()
                continue
            step = min(wait, scheduler.cooldown_s(now) or wait)
            if now + step > end:
                break
            now += step
        now = max(now, end)

    run_pass()
    for gap, _cpu_s in history:
        until(now + gap)
        pending.append(now)
        if scheduler.accepts_events(now):
            scheduler.on_event(now)
    until(now + _RESYNC_S + (COOLDOWN_FACTOR + 1) * longest + 1)
    assert not pending
    assert cpu_total_s <= 0.1 * (now + COOLDOWN_FACTOR * longest) + 1e-6


def test_pass_is_due_at_the_start_and_at_the_earliest_request() -> None:
    scheduler = Scheduler(_RESYNC_S)
    assert scheduler.until_next_pass_s(5.0) == 0.0
    scheduler.on_reconciled(5.0)
    assert scheduler.until_next_pass_s(5.0) == _RESYNC_S
    scheduler.schedule_at(9.0)
    scheduler.schedule_at(12.0)
    assert scheduler.until_next_pass_s(5.0) == 4.0
    assert scheduler.until_next_pass_s(10.0) == 0.0
    scheduler.charge_cpu(10.0, 0.5)
    assert not scheduler.accepts_events(10.0)
    assert scheduler.until_next_pass_s(10.0) == COOLDOWN_FACTOR * 0.5 == scheduler.cooldown_s(10.0)
    assert scheduler.accepts_events(10.0 + COOLDOWN_FACTOR * 0.5)


def test_slow_reload_delays_the_next_reload_but_no_pass() -> None:
    scheduler = Scheduler(_RESYNC_S)
    assert scheduler.reload_cooldown_s(0.0) == 0.0
    scheduler.on_reconciled(1.0)
    scheduler.charge_cpu(1.0, 0.75, 0.5)
    assert scheduler.cooldown_s(1.0) == COOLDOWN_FACTOR * 0.25
    assert scheduler.reload_cooldown_s(1.0) == COOLDOWN_FACTOR * 0.75
    # Passes in between do not extend the delay.
    scheduler.charge_cpu(2.0, 0.5)
    assert scheduler.reload_cooldown_s(2.0) == COOLDOWN_FACTOR * 0.75 - 1.0
