# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler: CPU time of passes, of listening and of policy reloads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.scheduler import Scheduler, Task, max_pass_gap_s
from linuxnet_sockets.agent.token_bucket import BURST_S
from linuxnet_sockets.agent.work_queue import MAX_WAIT_S, Reason

HERE, THERE = (4, 1), (4, 2)


def test_key_is_due_at_its_time() -> None:
    scheduler = Scheduler(30.0)
    assert scheduler.until_next_key_s(5.0) == float("inf")
    scheduler.queue.add(HERE, 9.0, Reason.TIMER)
    scheduler.queue.add(Task.DISCOVERY, 7.0, Reason.TIMER)
    assert scheduler.until_next_key_s(5.0) == 2.0
    assert scheduler.next_key(6.9) is None
    assert scheduler.next_key(7.0) is Task.DISCOVERY
    scheduler.resync_later(THERE, 7.0)
    assert scheduler.next_key(9.0) == HERE
    assert scheduler.until_next_key_s(9.0) == 28.0
    assert scheduler.next_key(37.0) == THERE


def test_used_cpu_time_delays_keys_two_seconds_at_most() -> None:
    scheduler = Scheduler(30.0)
    scheduler.charge_cpu(10.0, BURST_S + 0.05)
    scheduler.queue.add(HERE, 10.0, Reason.EVENT)
    scheduler.queue.add(THERE, 10.0, Reason.RESYNC)
    assert scheduler.until_next_key_s(10.0) == pytest.approx(0.5)
    scheduler.charge_cpu(10.0, 60.0)
    assert scheduler.next_key(11.9) is None
    assert scheduler.until_next_key_s(10.0) == pytest.approx(MAX_WAIT_S)
    assert scheduler.next_key(12.0) == HERE
    assert scheduler.next_key(12.0) is None
    assert scheduler.next_key(26.0) == THERE


def test_slow_reload_delays_the_next_reload_but_no_pass() -> None:
    scheduler = Scheduler(30.0)
    scheduler.queue.add(HERE, 0.0, Reason.EVENT)
    assert scheduler.reload_wait_s(0.0) == 0.0
    scheduler.charge_cpu(1.0, 2.0, 2.0)
    assert scheduler.next_key(1.0) == HERE
    assert scheduler.reload_wait_s(1.0) > 10


@given(st.lists(st.tuples(st.floats(0.0, 0.01), st.floats(0.0, 0.02)), max_size=200))
def test_listening_costs_a_fortieth_of_a_core(readings: list[tuple[float, float]]) -> None:
    """readings: how long after the end of the rest an event comes, and the CPU time to read it."""
    scheduler = Scheduler(30.0)
    now = used_s = longest_s = 0.0
    for gap_s, cpu_s in readings:
        cpu_s = min(cpu_s, 0.0025)
        now += scheduler.listen_rest_s(now) + gap_s + cpu_s
        used_s += cpu_s
        longest_s = max(longest_s, cpu_s)
        scheduler.on_listened(now, cpu_s)
        assert scheduler.listen_rest_s(now) <= 0.1
    assert used_s <= now / 40 + longest_s + 1e-6


def test_idle_work_leaves_cpu_time_for_events() -> None:
    scheduler = Scheduler(30.0)
    assert scheduler.idle_wait_s(0.0) == 0.0
    scheduler.charge_cpu(0.0, 0.4)
    assert scheduler.idle_wait_s(0.0) == pytest.approx(1.0)


def test_longest_time_between_two_passes() -> None:
    assert max_pass_gap_s(30.0) == 120.0
