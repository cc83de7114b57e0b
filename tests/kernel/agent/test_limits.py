# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits are for any stretch of time of one boot, whatever becomes of the agent meanwhile."""

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
from tests.support.topologies.networks import Talk, Uplinks, ip
from tests.support.topologies.waiting import until

_GONE = {"name": "gone", "match": {"stranded": ["address_gone"]}}
_HOURLY = {"max_sockets": 2, "per": "1h", "on_excess": "pace"}


@pytest.fixture
def doomed(uplinks: Uplinks) -> list[Talk]:
    """Twelve connections that violate the policy above, from before any agent started."""
    talks = [uplinks.tcp(uplinks.service4) for _each in range(12)]
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    return talks


def _living(talks: list[Talk]) -> int:
    return sum(alive(talk.sock) for talk in talks)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_killed_and_started_again_and_again(
    uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent, end: str
) -> None:
    agent = start_agent(uplinks.host, policy(_GONE, limits=_HOURLY))
    until(lambda: _living(doomed) == 10, "as many as may be are gone")
    for _each in range(4):
        getattr(agent, end)()
        agent.start()
        agent.looked_again()
        assert _living(doomed) == 10
    assert agent.status()["budget"]["destroyed_in_window"] == 2
    # Under another policy that says the same of it, too; one that allows more destroys the rest.
    agent.reload(policy({**_GONE, "name": "renamed"}, limits={**_HOURLY, "max_sockets": 5}))
    until(lambda: _living(doomed) == 7, "three more")
    agent.kill()
    agent.start()
    agent.looked_again()
    assert _living(doomed) == 7


def test_killed_while_it_destroys(
    uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent
) -> None:
    """At whatever moment after its start: in the end no more is gone than the limit says."""
    agent = start_agent(uplinks.host, policy(_GONE, limits=_HOURLY), start=False)
    for number in range(12):
        agent.start_blind()
        spent = agent.runtime / "budget.json"
        if number % 2:
            time.sleep(0.15 + 0.05 * number)
        else:
            # Between the writing and the destroying, as nearly as one can.
            until(spent.exists, "it counts")
        agent.kill()
    agent.start()
    agent.looked_again()
    assert _living(doomed) >= 10
    # What was written down for the killed ones counts, whether they came to it or not.
    assert agent.status()["budget"]["destroyed_in_window"] == 2


def test_a_count_of_garbage(uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent) -> None:
    limits = {"max_sockets": 20, "per": "4s"}
    agent = start_agent(uplinks.host, policy(_GONE, limits=limits), start=False)
    (agent.runtime / "budget.json").write_text('{"boot_id": "')
    agent.start()
    began = time.monotonic()
    told = agent.status()
    assert (told["inhibited_by"], told["budget"]["destroyed_in_window"]) == ("budget_unknown", 20)
    assert "budget.json" in told["faults"][0]["error"]
    assert agent.log_lines("budget.json")
    code, text = agent.command("status")
    assert (code, "budget.json" in text) == (1, True)
    assert _living(doomed) == 12
    agent.kill()
    agent.start()
    assert agent.status()["faults"]
    until(lambda: _living(doomed) == 0, "the time of the limits is over", seconds=10)
    assert time.monotonic() - began > 2
    agent.looked_again()
    assert agent.status()["faults"] == []


_MOUNT = shutil.which("mount", path="/usr/bin:/bin:/usr/sbin:/sbin") or "mount"


def _on_a_small_disk(agent: RunningAgent, fill: str) -> None:
    """A file system of 64 KiB that it alone sees holds its runtime directory, and `fill`."""
    script = f'{_MOUNT} -t tmpfs -o size=64k none {agent.runtime} && {{ {fill}; exec "$@"; }}'
    agent.prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]


def _seen_by(agent: RunningAgent, name: str) -> Path:
    assert agent.process is not None
    return Path(f"/proc/{agent.process.pid}/root{agent.runtime}/{name}")


def _counts(agent: RunningAgent) -> bool:
    """Whether the file of the limits holds what was destroyed."""
    with contextlib.suppress(FileNotFoundError):
        return '"entries":[[' in _seen_by(agent, "budget.json").read_text()
    return False


def test_a_disk_that_was_full_at_the_start(
    uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent
) -> None:
    """It enforces, within the limits, and says that it cannot count for the next one."""
    agent = start_agent(uplinks.host, policy(_GONE, limits=_HOURLY), start=False)
    _on_a_small_disk(agent, f"head -c 1m /dev/zero > {agent.runtime}/filling")
    agent.start_blind()
    full = (os.strerror(errno.ENOSPC), "budget.json")
    until(lambda: agent.log_lines(*full), "the log says it", seconds=10)
    until(lambda: _living(doomed) == 10, "as many as may be are gone", seconds=10)
    # Written when the look is over.
    until(agent.metrics_file.exists, "it tells numbers", seconds=10)
    until(lambda: agent.metrics()["faults"] >= 1, "a metric says it", seconds=10)
    _seen_by(agent, "filling").unlink()
    until(lambda: _counts(agent), "what was destroyed is written down", seconds=20)
    assert _living(doomed) == 10


def test_a_disk_that_fills_up_later(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """The room for the count is there already: it destroys, and counts."""
    talks = [uplinks.tcp(uplinks.service4) for _each in range(3)]
    agent = start_agent(uplinks.host, policy(_GONE, limits=_HOURLY), start=False)
    _on_a_small_disk(agent, ":")
    agent.start_blind()
    until(lambda: _seen_by(agent, "status.json").exists(), "it has looked", seconds=10)
    with pytest.raises(OSError, match="No space"), _seen_by(agent, "filling").open("wb") as file:
        file.write(bytes(1 << 20))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: _living(talks) == 1, "as many as may be are gone", seconds=10)
    full = os.strerror(errno.ENOSPC)
    until(lambda: agent.log_lines(full, "status"), "it could write nothing else")
    assert _counts(agent)
    assert agent.log_lines(full, "budget.json") == []


def test_reloads_of_the_same_policy_put_no_hold_off(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "1s"}))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    end = time.monotonic() + 5
    while alive(talk.sock) and time.monotonic() < end:
        agent.signal(signal.SIGHUP)
        time.sleep(0.2)
    assert not alive(talk.sock)
    assert len(agent.log_lines(f"digest={agent.status()['policy']['digest']}")) > 3
