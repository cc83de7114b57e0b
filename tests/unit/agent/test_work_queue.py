# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work queue: order, pace and waiting times, for any history of events."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.token_bucket import BURST_S, RATE, TokenBucket
from linuxnet_sockets.agent.work_queue import (
    DEBOUNCE_S,
    LATE_S,
    MAX_TIMER_REST_S,
    MAX_TIMER_WAIT_S,
    MAX_WAIT_S,
    REST_FACTOR,
    RESYNC_LEVEL_S,
    ROOT,
    Reason,
    WorkQueue,
)

_RESYNC_S = 30.0
_USER = 1500


def _plenty(_level_s: float) -> float:
    return 0.0


def _none(_level_s: float) -> float:
    return 60.0


class Simulation:
    """A queue that works whenever it can. costs: CPU seconds of a run, by key."""

    def __init__(self, costs: dict[str, float], owners: dict[str, int] | None = None) -> None:
        self.queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
        self.bucket = TokenBucket()
        self.costs = costs
        self.now = 0.0
        self.used_s = 0.0
        self.pending: dict[str, float] = {}
        self.waits: list[tuple[str, float]] = []
        self.runs: Counter[str] = Counter()
        for key, owner in (owners or {}).items():
            self.queue.set_owner(key, owner)

    def event(self, key: str) -> None:
        self.pending.setdefault(key, self.now)
        self.queue.add(key, self.now + DEBOUNCE_S, Reason.EVENT)

    def resync(self, key: str) -> None:
        self.queue.add(key, self.now, Reason.RESYNC)

    def _cpu_wait_s(self, level_s: float) -> float:
        return self.bucket.until_s(self.now, level_s)

    def until(self, end: float) -> None:
        while True:
            key = self.queue.take(self.now, self._cpu_wait_s)
            if key is None:
                wait_s = self.queue.until_s(self.now, self._cpu_wait_s)
                if wait_s is None or self.now + wait_s > end:
                    break
                self.now += max(wait_s, 1e-9)
                continue
            self._run(key)
        self.now = max(self.now, end)

    def _run(self, key: str) -> None:
        began, cpu_s = self.now, self.costs[key]
        if key in self.pending:
            self.waits.append((key, began - self.pending.pop(key)))
        self.now += cpu_s
        self.used_s += cpu_s
        self.runs[key] += 1
        self.bucket.charge(self.now, cpu_s)
        self.queue.ran(key, began, self.now, cpu_s)


_histories = st.lists(
    st.tuples(
        st.floats(0.0, 5.0),
        st.sampled_from(["host", "root-1", "root-2", "user-1", "user-2"]),
        st.sampled_from(["event", "resync"]),
    ),
    max_size=60,
)
_OWNERS = {"user-1": _USER, "user-2": _USER}


@given(_histories, st.floats(0.0001, 0.4))
def test_urgent_keys_of_root_wait_two_seconds_at_most(
    history: list[tuple[float, str, str]], cpu_s: float
) -> None:
    simulation = Simulation(dict.fromkeys(["host", "root-1", "root-2", *_OWNERS], cpu_s), _OWNERS)
    for gap_s, key, kind in history:
        simulation.until(simulation.now + gap_s)
        (simulation.event if kind == "event" else simulation.resync)(key)
    simulation.until(simulation.now + 600)
    assert not simulation.pending
    assert simulation.queue.until_s(simulation.now, _plenty) is None
    for key, wait_s in simulation.waits:
        if key not in _OWNERS:
            # The runs of the other keys come before it, one of a user among them.
            assert wait_s <= MAX_WAIT_S + DEBOUNCE_S + 5 * cpu_s + 1e-6


@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=200), st.floats(0.0005, 0.2))
def test_flood_in_one_namespace_costs_a_tenth_of_a_core(gaps: list[float], cpu_s: float) -> None:
    simulation = Simulation({"host": cpu_s})
    for gap_s in gaps:
        simulation.until(simulation.now + gap_s)
        simulation.event("host")
    simulation.until(simulation.now + MAX_WAIT_S + 1)
    # The rests double up to the longest one. That many runs are free.
    assert simulation.used_s <= RATE * simulation.now + 13 * cpu_s
    assert simulation.used_s <= BURST_S + RATE * simulation.now + 2 * cpu_s


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=100))
def test_collapsed_events_run_once(gaps: list[float]) -> None:
    queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
    for gap_s in gaps:
        queue.add("host", gap_s, Reason.EVENT)
        queue.add("host", gap_s, Reason.RESYNC)
    assert queue.take(1.0, _plenty) == "host"
    assert queue.take(100.0, _plenty) is None
    assert queue.until_s(100.0, _plenty) is None


def test_single_events_are_handled_at_once() -> None:
    simulation = Simulation({"host": 0.2})
    for at in (0.0, 10.0, 20.0, 20.3):
        simulation.until(at)
        simulation.event("host")
    simulation.until(30.0)
    assert [wait_s for _key, wait_s in simulation.waits] == pytest.approx([DEBOUNCE_S] * 4)


