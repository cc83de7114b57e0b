# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first iteration of a new agent."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import alive, policy
from tests.support import deny_syscalls
from tests.support.topologies.topology import Lab, Pair
from tests.support.topologies.waiting import until

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


AT_ONCE = {"name": "at-once", "match": {"remote_port": 443}}


@pytest.mark.skipif(not deny_syscalls.SUPPORTED, reason="unknown numbers of system calls")
def test_agent_enforces_where_pyroute2_may_not_open_sockets(
    pair: Pair, start_agent: StartAgent
) -> None:
    """pyroute2 0.9.7 raises KeyError then. The agent reports it, and each resync enforces."""
    deny = [sys.executable, deny_syscalls.__file__, "datagram-netlink"]
    rule = {"name": "stranded", "match": {"stranded": ["address_gone"]}}
    agent = start_agent(pair.client, policy(rule, AT_ONCE), resync="1s", prefix=deny)
    (fault,) = until(lambda: agent.status()["faults"], "a fault", seconds=10)
    assert fault["operation"] == "receive rtnetlink events"
    assert "pyroute2" in fault["error"]
    with (
        pair.server.run(partial(socket.create_server, (pair.server4, 443))),
        pair.client.run(partial(socket.create_connection, (pair.server4, 443))) as sock,
    ):
        until(lambda: not alive(sock), "destroyed at a resync", seconds=10)
    assert agent.process is not None
    assert agent.process.poll() is None
    assert "Traceback" not in agent.log()


def test_agent_without_descriptors_recovers(lab: Lab, start_agent: StartAgent) -> None:
    agent = start_agent(lab.namespace("host"), policy(AT_ONCE))
    assert agent.status()["faults"] == []
    assert agent.process is not None
    pid, (_soft, hard) = agent.process.pid, resource.getrlimit(resource.RLIMIT_NOFILE)
    # Enough to read the policy and to write files, too few for the listener.
    open_now = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = [number for number in range(64) if number not in open_now]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[2], hard))
    stranded = {**AT_ONCE, "match": {"stranded": ["address_gone"]}}
    # The status cannot be written either.
    agent.write(policy(stranded))
    agent.signal(signal.SIGHUP)
    until(lambda: agent.log_lines("cannot receive rtnetlink events"), "a fault", seconds=10)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    until(lambda: agent.status()["faults"] == [], "recovered", seconds=30)
    assert agent.status()["pid"] == pid
    assert "Traceback" not in agent.log()
