# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents wait for holds, pauses and trials while the machine is suspended to memory.

Only in a guest of tools/test-kernels. Holds do not include the suspend; pauses and trials do.
"""

from __future__ import annotations

import time

import pytest

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, alive, policy
from tests.support import guest
from tests.support.topologies.networks import UplinkConnection, Uplinks, ip
from tests.support.topologies.waiting import until

# The tolerance on an emulated CPU: the agent checks the pause and the trial every 10 s.
_LATE_S = 25.0
# Long enough to reach the suspend on such a CPU before the first deadline.
_HOLD_S, _SHORT_S, _LONG_S, _SLEEP_S = 6, 80, 140, 100


@pytest.fixture(autouse=True)
def _guest_that_can_suspend() -> None:
    guest.require_guest()
    reason = guest.why_no_suspend()
    if reason is not None:
        pytest.skip(reason)


def _suspend(seconds: int) -> None:
    suspended_s = guest.sleep(seconds)
    # The RTC and the kernel's suspend time have a resolution of a second.
    assert suspended_s >= seconds - 3, f"suspended for {suspended_s:.1f} s only"


def _wait_for_status(agent: RunningAgent, status: str) -> None:
    until(lambda: agent.status()["rules"][0][status] == 1, f"status {status}")


class Agents:
    """Starts agents on one host, each with a policy for a connection of its own."""

    def __init__(self, uplinks: Uplinks, start_agent: StartAgent) -> None:
        self._uplinks = uplinks
        self._start_agent = start_agent

    def start(
        self, remote: str, hold: str = "0s", within: str = ""
    ) -> tuple[RunningAgent, UplinkConnection]:
        connection = self._uplinks.tcp(remote)
        match = {"local_port": connection.sock.getsockname()[1], "stranded": ["address_gone"]}
        document = policy({"name": "gone", "match": match, "hold": hold})
        agent = self._start_agent(self._uplinks.host, document, start=False, resync="10m")
        if within:
            agent.command("trial", "--within", within, str(agent.policy))
        agent.start()
        return agent, connection


def test_suspend_restarts_holds_and_not_pauses_and_trials(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    """One test for all, since a guest with an emulated RTC can suspend only once.

    The network may have been back during a hold in the suspend. A pause or a trial ends after its
    duration in any case.
    """
    agents = Agents(uplinks, start_agent)
    shorter, shorter_connection = agents.start(uplinks.service4)
    longer, longer_connection = agents.start(uplinks.service4)
    held, held_connection = agents.start(uplinks.service4, hold=f"{_HOLD_S}s")
    healed, healed_connection = agents.start(uplinks.wlan4_gateway, hold=f"{_HOLD_S}s")
    trial, trial_connection = agents.start(uplinks.service6, within=f"{_SHORT_S}s")
    began = guest.boottime()
    assert longer.command("pause", "--for", f"{_LONG_S}s")[0] == 0
    assert shorter.command("pause", "--for", f"{_SHORT_S}s")[0] == 0
    until(lambda: shorter.status()["inhibited_by"] == "paused", "paused", seconds=3)
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.wlan4}/24 dev wlan0",
    )
    for agent in (held, healed):
        _wait_for_status(agent, "hold")
    for agent in (shorter, longer):
        _wait_for_status(agent, "inhibited")
    assert trial.status()["inhibited_by"] is None

    _suspend(_SLEEP_S)

    woke = time.monotonic()
    ip(
        uplinks.host,
        f"addr add {uplinks.wlan4}/24 dev wlan0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    while time.monotonic() < woke + _HOLD_S:
        assert alive(held_connection.sock), (
            f"destroyed {time.monotonic() - woke:.2f} s after the suspend"
        )
        time.sleep(0.02)
    until(lambda: not alive(held_connection.sock), "destroyed after its hold")
    until(lambda: not alive(shorter_connection.sock), "destroyed after the shorter pause")
    assert time.monotonic() < woke + _HOLD_S + _LATE_S
    _wait_for_status(trial, "inhibited")
    assert alive(trial_connection.sock)
    assert trial.status()["inhibited_by"] == "unconfirmed"
    while guest.boottime() < began + _LONG_S:
        assert alive(longer_connection.sock), "the pause ended too early"
        time.sleep(0.02)
    until(lambda: not alive(longer_connection.sock), "destroyed after the longer pause")
    assert guest.boottime() < began + _LONG_S + _LATE_S
    healed.wait_for_pass()
    trial.wait_for_pass()
    assert alive(healed_connection.sock)
    assert alive(trial_connection.sock)
