# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pauses and trials after a power loss and a reboot.

Only in a guest of tools/test-kernels, at its second start. CLOCK_BOOTTIME has restarted, so the
wall clock decides. If that was set back, a trial ends at an uptime of its whole duration.
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
from tests.support.topologies.networks import UplinkConnection, Uplinks, ip
from tests.support.topologies.waiting import until

_LATE_S = 25.0


class Rebooted:
    """Starts agents with the state of before the reboot, each with a stranded connection."""

    def __init__(self, uplinks: Uplinks, start_agent: StartAgent, disk: Path) -> None:
        self._uplinks = uplinks
        self._start_agent = start_agent
        self._disk = disk

    def start(self, name: str) -> tuple[RunningAgent, UplinkConnection]:
        connection = self._uplinks.tcp(self._uplinks.service4)
        ip(self._uplinks.host, f"addr del {self._uplinks.eth4}/24 dev eth0")
        agent = agent_of(
            self._start_agent(self._uplinks.host, ON_TRIAL, start=False), self._disk, name
        )
        agent.start()
        return agent, connection


@pytest.fixture
def disk() -> Iterator[Path]:
    disk = guest.persistent_disk(2)
    with guest.restored_clock():
        yield disk


@pytest.fixture
def rebooted(disk: Path, uplinks: Uplinks, start_agent: StartAgent) -> Rebooted:
    return Rebooted(uplinks, start_agent, disk)


def _assert_inhibited(agent: RunningAgent, connection: UplinkConnection, reason: str) -> None:
    assert agent.status()["inhibited_by"] == reason
    agent.wait_for_pass()
    assert alive(connection.sock)
    assert agent.destroyed() == {}


def _assert_destroyed(connection: UplinkConnection) -> None:
    until(lambda: not alive(connection.sock), "destroyed", seconds=_LATE_S)


def test_boot_id_has_changed(disk: Path) -> None:
    """The other tests depend on it."""
    before, now = json.loads((disk / BOOT).read_text()), read_clocks("/proc")
    assert before["boot_id"] != now.boot_id
    assert before["boottime_s"] > now.boottime_s
    assert 0 < now.wall_s - before["wall_s"] < 1_000


def test_pause_continues(rebooted: Rebooted) -> None:
    agent, connection = rebooted.start("pause, continuing")
    _assert_inhibited(agent, connection, "paused")
    assert 0 < agent.status()["pause"]["remaining_s"] < 30 * 60
    assert agent.command("resume") == (0, "resumed\n")
    _assert_destroyed(connection)


def test_pause_without_deadline_continues(rebooted: Rebooted) -> None:
    agent, connection = rebooted.start("pause, without deadline")
    _assert_inhibited(agent, connection, "paused")
    assert agent.status()["pause"] == {"reason": "until I am back", "remaining_s": None}


def test_pause_has_ended(rebooted: Rebooted) -> None:
    """The uptime of its end is far ahead, the wall clock has passed it."""
    agent, connection = rebooted.start("pause, ended")
    _assert_destroyed(connection)
    assert agent.status()["pause"] is None


def test_trial_continues(rebooted: Rebooted) -> None:
    agent, connection = rebooted.start("trial, continuing")
    _assert_destroyed(connection)
    assert 0 < agent.status()["trial"]["remaining_s"] < 30 * 60
    assert agent.status()["inhibited_by"] is None


def test_trial_has_expired(rebooted: Rebooted) -> None:
    """The first pass destroys nothing."""
    agent, connection = rebooted.start("trial, expired")
    _assert_inhibited(agent, connection, "unconfirmed")
    assert agent.command("confirm") == (0, "confirmed\n")
    _assert_destroyed(connection)


def test_clock_set_back_does_not_extend_a_trial(rebooted: Rebooted) -> None:
    guest.step(-guest.DAY_S)
    agent, _connection = rebooted.start("trial, bounded")
    until(
        lambda: agent.status()["inhibited_by"] == "unconfirmed",
        "trial expired",
        seconds=max(0.0, 100 - guest.boottime()) + _LATE_S,
    )
    assert guest.boottime() >= 100
