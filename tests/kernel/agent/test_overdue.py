# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of an agent that hangs.

The status command runs in a time namespace, with clocks ahead of the agent's.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import Any

import pytest

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, policy
from tests.support.topologies.networks import Uplinks

_GONE = {"name": "gone", "match": {"stranded": ["address_gone"]}}
_RESYNC_S = 30
_AT_MOST_S = 2 * _RESYNC_S + 60


def _status_command(agent: RunningAgent, *arguments: str, **ahead: int) -> tuple[int, str]:
    """Run socket-agent status with these clocks ahead by these seconds."""
    clocks = [f"--{clock}={seconds}" for clock, seconds in ahead.items()]
    done = subprocess.run(
        agent.where.command(
            *("unshare", "--fork", "--time", *clocks),
            *agent._arguments("status", *agent._directories(), *arguments),
        ),
        capture_output=True,
        text=True,
        timeout=30,
        env=agent._environ,
        check=False,
    )
    if "unshare:" in done.stderr:
        pytest.skip(f"no time namespaces here (Linux 5.6 has them): {done.stderr}")
    return done.returncode, done.stdout + done.stderr


def _status(agent: RunningAgent, **ahead: int) -> dict[str, Any]:
    status = json.loads(_status_command(agent, "--json", **ahead)[1])
    assert isinstance(status, dict)
    return status


def test_hanging_agent_is_overdue(uplinks: Uplinks, start_agent: StartAgent) -> None:
    agent = start_agent(uplinks.host, policy(_GONE), resync=f"{_RESYNC_S}s")
    agent.signal(signal.SIGSTOP)
    try:
        assert _status_command(agent, monotonic=_AT_MOST_S - 20)[0] == 0
        code, output = _status_command(agent, monotonic=_AT_MOST_S + 1)
        assert code == 1
        (line,) = [text for text in output.splitlines() if "[overdue]" in text]
        age_s, resync_s = re.findall(r"(\d+) s\b", line)
        assert _AT_MOST_S < int(age_s) < _AT_MOST_S + 10
        assert resync_s == str(_RESYNC_S)
        status = _status(agent, monotonic=500)
        assert (status["running"], status["healthy"]) == (True, False)
        assert (status["inhibited_by"], status["enforcing"]) == ("overdue", False)
        assert 500 <= status["last_pass"]["age_s"] < 520
    finally:
        agent.signal(signal.SIGCONT)
    agent.wait_for_pass()
    status = _status(agent)
    assert (status["healthy"], status["inhibited_by"], status["enforcing"]) == (True, None, True)


def test_suspend_does_not_make_the_agent_overdue(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """Only CLOCK_BOOTTIME continues during suspend."""
    agent = start_agent(uplinks.host, policy(_GONE), resync=f"{_RESYNC_S}s")
    status = _status(agent, boottime=36_000)
    assert (status["healthy"], status["inhibited_by"]) == (True, None)
    assert status["last_pass"]["age_s"] < _RESYNC_S
