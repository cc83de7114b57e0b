# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first iteration of a new agent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import policy
from tests.support.topologies.topology import Lab

# The first iteration is charged to the CPU time that is free for the first events.
_ONE_ITERATION = """
import sys
from linuxnet_sockets.agent import cli, daemon
run_once = daemon.Daemon.run_once
def run_once_and_stop(agent):
    before = set(sys.modules)
    run_once(agent)
    print(*sorted(set(sys.modules) - before))
    agent.request_stop()
daemon.Daemon.run_once = run_once_and_stop
cli.main(["run", *sys.argv[1:]])
"""


def test_first_iteration_does_not_import_pyroute2(
    lab: Lab, start_agent: StartAgent, tmp_path: Path
) -> None:
    rule = {"name": "gone", "match": {"stranded": ["address_gone"]}}
    agent = start_agent(lab.namespace("host"), policy(rule), start=False)
    code = f"import sys; sys.path.insert(0, {str(tmp_path / '0' / 'modules')!r}){_ONE_ITERATION}"
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
    lines = done.stdout.splitlines()
    assert " digest=" in lines[0]
    assert [name for name in lines[1].split() if name.startswith("pyroute2")] == []
