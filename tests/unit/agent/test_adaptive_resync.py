# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""More frequent passes while new connections violate rules."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.adaptive_resync import next_interval_s
from tests.support.fake_machine import connection
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Harness

AT_ONCE = rule(hold=0)


def intervals(appeared: list[bool], resync_s: float = 30.0) -> list[float]:
    found = [resync_s]
    for each in appeared:
        found.append(next_interval_s(found[-1], resync_s, appeared=each))
    return found[1:]


def test_interval_shrinks_at_once_and_grows_back() -> None:
    assert intervals([True, True, False, True]) == [1, 1, pytest.approx(1.1), 1]
    assert intervals([False, False]) == [30, 30]
    quiet = intervals([True] + [False] * 40)
    elapsed = list(itertools.accumulate(quiet))
    (ten_seconds,) = [index for index, at in enumerate(elapsed) if at <= 10][-1:]
    assert quiet[ten_seconds] == pytest.approx(2, abs=0.3)
    (five_minutes,) = [index for index, at in enumerate(elapsed) if at <= 300][-1:]
    assert quiet[five_minutes] > 25
    assert quiet[-1] == 30


@given(st.lists(st.booleans()), st.floats(1, 3600))
def test_interval_is_within_its_bounds(appeared: list[bool], resync_s: float) -> None:
    assert all(1 <= interval <= resync_s for interval in intervals(appeared, resync_s))


def test_short_connections_are_found_once_one_was(harness: Harness) -> None:
    """A connection of 1.5 s every 4.7 s; without events, the agent looks every 30 s."""
    harness.write(AT_ONCE)
    harness.run_for()
    numbers = itertools.count(10_000)
    lived: list[bool] = []

    def connect() -> None:
        # Of one destination, the agent destroys less and less often.
        number = next(numbers)
        sock = harness.machine.add(connection(local_port=number, remote_port=number))
        harness.run_for(1.5)
        lived.append(sock in harness.machine.sockets.sockets)
        if lived[-1]:
            harness.machine.sockets.remove(sock)
        harness.run_for(3.2)

    for _each in range(60):
        connect()
    # The first that a resync meets, and all after it.
    first = lived.index(False)
    assert first < 40
    assert not any(lived[first:])
    harness.run_for(400)
    passes = harness.agent.state.passes
    harness.run_for(600)
    # Quiet again: every 30 s.
    assert harness.agent.state.passes - passes <= 600 / 30 + 1


def test_no_more_passes_without_cpu_time_to_spare(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    monkeypatch.setattr(harness.agent.scheduler, "idle_wait_s", lambda _now: 0.1)
    passes = harness.agent.state.passes
    for port in range(4):
        harness.machine.add(connection(local_port=10_000 + port))
        harness.run_for(30)
    assert harness.agent.state.passes - passes <= 5


@pytest.mark.parametrize("action", ["report", "protected"])
def test_violations_that_stay_do_not_cost_more_passes(harness: Harness, action: str) -> None:
    if action == "report":
        harness.write(rule(hold=0, action="report"))
    else:
        harness.write(AT_ONCE, protect={"selectors": [{"remote_port": 443}]})
    harness.run_for()
    passes = harness.agent.state.passes
    for port in range(20):
        harness.machine.add(connection(local_port=10_000 + port))
        harness.run_for(30)
    assert harness.agent.state.passes - passes <= 22