def test_user_with_many_namespaces_delays_root_by_one_run() -> None:
    users = {f"user-{number}": _USER for number in range(2_000)}
    simulation = Simulation({**dict.fromkeys(users, 0.002), "host": 0.002}, users)
    for key in users:
        simulation.resync(key)
    simulation.until(3.0)
    for round_number in range(200):
        # All of them have events, all the time.
        for key in users:
            simulation.event(key)
        simulation.until(simulation.now + 0.05)
        if not round_number % 40:
            simulation.event("host")
    simulation.until(simulation.now + 1)
    waits = [wait_s for key, wait_s in simulation.waits if key == "host"]
    assert len(waits) == 5
    assert max(waits) <= DEBOUNCE_S + 2 * 0.002 + 1e-6
    assert simulation.used_s <= BURST_S + RATE * simulation.now + 0.05
    assert simulation.queue.late(simulation.now + LATE_S)


def test_root_namespaces_come_before_those_of_a_user_in_a_resync() -> None:
    queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
    for number in range(100):
        queue.set_owner(f"user-{number}", _USER)
        queue.add(f"user-{number}", 0.0, Reason.RESYNC)
    for name in ("host", "container"):
        queue.add(name, 0.0, Reason.RESYNC)
    taken = [queue.take(0.0, _plenty) for _turn in range(4)]
    assert {"host", "container"} < set(taken)


def test_resync_that_waits_too_long_becomes_urgent() -> None:
    queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
    queue.add("host", 10.0, Reason.RESYNC)

    def no_resync(level_s: float) -> float:
        return 60.0 if level_s >= RESYNC_LEVEL_S else 0.0

    assert queue.take(10.0, no_resync) is None
    assert queue.until_s(10.0, no_resync) == _RESYNC_S
    assert queue.take(10.0 + _RESYNC_S, no_resync) == "host"


def test_urgent_keys_come_before_the_resync() -> None:
    queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
    queue.add("resync", 0.0, Reason.RESYNC)
    queue.add("event", 1.0, Reason.EVENT)
    assert queue.take(1.0, _plenty) == "event"
    assert queue.take(1.0, _plenty) == "resync"


def test_without_cpu_time_root_waits_two_seconds_and_users_share_one_turn() -> None:
    queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
    for key, owner in (("a", ROOT), ("b", ROOT), ("c", _USER), ("d", _USER)):
        queue.set_owner(key, owner)
        queue.add(key, 0.0, Reason.EVENT)
    assert queue.take(1.9, _none) is None
    assert queue.until_s(1.5, _none) == pytest.approx(0.5)
    assert {queue.take(MAX_WAIT_S, _none) for _key in range(3)} == {"a", "b", "c"}
    assert queue.take(MAX_WAIT_S, _none) is None
    assert queue.until_s(MAX_WAIT_S, _none) == pytest.approx(MAX_WAIT_S)
    assert queue.take(2 * MAX_WAIT_S, _none) == "d"


def test_timers_are_not_delayed_by_a_flood_of_events() -> None:
    queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
    now = 0.0
    for _event in range(20):
        queue.add("host", now, Reason.EVENT)
        wait_s = queue.until_s(now, _plenty)
        assert wait_s is not None
        now += wait_s
        assert queue.take(now, _plenty) == "host"
        queue.ran("host", now, now + 0.1, 0.1)
        now += 0.1
    queue.add("host", now, Reason.EVENT)
    assert queue.until_s(now, _plenty) == pytest.approx(REST_FACTOR * 0.1)
    queue.add("host", now, Reason.TIMER)
    assert queue.until_s(now, _plenty) == pytest.approx(MAX_TIMER_REST_S)


def test_hold_that_expires_waits_half_a_second_for_cpu_time() -> None:
    queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
    queue.add("host", 10.0, Reason.EVENT)
    queue.add("host", 10.2, Reason.TIMER)
    assert queue.take(10.2 + MAX_TIMER_WAIT_S - 0.01, _none) is None
    assert queue.until_s(10.2, _none) == pytest.approx(MAX_TIMER_WAIT_S)
    assert queue.take(10.2 + MAX_TIMER_WAIT_S, _none) == "host"


def test_late_keys_are_named_with_their_age() -> None:
    queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
    queue.add("event", 10.0, Reason.EVENT)
    queue.add("resync", 0.0, Reason.RESYNC)
    assert queue.late(15.0) == {}
    assert queue.late(20.0) == {"event": 10.0}
    assert queue.late(40.0) == {"event": 30.0, "resync": 10.0}


def test_forgotten_key_is_not_taken() -> None:
    queue: WorkQueue[str] = WorkQueue(_RESYNC_S)
    queue.add("gone", 0.0, Reason.EVENT)
    queue.add("gone", 0.0, Reason.RESYNC)
    queue.forget("gone")
    assert queue.take(1.0, _plenty) is None
    # A namespace that reuses the identity.
    queue.add("gone", 2.0, Reason.EVENT)
    assert queue.take(1.0, _plenty) is None
    assert queue.take(2.0, _plenty) == "gone"
