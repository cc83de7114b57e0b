# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent that was started just now hears what happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import policy
from tests.support.topologies.topology import Lab

# After each turn it rests for nine times the processor time of that turn, and is deaf meanwhile.
_ONE_TURN = """
import sys
from linuxnet_sockets.agent import cli, daemon
turn = daemon.Agent.turn
def one(agent):
    before = set(sys.modules)
    turn(agent)
    print(*sorted(set(sys.modules) - before))
    agent.end()
daemon.Agent.turn = one
cli.main(["run", *sys.argv[1:]])
"""


def test_the_first_turn_does_not_pay_for_pyroute2(
    lab: Lab, start_agent: StartAgent, tmp_path: Path
) -> None:
    rule = {"name": "gone", "match": {"stranded": ["address_gone"]}}
    agent = start_agent(lab.namespace("host"), policy(rule), start=False)
    code = f"import sys; sys.path.insert(0, {str(tmp_path / '0' / 'modules')!r}){_ONE_TURN}"
    done = subprocess.run(
        agent.where.command(
            *(sys.executable, "-c", code, "--policy", str(agent.policy)),
            *("--state-directory", str(agent.state), "--runtime-directory", str(agent.runtime)),
        ),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = done.stdout.splitlines()
    assert " digest=" in told[0]
    assert [name for name in told[1].split() if name.startswith("pyroute2")] == []
