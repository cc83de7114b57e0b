# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent that hangs still takes connections, and its status still says what it last did.

Time passes in a time namespace: who asks there has clocks that are ahead of the agent's.
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


def _ask(agent: RunningAgent, *words: str, **ahead: int) -> tuple[int, str]:
    """socket-agent status so many seconds later, by each clock that is named."""
    clocks = [word for clock, by in ahead.items() for word in (f"--{clock}", str(by))]
    done = subprocess.run(
        agent.where.command(
            *("unshare", "--fork", "--time", *clocks),
            *agent._words("status", *agent._places(), *words),
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


def _told(agent: RunningAgent, **ahead: int) -> dict[str, Any]:
    told = json.loads(_ask(agent, "--json", **ahead)[1])
    assert isinstance(told, dict)
    return told


def test_one_that_hangs_is_not_well(uplinks: Uplinks, start_agent: StartAgent) -> None:
    agent = start_agent(uplinks.host, policy(_GONE), resync=f"{_RESYNC_S}s")
    agent.signal(signal.SIGSTOP)
    try:
        assert _ask(agent, monotonic=_AT_MOST_S - 20)[0] == 0
        code, text = _ask(agent, monotonic=_AT_MOST_S + 1)
        assert code == 1
        (line,) = [each for each in text.splitlines() if "[overdue]" in each]
        age_s, resync_s = re.findall(r"(\d+) s\b", line)
        assert _AT_MOST_S < int(age_s) < _AT_MOST_S + 10
        assert resync_s == str(_RESYNC_S)
        told = _told(agent, monotonic=500)
        assert (told["running"], told["healthy"]) == (True, False)
        assert (told["inhibited_by"], told["enforcing"]) == ("overdue", False)
        assert 500 <= told["last_pass"]["age_s"] < 520
    finally:
        agent.signal(signal.SIGCONT)
    agent.looked_again()
    told = _told(agent)
    assert (told["healthy"], told["inhibited_by"], told["enforcing"]) == (True, None, True)


def test_a_machine_that_slept_has_missed_nothing(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """CLOCK_BOOTTIME has gone on over the night, CLOCK_MONOTONIC has not."""
    agent = start_agent(uplinks.host, policy(_GONE), resync=f"{_RESYNC_S}s")
    told = _told(agent, boottime=36_000)
    assert (told["healthy"], told["inhibited_by"]) == (True, None)
    assert told["last_pass"]["age_s"] < _RESYNC_S
