# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`socket-agent events` beside a running agent."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, policy
from tests.support.topologies.networks import Uplinks, ip
from tests.support.topologies.waiting import until

_GONE = {"name": "gone", "match": {"stranded": ["address_gone"]}}


def _until_connected(agent: RunningAgent, output: Path) -> None:
    """Cause events until one is in the output. Events before the connection are not sent."""

    def has_event() -> bool:
        agent.command("pause")
        agent.command("resume")
        return "pause" in output.read_text()

    until(has_event, "event of a pause", seconds=20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_destroyed_socket_is_one_line_of_json(
    uplinks: Uplinks, start_agent: StartAgent, tmp_path: Path, number: int
) -> None:
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    output = tmp_path / "events"
    process = agent.start_command("events", output)
    _until_connected(agent, output)

    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: '"socket"' in output.read_text(), "event of the socket")
    process.send_signal(number)

    assert process.wait(timeout=10) == 0
    events = [json.loads(line) for line in output.read_text().splitlines()]
    (destroyed,) = (event for event in events if event["event"] == "socket")
    assert destroyed["record"]["cookie"] == f"{connection.cookie:x}"


def test_events_ends_with_the_agent_or_follows_the_next_one(
    uplinks: Uplinks, start_agent: StartAgent, tmp_path: Path
) -> None:
    agent = start_agent(uplinks.host, policy(_GONE))
    outputs = tmp_path / "once", tmp_path / "always"
    once = agent.start_command("events", outputs[0], "--pretty")
    always = agent.start_command("events", outputs[1], "--reconnect")
    for output in outputs:
        _until_connected(agent, output)

    agent.stop()
    assert once.wait(timeout=10) == 3
    agent.start()
    outputs[1].write_text("")
    _until_connected(agent, outputs[1])
    always.terminate()
    assert always.wait(timeout=10) == 0
