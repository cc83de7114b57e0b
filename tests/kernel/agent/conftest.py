# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents on a host with two uplinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.agent.running import RunningAgent
from tests.kernel.socket_options import require_socket_options
from tests.support.topologies.networks import Uplinks
from tests.support.topologies.topology import Lab

StartAgent = Callable[..., RunningAgent]


@pytest.fixture
def uplinks(lab: Lab) -> Uplinks:
    uplinks = Uplinks(lab)
    require_socket_options(uplinks.host)
    return uplinks


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Start an agent in a namespace, with a policy."""
    started: list[RunningAgent] = []

    def start(*arguments: Any, **keywords: Any) -> RunningAgent:
        where, *rest = arguments
        agent = RunningAgent(where, tmp_path / str(len(started)), *rest, **keywords)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        if agent.process is not None and agent.process.poll() is None:
            agent.stop()
