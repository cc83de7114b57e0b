# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits apply to any period within one boot, over restarts and crashes of the agent."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, alive, policy
from tests.support.topologies.networks import UplinkConnection, Uplinks, ip
from tests.support.topologies.waiting import until

_GONE = {"name": "gone", "match": {"stranded": ["address_gone"]}}
_HOURLY = {"max_sockets": 2, "per": "1h", "on_excess": "pace"}


@pytest.fixture
def violating(uplinks: Uplinks) -> list[UplinkConnection]:
    """Twelve connections that violate the policy before the agent starts."""
    opened_connections = [uplinks.tcp(uplinks.service4) for _connection in range(12)]
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    return opened_connections


def _destroyed_in_window(agent: RunningAgent) -> int:
    (exceeded,) = agent.status()["budget"]["exceeded"]
    number: int = exceeded["destroyed_in_window"]
    return number


def _count_living(opened_connections: list[UplinkConnection]) -> int:
    return sum(alive(connection.sock) for connection in opened_connections)


@pytest.mark.parametrize(("end", "scope"), [("kill", "rule_and_user"), ("stop", "total")])
def test_budget_survives_restarts(
    uplinks: Uplinks,
    violating: list[UplinkConnection],
    start_agent: StartAgent,
    end: str,
    scope: str,
) -> None:
    limits = {**_HOURLY, "scope": scope}
    agent = start_agent(uplinks.host, policy(_GONE, limits=limits))
    until(lambda: _count_living(violating) == 10, "budget used")
    for _start in range(4):
        getattr(agent, end)()
        agent.start()
        agent.wait_for_pass()
        assert _count_living(violating) == 10
    assert _destroyed_in_window(agent) == 2
    # Another policy has the same budget; a larger limit allows three more.
    name = "renamed" if scope == "total" else _GONE["name"]
    agent.reload(policy({**_GONE, "name": name}, limits={**limits, "max_sockets": 5}))
    until(lambda: _count_living(violating) == 7, "three more destroyed")
    agent.kill()
    agent.start()
    agent.wait_for_pass()
    assert _count_living(violating) == 7


def test_kill_while_destroying_keeps_the_budget(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    """At any moment after the start: never more sockets are destroyed than the limits allow."""
    agent = start_agent(uplinks.host, policy(_GONE, limits=_HOURLY), start=False)
    for number in range(12):
        agent.start_without_waiting()
        budget = agent.runtime / "budget.json"
        if number % 2:
            time.sleep(0.15 + 0.05 * number)
        else:
            # As close as possible between writing the budget and destroying.
            until(budget.exists, "budget written")
        agent.kill()
    agent.start()
    agent.wait_for_pass()
    assert _count_living(violating) >= 10
    # Written entries count, even if the killed agent did not destroy the sockets.
    assert _destroyed_in_window(agent) == 2


def test_invalid_budget_file_inhibits_for_the_period(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    limits = {"max_sockets": 20, "per": "4s"}
    agent = start_agent(uplinks.host, policy(_GONE, limits=limits), start=False)
    (agent.runtime / "budget.json").write_text('{"boot_id": "')
    agent.start()
    began = time.monotonic()
    status = agent.status()
    assert status["inhibited_by"] == "budget_unknown"
    assert _destroyed_in_window(agent) == status["budget"]["total"] == 200
    assert "budget.json" in status["faults"][0]["error"]
    assert agent.log_lines("budget.json")
    code, text = agent.command("status")
    assert (code, "budget.json" in text) == (1, True)
    assert _count_living(violating) == 12
    agent.kill()
    agent.start()
    assert agent.status()["faults"]
    until(lambda: _count_living(violating) == 0, "period of the limits over", seconds=10)
    assert time.monotonic() - began > 2
    agent.wait_for_pass()
    assert agent.status()["faults"] == []


_MOUNT = shutil.which("mount", path="/usr/bin:/bin:/usr/sbin:/sbin") or "mount"


def _on_a_small_disk(agent: RunningAgent, fill: str) -> None:
    """Put the runtime directory on a file system of 64 KiB, and run `fill` there."""
    script = f'{_MOUNT} -t tmpfs -o size=64k none {agent.runtime} && {{ {fill}; exec "$@"; }}'
    agent.prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]


def _path_in(agent: RunningAgent, name: str) -> Path:
    assert agent.process is not None
    return Path(f"/proc/{agent.process.pid}/root{agent.runtime}/{name}")


def _budget_written(agent: RunningAgent) -> bool:
    """Return whether the budget file has entries."""
    with contextlib.suppress(FileNotFoundError):
        return '"entries":[[' in _path_in(agent, "budget.json").read_text()
    return False


def test_disk_full_at_the_start(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    """The agent enforces within its limits and reports that it cannot store the budget."""
    agent = start_agent(uplinks.host, policy(_GONE, limits=_HOURLY), start=False)
    _on_a_small_disk(agent, f"head -c 1m /dev/zero > {agent.runtime}/filler")
    agent.start_without_waiting()
    full = (os.strerror(errno.ENOSPC), "budget.json")
    until(lambda: agent.log_lines(*full), "fault in the log", seconds=10)
    until(lambda: _count_living(violating) == 10, "budget used", seconds=10)
    # The agent writes the metrics after the pass.
    until(agent.metrics_file.exists, "metrics written", seconds=10)
    until(lambda: agent.metrics()["faults"] >= 1, "fault in the metrics", seconds=10)
    _path_in(agent, "filler").unlink()
    until(lambda: _budget_written(agent), "budget written", seconds=20)
    assert _count_living(violating) == 10


def test_disk_full_after_the_start(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """The pages of the budget file are allocated already: the agent enforces and stores it."""
    opened_connections = [uplinks.tcp(uplinks.service4) for _connection in range(3)]
    agent = start_agent(uplinks.host, policy(_GONE, limits=_HOURLY), start=False)
    _on_a_small_disk(agent, ":")
    agent.start_without_waiting()
    until(lambda: _path_in(agent, "status.json").exists(), "first pass", seconds=10)
    with pytest.raises(OSError, match="No space"), _path_in(agent, "filler").open("wb") as file:
        file.write(bytes(1 << 20))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: _count_living(opened_connections) == 1, "budget used", seconds=10)
    full = os.strerror(errno.ENOSPC)
    until(lambda: agent.log_lines(full, "status"), "other files not written")
    assert _budget_written(agent)
    assert agent.log_lines(full, "budget.json") == []


def test_reloads_of_the_same_policy_do_not_extend_holds(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "1s"}))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    end = time.monotonic() + 5
    while alive(connection.sock) and time.monotonic() < end:
        agent.signal(signal.SIGHUP)
        time.sleep(0.2)
    assert not alive(connection.sock)
    assert len(agent.log_lines(f"digest={agent.status()['policy']['digest']}")) > 3
