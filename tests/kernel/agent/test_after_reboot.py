# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is promised of pauses and trials after the machine was cut off and started anew.

Only in a guest of tools/test-kernels, at its second start. The uptime tells nothing of what was
before: all goes by the clock, and where somebody set it back, a trial takes no longer than it would
have if it had begun with the boot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxnet_sockets.agent.clocks import read_clocks
from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, alive
from tests.kernel.agent.test_before_reboot import BOOT, ON_TRIAL, agent_of
from tests.support import guest
from tests.support.topologies.networks import Talk, Uplinks, ip
from tests.support.topologies.waiting import until

_LATE_S = 25.0


class Again:
    """Agents that find what was left under a name, each with a connection that is stranded."""

    def __init__(self, uplinks: Uplinks, start_agent: StartAgent, disk: Path) -> None:
        self._uplinks = uplinks
        self._start_agent = start_agent
        self._disk = disk

    def start(self, name: str) -> tuple[RunningAgent, Talk]:
        talk = self._uplinks.tcp(self._uplinks.service4)
        ip(self._uplinks.host, f"addr del {self._uplinks.eth4}/24 dev eth0")
        agent = agent_of(
            self._start_agent(self._uplinks.host, ON_TRIAL, start=False), self._disk, name
        )
        agent.start()
        return agent, talk


@pytest.fixture
def disk() -> Iterator[Path]:
    disk = guest.lasting_disk(2)
    with guest.clock_set_right():
        yield disk


@pytest.fixture
def again(disk: Path, uplinks: Uplinks, start_agent: StartAgent) -> Again:
    return Again(uplinks, start_agent, disk)


def _spares(agent: RunningAgent, talk: Talk, held_back: str) -> None:
    assert agent.status()["inhibited_by"] == held_back
    agent.looked_again()
    assert alive(talk.sock)
    assert agent.destroyed() == {}


def _destroys(talk: Talk) -> None:
    until(lambda: not alive(talk.sock), "it is destroyed", seconds=_LATE_S)


def test_it_is_another_boot(disk: Path) -> None:
    """Otherwise the rest says nothing."""
    before, now = json.loads((disk / BOOT).read_text()), read_clocks("/proc")
    assert before["boot_id"] != now.boot_id
    assert before["boottime_s"] > now.boottime_s
    assert 0 < now.wall_s - before["wall_s"] < 1_000


def test_a_pause_goes_on(again: Again) -> None:
    agent, talk = again.start("pause, going on")
    _spares(agent, talk, "paused")
    assert 0 < agent.status()["pause"]["remaining_s"] < 30 * 60
    assert agent.command("resume") == (0, "resumed\n")
    _destroys(talk)


def test_a_pause_without_end_goes_on(again: Again) -> None:
    agent, talk = again.start("pause, without end")
    _spares(agent, talk, "paused")
    assert agent.status()["pause"] == {"reason": "till I am back", "remaining_s": None}


def test_a_pause_is_over(again: Again) -> None:
    """Though the uptime of its end is far ahead."""
    agent, talk = again.start("pause, over meanwhile")
    _destroys(talk)
    assert agent.status()["pause"] is None


def test_a_trial_goes_on(again: Again) -> None:
    agent, talk = again.start("trial, going on")
    _destroys(talk)
    assert 0 < agent.status()["trial"]["remaining_s"] < 30 * 60
    assert agent.status()["inhibited_by"] is None


def test_a_trial_is_over(again: Again) -> None:
    """The very first look destroys nothing."""
    agent, talk = again.start("trial, over meanwhile")
    _spares(agent, talk, "unconfirmed")
    assert agent.command("confirm") == (0, "confirmed\n")
    _destroys(talk)


def test_a_clock_that_was_set_back_does_not_prolong_a_trial(again: Again) -> None:
    guest.step(-guest.DAY_S)
    agent, _talk = again.start("trial, bounded")
    until(
        lambda: agent.status()["inhibited_by"] == "unconfirmed",
        "it is over",
        seconds=max(0.0, 100 - guest.boottime()) + _LATE_S,
    )
    assert guest.boottime() >= 100
