# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes pauses and trials to the disk of a guest before a power loss.

test_after_reboot.py reads them. Only in a guest of tools/test-kernels, as the last of its tests.
The last command is the one whose loss would destroy sockets: only its own fsync saves it.
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

# By name of the state directory: the command that writes the state.
COMMANDS = {
    "trial, expired": ("trial", "--within", "2s"),
    "trial, continuing": ("trial", "--within", "30m"),
    "trial, bounded": ("trial", "--within", "100s"),
    "pause, ended": ("pause", "--for", "2s"),
    "pause, without deadline": ("pause", "--reason", "until I am back"),
    "pause, continuing": ("pause", "--for", "30m"),
}
BOOT = "boot.json"
ON_TRIAL = policy(
    {"name": "gone", "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone"]}}
)


@pytest.fixture
def disk() -> Path:
    return guest.persistent_disk(1)


def agent_of(agent: RunningAgent, disk: Path, name: str) -> RunningAgent:
    """Move the state directory of an agent to the disk."""
    agent.state = disk / name
    agent.state.mkdir(exist_ok=True)
    return agent


def test_pauses_and_trials_are_written(disk: Path, lab: Lab, start_agent: StartAgent) -> None:
    # The short deadlines then have an uptime that the next boot reaches only later.
    assert guest.boottime() > 5
    (disk / BOOT).write_text(json.dumps(read_clocks("/proc")._asdict()))
    agent = start_agent(lab.namespace("host"), ON_TRIAL, start=False)
    for name, (command, *arguments) in COMMANDS.items():
        agent_of(agent, disk, name)
        if command == "trial":
            arguments.append(str(agent.policy))
        if name == list(COMMANDS)[-1]:
            # Everything so far is on the disk; the last command has to flush itself.
            os.sync()
            time.sleep(1)
        assert agent.command(command, *arguments)[0] == 0
