# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens to the agent: afterwards the state is what the policy says, and nothing was
destroyed that did not violate it. The cookies are checked from outside.

With ENDURANCE=full: a million changes of routes, ten thousand flaps.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, alive, policy
from tests.support.topologies.networks import Talk, Uplinks, ip
from tests.support.topologies.topology import LabNamespace
from tests.support.topologies.waiting import until

_FULL = os.environ.get("ENDURANCE") == "full"
_ROUTE_CHANGES = 1_000_000 if _FULL else 60_000
_FLAPS = 10_000 if _FULL else 400
_KILLS = 60 if _FULL else 8
_GARBAGE = 400 if _FULL else 30

_GONE = {
    "name": "gone",
    "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone", "unroutable"]},
}


def _batch(where: LabNamespace, folder: Path, lines: list[str], *words: str) -> None:
    file = folder / "batch"
    file.write_text("".join(f"{line}\n" for line in lines))
    where.output("ip", "-batch", str(file), *words)


def _processor_s(agent: RunningAgent) -> float:
    """User and system time of the agent so far (proc(5), stat)."""
    assert agent.process is not None
    fields = Path(f"/proc/{agent.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(agent: RunningAgent) -> int:
    assert agent.process is not None
    pages = Path(f"/proc/{agent.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _states_are_right(agent: RunningAgent, living: list[Talk], dead: list[Talk]) -> None:
    until(lambda: not any(alive(talk.sock) for talk in dead), "what violates is gone", seconds=15)
    agent.looked_again()
    assert all(alive(talk.sock) for talk in living)
    assert set(agent.destroyed()) == {talk.cookie for talk in dead}


def test_a_storm_of_routes(uplinks: Uplinks, start_agent: StartAgent, tmp_path: Path) -> None:
    """It takes a tenth of a core at most, and what happens in the midst of it is not missed."""
    living = [uplinks.tcp(uplinks.wlan4_gateway), uplinks.tcp(uplinks.service6)]
    doomed = [uplinks.tcp(uplinks.service4) for _each in range(20)]
    agent = start_agent(uplinks.host, policy(_GONE))
    half = _ROUTE_CHANGES // 4
    lines = [f"route add 100.64.{n >> 8 & 255}.{n & 255}/32 dev lo" for n in range(half % 65_536)]
    lines += [line.replace(" add ", " del ") for line in lines]
    once = len(lines)
    began, before = time.monotonic(), _processor_s(agent)
    changed, deleted = 0, False
    while changed < _ROUTE_CHANGES:
        _batch(uplinks.host, tmp_path, lines)
        changed += once
        if not deleted and changed >= _ROUTE_CHANGES // 2:
            ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
            deleted = True
    took = time.monotonic() - began
    spent = _processor_s(agent) - before
    # The clock of /proc ticks 100 times a second.
    assert spent <= 0.1 * took + 0.05, f"{spent:.2f} s of {took:.2f} s"
    _states_are_right(agent, living, doomed)
    assert _resident_bytes(agent) < 60e6


def test_flaps(uplinks: Uplinks, start_agent: StartAgent, tmp_path: Path) -> None:
    """An address that goes and comes back, always within its hold, and at last does not."""
    living = [uplinks.tcp(uplinks.wlan4_gateway)]
    doomed = [uplinks.tcp(uplinks.service4) for _each in range(3)]
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "3s"}))
    flap = [
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr add {uplinks.eth4}/24 dev eth0",
        f"route replace {uplinks.default4}",
    ]
    for _each in range(_FLAPS // 200):
        _batch(uplinks.host, tmp_path, flap * 200)
        assert all(alive(talk.sock) for talk in (*living, *doomed))
    assert agent.destroyed() == {}
    ip(uplinks.host, flap[0])
    _states_are_right(agent, living, doomed)


def test_killed_at_any_moment(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """While connections become stranded, agents are killed and started; in the end one stays."""
    chance = random.Random(4433)
    living = [uplinks.tcp(uplinks.wlan4_gateway), uplinks.tcp(uplinks.service6)]
    doomed: list[Talk] = []
    agent = start_agent(uplinks.host, policy(_GONE))
    for _each in range(_KILLS):
        address = f"192.0.2.{chance.randrange(50, 250)}"
        ip(uplinks.host, f"addr replace {address}/24 dev eth0")
        doomed += [uplinks.tcp(uplinks.eth4_gateway, address) for _talk in range(4)]
        ip(uplinks.host, f"addr del {address}/24 dev eth0")
        time.sleep(chance.uniform(0, 0.06))
        agent.kill()
        agent.start_blind()
        time.sleep(chance.uniform(0, 0.4))
        agent.kill()
        agent.start()
    until(lambda: not any(alive(talk.sock) for talk in doomed), "what violates is gone")
    agent.looked_again()
    assert all(alive(talk.sock) for talk in living)
    # A killed one may have had no time to log it; nobody else's cookie is there.
    assert set(agent.destroyed()) <= {talk.cookie for talk in doomed}


def test_garbage_for_a_policy(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """Files that were cut, mixed up or overwritten: the agent keeps the policy that it has."""
    chance = random.Random(77)
    living = [uplinks.tcp(uplinks.service4), uplinks.tcp(uplinks.service6)]
    whole = policy(_GONE)
    text = json.dumps(whole).encode()
    agent = start_agent(uplinks.host, whole)
    digest = agent.status()["policy"]["digest"]
    for number in range(_GARBAGE):
        broken = bytearray(text)
        for _each in range(chance.randrange(1, 6)):
            how = chance.randrange(3)
            at = chance.randrange(len(broken))
            if how == 0:
                del broken[at:]
            elif how == 1:
                broken[at] = chance.randrange(256)
            else:
                broken[at:at] = chance.choice((b"{", b"]", b"null", b'"', b"\0", b"1e999", b","))
            if not broken:
                break
        # Never a policy, whatever else it is.
        agent.write(bytes(broken) + b"}")
        agent.signal(signal.SIGHUP)
        until(
            lambda count=number + 1: agent.metrics().get("policy_rejections_total") == count,
            "it was refused",
        )
    assert agent.process is not None
    assert agent.process.poll() is None
    assert agent.status()["policy"]["digest"] == digest
    assert all(alive(talk.sock) for talk in living)
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    _states_are_right(agent, living[1:], living[:1])


def test_idle(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """It sleeps: no look but the regular one, no processor time that can be measured."""
    uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    agent.looked_again()
    looks, before = agent.looks(), _processor_s(agent)
    time.sleep(2)
    assert agent.looks() <= looks + 1
    assert _processor_s(agent) - before <= 0.02
    assert _resident_bytes(agent) < 60e6
