# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine is suspended to memory and woken by its clock, while agents wait for something.

Only in a guest of tools/test-kernels. Holds do not count what was slept; pause and trial do.
"""

from __future__ import annotations

import time

import pytest

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, alive, policy
from tests.support import guest
from tests.support.topologies.networks import Talk, Uplinks, ip
from tests.support.topologies.waiting import until

# How late it may be on an emulated processor: the agent asks for pause and trial every 10 s.
_LATE_S = 25.0
# Long enough to be reached on such a processor before what ends in the sleep is over.
_HOLD_S, _OVER_S, _LONG_S, _SLEEP_S = 6, 80, 140, 100


@pytest.fixture(autouse=True)
def _a_machine_that_may_sleep() -> None:
    guest.only_in_a_guest()
    reason = guest.cannot_sleep()
    if reason is not None:
        pytest.skip(reason)


def _sleep(seconds: int) -> None:
    slept = guest.sleep(seconds)
    # The clock that wakes it, and the one that the kernel asks then, have whole seconds.
    assert slept >= seconds - 3, f"it slept {slept:.1f} s only"


def _is_told(agent: RunningAgent, status: str) -> None:
    until(lambda: agent.status()["rules"][0][status] == 1, f"it is told: {status}")


class Sleepers:
    """Agents of one host, each with a connection of its own, named after what each waits for."""

    def __init__(self, uplinks: Uplinks, start_agent: StartAgent) -> None:
        self._uplinks = uplinks
        self._start_agent = start_agent

    def start(self, remote: str, hold: str = "0s", within: str = "") -> tuple[RunningAgent, Talk]:
        talk = self._uplinks.tcp(remote)
        match = {"local_port": talk.sock.getsockname()[1], "stranded": ["address_gone"]}
        document = policy({"name": "gone", "match": match, "hold": hold})
        agent = self._start_agent(self._uplinks.host, document, start=False, resync="10m")
        if within:
            agent.command("trial", "--within", within, str(agent.policy))
        agent.start()
        return agent, talk


def test_holds_begin_anew_and_pauses_and_trials_go_on(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    """Together, since a machine that is emulated with this clock sleeps but once.

    The network may come back while a hold lasts, and nobody knows how it was meanwhile. A pause or
    a trial is over after so much time, whether anybody was awake or not.
    """
    sleepers = Sleepers(uplinks, start_agent)
    over, over_talk = sleepers.start(uplinks.service4)
    longer, longer_talk = sleepers.start(uplinks.service4)
    held, held_talk = sleepers.start(uplinks.service4, hold=f"{_HOLD_S}s")
    saved, saved_talk = sleepers.start(uplinks.wlan4_gateway, hold=f"{_HOLD_S}s")
    trial, trial_talk = sleepers.start(uplinks.service6, within=f"{_OVER_S}s")
    began = guest.boottime()
    assert longer.command("pause", "--for", f"{_LONG_S}s")[0] == 0
    assert over.command("pause", "--for", f"{_OVER_S}s")[0] == 0
    until(lambda: over.status()["inhibited_by"] == "paused", "it is paused", seconds=3)
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.wlan4}/24 dev wlan0",
    )
    for agent in (held, saved):
        _is_told(agent, "hold")
    for agent in (over, longer):
        _is_told(agent, "inhibited")
    assert trial.status()["inhibited_by"] is None

    _sleep(_SLEEP_S)

    woke = time.monotonic()
    ip(
        uplinks.host,
        f"addr add {uplinks.wlan4}/24 dev wlan0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    while time.monotonic() < woke + _HOLD_S:
        assert alive(held_talk.sock), f"it died {time.monotonic() - woke:.2f} s after the sleep"
        time.sleep(0.02)
    until(lambda: not alive(held_talk.sock), "its hold is over")
    until(lambda: not alive(over_talk.sock), "the shorter pause is over")
    assert time.monotonic() < woke + _HOLD_S + _LATE_S
    _is_told(trial, "inhibited")
    assert alive(trial_talk.sock)
    assert trial.status()["inhibited_by"] == "unconfirmed"
    while guest.boottime() < began + _LONG_S:
        assert alive(longer_talk.sock), "the pause ended too early"
        time.sleep(0.02)
    until(lambda: not alive(longer_talk.sock), "the longer pause is over")
    assert guest.boottime() < began + _LONG_S + _LATE_S
    saved.looked_again()
    trial.looked_again()
    assert alive(saved_talk.sock)
    assert alive(trial_talk.sock)
