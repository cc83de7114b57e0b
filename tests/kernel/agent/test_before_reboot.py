# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest leaves on its disk before it is cut off; test_after_reboot.py finds it.

Only in a guest of tools/test-kernels; the last of its tests. The very last command is the one whose
loss would destroy what shall live: nothing but its own care brings it onto the disk in time.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from linuxnet_sockets.agent.clocks import read_clocks
from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, policy
from tests.support import guest
from tests.support.topologies.topology import Lab

# The agents' states, each with what was bidden: by name of the directory.
LEFT = {
    "trial, over meanwhile": ("trial", "--within", "2s"),
    "trial, going on": ("trial", "--within", "30m"),
    "trial, bounded": ("trial", "--within", "100s"),
    "pause, over meanwhile": ("pause", "--for", "2s"),
    "pause, without end": ("pause", "--reason", "till I am back"),
    "pause, going on": ("pause", "--for", "30m"),
}
BOOT = "boot.json"
ON_TRIAL = policy(
    {"name": "gone", "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone"]}}
)


@pytest.fixture
def disk() -> Path:
    return guest.lasting_disk(1)


def agent_of(agent: RunningAgent, disk: Path, name: str) -> RunningAgent:
    """The agent with its state on that disk."""
    agent.state = disk / name
    agent.state.mkdir(exist_ok=True)
    return agent


def test_pauses_and_trials_are_left(disk: Path, lab: Lab, start_agent: StartAgent) -> None:
    # Once the short ones are over by the clock, they have long to go by the next boot's.
    assert guest.boottime() > 5
    (disk / BOOT).write_text(json.dumps(read_clocks("/proc")._asdict()))
    agent = start_agent(lab.namespace("host"), ON_TRIAL, start=False)
    for name, (command, *words) in LEFT.items():
        agent_of(agent, disk, name)
        if command == "trial":
            words.append(str(agent.policy))
        if name == list(LEFT)[-1]:
            # What the system writes by itself was written; what comes now is not.
            os.sync()
            time.sleep(1)
        assert agent.command(command, *words)[0] == 0
