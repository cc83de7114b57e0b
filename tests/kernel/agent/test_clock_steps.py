# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody sets the clock, by a year or back by a day, while the agent waits for something.

Only in a guest of tools/test-kernels. What is promised is in agent/deadline.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, alive, policy
from tests.support import guest
from tests.support.guest import DAY_S
from tests.support.topologies.networks import Talk, Uplinks, ip
from tests.support.topologies.waiting import until

_GONE = {
    "name": "gone",
    "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone", "unroutable"]},
}
_FORWARD, _BACK = 365 * DAY_S, -DAY_S
_STEPS = pytest.mark.parametrize("step", [_FORWARD, _BACK], ids=["a year forward", "a day back"])
# How late it may be on an emulated processor: the agent asks for pause and trial every 10 s.
_LATE_S = 25.0


@pytest.fixture(autouse=True)
def _a_clock_of_our_own() -> Iterator[None]:
    guest.only_in_a_guest()
    with guest.clock_set_right():
        yield


def _lose_address(uplinks: Uplinks) -> None:
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")


def _is_told(agent: RunningAgent, status: str) -> None:
    until(lambda: agent.status()["rules"][0][status] == 1, f"it is told: {status}", seconds=10)


def _lives_until(moment: float, talk: Talk) -> None:
    """CLOCK_MONOTONIC."""
    while time.monotonic() < moment:
        assert alive(talk.sock), f"it died {moment - time.monotonic():.2f} s too early"
        time.sleep(0.02)


def _died(talk: Talk, seconds: float) -> float:
    """When it did, on CLOCK_MONOTONIC."""
    until(lambda: not alive(talk.sock), "it is destroyed", seconds=seconds)
    return time.monotonic()


@_STEPS
def test_a_hold_lasts_as_long_as_it_says(
    uplinks: Uplinks, start_agent: StartAgent, step: float
) -> None:
    doomed, protected = uplinks.tcp(uplinks.service4), uplinks.tcp(uplinks.wlan4_gateway)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "5s"}))
    began = time.monotonic()
    _lose_address(uplinks)
    _is_told(agent, "hold")
    told = time.monotonic()
    guest.step(step)
    _lives_until(began + 5, doomed)
    assert _died(doomed, _LATE_S) < told + 5 + _LATE_S
    agent.looked_again()
    assert alive(protected.sock)
    assert agent.destroyed() == {doomed.cookie: "gone"}


@_STEPS
def test_a_pause_lasts_as_long_as_it_says(
    uplinks: Uplinks, start_agent: StartAgent, step: float
) -> None:
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    began = time.monotonic()
    assert agent.command("pause", "--for", "15s")[0] == 0
    ends = time.monotonic() + 15
    until(lambda: agent.status()["inhibited_by"] == "paused", "it is paused", seconds=10)
    guest.step(step)
    _lose_address(uplinks)
    _is_told(agent, "inhibited")
    assert 0 < agent.status()["pause"]["remaining_s"] <= 15
    _lives_until(began + 15, talk)
    assert _died(talk, _LATE_S) < ends + _LATE_S
    # What it tells is written when the look is over.
    until(lambda: agent.status()["pause"] is None, "it says so too")


def test_a_trial_ends_in_time_though_the_clock_was_set_back(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    """It enforces before; afterwards it destroys nothing."""
    one, two = uplinks.tcp(uplinks.service4), uplinks.tcp(uplinks.service6)
    agent = _on_trial(uplinks, start_agent, "20s")
    ends = time.monotonic() + 20
    guest.step(_BACK)
    _lose_address(uplinks)
    assert _died(one, 10) < ends
    assert agent.status()["inhibited_by"] is None
    until(
        lambda: agent.status()["inhibited_by"] == "unconfirmed", "it is over", seconds=20 + _LATE_S
    )
    assert time.monotonic() < ends + _LATE_S
    _nothing_more(uplinks, agent, two)


def test_a_trial_is_over_at_once_where_the_clock_says_so(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    """For the very first look after it was set forward; nobody told the agent."""
    talk = uplinks.tcp(uplinks.service6)
    agent = _on_trial(uplinks, start_agent, "10m")
    guest.step(_FORWARD)
    _nothing_more(uplinks, agent, talk)
    assert agent.command("confirm") == (0, "confirmed\n")
    _died(talk, _LATE_S)


def _on_trial(uplinks: Uplinks, start_agent: StartAgent, within: str) -> RunningAgent:
    agent = start_agent(uplinks.host, policy(_GONE), start=False)
    agent.command("trial", "--within", within, str(agent.policy))
    agent.start()
    assert agent.status()["inhibited_by"] is None
    assert agent.status()["trial"]["remaining_s"] > 0
    return agent


def _nothing_more(uplinks: Uplinks, agent: RunningAgent, talk: Talk) -> None:
    ip(uplinks.host, f"addr del {uplinks.eth6}/64 dev eth0")
    _is_told(agent, "inhibited")
    agent.looked_again()
    assert alive(talk.sock)
    assert agent.status()["inhibited_by"] == "unconfirmed"
    # On trial, and at its end.
    assert len(agent.log_lines("confirmed")) == 2
