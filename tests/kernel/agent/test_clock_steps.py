# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wall clock is set a year forward or a day back, while the agent waits.

Only in a guest of tools/test-kernels. See agent/clocks.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, alive, policy
from tests.support import guest
from tests.support.guest import DAY_S
from tests.support.topologies.networks import UplinkConnection, Uplinks, ip
from tests.support.topologies.waiting import until

_GONE = {
    "name": "gone",
    "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone", "unroutable"]},
}
_FORWARD, _BACK = 365 * DAY_S, -DAY_S
_STEPS = pytest.mark.parametrize("step", [_FORWARD, _BACK], ids=["a year forward", "a day back"])
# The tolerance on an emulated CPU: the agent checks the pause and the trial every 10 s.
_LATE_S = 25.0


@pytest.fixture(autouse=True)
def _guest_clock() -> Iterator[None]:
    guest.require_guest()
    with guest.restored_clock():
        yield


def _lose_address(uplinks: Uplinks) -> None:
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")


def _wait_for_status(agent: RunningAgent, status: str) -> None:
    until(lambda: agent.status()["rules"][0][status] == 1, f"status {status}", seconds=10)


def _assert_alive_until(moment: float, connection: UplinkConnection) -> None:
    """moment: on CLOCK_MONOTONIC."""
    while time.monotonic() < moment:
        assert alive(connection.sock), f"destroyed {moment - time.monotonic():.2f} s too early"
        time.sleep(0.02)


def _wait_until_destroyed(connection: UplinkConnection, seconds: float) -> float:
    """Return the time of the destroy on CLOCK_MONOTONIC."""
    until(lambda: not alive(connection.sock), "destroyed", seconds=seconds)
    return time.monotonic()


@_STEPS
def test_hold_is_unaffected(uplinks: Uplinks, start_agent: StartAgent, step: float) -> None:
    violating, protected = uplinks.tcp(uplinks.service4), uplinks.tcp(uplinks.wlan4_gateway)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "5s"}))
    began = time.monotonic()
    _lose_address(uplinks)
    _wait_for_status(agent, "hold")
    held = time.monotonic()
    guest.step(step)
    _assert_alive_until(began + 5, violating)
    assert _wait_until_destroyed(violating, _LATE_S) < held + 5 + _LATE_S
    agent.wait_for_pass()
    assert alive(protected.sock)
    assert agent.destroyed() == {violating.cookie: "gone"}


@_STEPS
def test_pause_is_unaffected(uplinks: Uplinks, start_agent: StartAgent, step: float) -> None:
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    began = time.monotonic()
    assert agent.command("pause", "--for", "15s")[0] == 0
    ends = time.monotonic() + 15
    until(lambda: agent.status()["inhibited_by"] == "paused", "paused", seconds=10)
    guest.step(step)
    _lose_address(uplinks)
    _wait_for_status(agent, "inhibited")
    assert 0 < agent.status()["pause"]["remaining_s"] <= 15
    _assert_alive_until(began + 15, connection)
    assert _wait_until_destroyed(connection, _LATE_S) < ends + _LATE_S
    # The agent writes the status after the pass.
    until(lambda: agent.status()["pause"] is None, "pause ended in the status")


def test_clock_set_back_does_not_extend_a_trial(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """The agent enforces before the end, and destroys nothing after it."""
    before, after = uplinks.tcp(uplinks.service4), uplinks.tcp(uplinks.service6)
    agent = _start_on_trial(uplinks, start_agent, "20s")
    ends = time.monotonic() + 20
    guest.step(_BACK)
    _lose_address(uplinks)
    assert _wait_until_destroyed(before, 10) < ends
    assert agent.status()["inhibited_by"] is None
    until(
        lambda: agent.status()["inhibited_by"] == "unconfirmed",
        "trial expired",
        seconds=20 + _LATE_S,
    )
    assert time.monotonic() < ends + _LATE_S
    _assert_nothing_destroyed(uplinks, agent, after)


def test_clock_set_forward_ends_a_trial(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """From the first pass after the change, without a notification."""
    connection = uplinks.tcp(uplinks.service6)
    agent = _start_on_trial(uplinks, start_agent, "10m")
    guest.step(_FORWARD)
    _assert_nothing_destroyed(uplinks, agent, connection)
    assert agent.command("confirm") == (0, "confirmed\n")
    _wait_until_destroyed(connection, _LATE_S)


def _start_on_trial(uplinks: Uplinks, start_agent: StartAgent, within: str) -> RunningAgent:
    agent = start_agent(uplinks.host, policy(_GONE), start=False)
    agent.command("trial", "--within", within, str(agent.policy))
    agent.start()
    assert agent.status()["inhibited_by"] is None
    assert agent.status()["trial"]["remaining_s"] > 0
    return agent


def _assert_nothing_destroyed(
    uplinks: Uplinks, agent: RunningAgent, connection: UplinkConnection
) -> None:
    ip(uplinks.host, f"addr del {uplinks.eth6}/64 dev eth0")
    _wait_for_status(agent, "inhibited")
    agent.wait_for_pass()
    assert alive(connection.sock)
    assert agent.status()["inhibited_by"] == "unconfirmed"
    # One line for its start, one for its end.
    assert len(agent.log_lines("confirmed")) == 2
