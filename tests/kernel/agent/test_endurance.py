# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Floods, kills and garbage: the agent destroys all violations and nothing else.

The tests compare the socket cookies. ENDURANCE=full: a million route changes, ten thousand flaps.
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
from tests.support.topologies.networks import UplinkConnection, Uplinks, ip
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


def _batch(where: LabNamespace, folder: Path, lines: list[str]) -> None:
    file = folder / "batch"
    file.write_text("".join(f"{line}\n" for line in lines))
    where.output("ip", "-batch", str(file))


def _cpu_s(agent: RunningAgent) -> float:
    """Return the CPU time of the agent (Documentation/scheduler/sched-stats.rst), in seconds."""
    assert agent.process is not None
    # proc_pid_stat(5) counts in ticks of 0.01 s.
    threads = Path(f"/proc/{agent.process.pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def _resident_bytes(agent: RunningAgent) -> int:
    assert agent.process is not None
    pages = Path(f"/proc/{agent.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _assert_enforced(
    agent: RunningAgent, kept: list[UplinkConnection], destroyed: list[UplinkConnection]
) -> None:
    until(
        lambda: not any(alive(connection.sock) for connection in destroyed),
        "violations destroyed",
        seconds=15,
    )
    agent.wait_for_pass()
    assert all(alive(connection.sock) for connection in kept)
    assert set(agent.destroyed()) == {connection.cookie for connection in destroyed}


def test_route_flood(uplinks: Uplinks, start_agent: StartAgent, tmp_path: Path) -> None:
    """The agent uses a tenth of a core at most, and enforces a change in the middle of it."""
    kept = [uplinks.tcp(uplinks.wlan4_gateway), uplinks.tcp(uplinks.service6)]
    violating = [uplinks.tcp(uplinks.service4) for _connection in range(20)]
    agent = start_agent(uplinks.host, policy(_GONE))
    half = _ROUTE_CHANGES // 4
    lines = [f"route add 100.64.{n >> 8 & 255}.{n & 255}/32 dev lo" for n in range(half % 65_536)]
    lines += [line.replace(" add ", " del ") for line in lines]
    per_batch = len(lines)
    began, before = time.monotonic(), _cpu_s(agent)
    changed, deleted = 0, False
    while changed < _ROUTE_CHANGES:
        _batch(uplinks.host, tmp_path, lines)
        changed += per_batch
        if not deleted and changed >= _ROUTE_CHANGES // 2:
            ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
            deleted = True
    elapsed_s = time.monotonic() - began
    cpu_s = _cpu_s(agent) - before
    assert cpu_s <= 0.1 * elapsed_s + 0.05, f"{cpu_s:.2f} s of {elapsed_s:.2f} s"
    _assert_enforced(agent, kept, violating)
    assert _resident_bytes(agent) < 60e6


def test_flaps(uplinks: Uplinks, start_agent: StartAgent, tmp_path: Path) -> None:
    """An address disappears and comes back within the hold, and finally stays away."""
    kept = [uplinks.tcp(uplinks.wlan4_gateway)]
    violating = [uplinks.tcp(uplinks.service4) for _connection in range(3)]
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "3s"}))
    flap = [
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr add {uplinks.eth4}/24 dev eth0",
        f"route replace {uplinks.default4}",
    ]
    for _batch_number in range(_FLAPS // 200):
        _batch(uplinks.host, tmp_path, flap * 200)
        assert all(alive(connection.sock) for connection in (*kept, *violating))
    assert agent.destroyed() == {}
    ip(uplinks.host, flap[0])
    _assert_enforced(agent, kept, violating)


def test_kill_at_any_moment(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """Agents are killed and started while connections become stranded; the last one stays."""
    chance = random.Random(4433)
    kept = [uplinks.tcp(uplinks.wlan4_gateway), uplinks.tcp(uplinks.service6)]
    violating: list[UplinkConnection] = []
    agent = start_agent(uplinks.host, policy(_GONE))
    for _kill in range(_KILLS):
        address = f"192.0.2.{chance.randrange(50, 250)}"
        ip(uplinks.host, f"addr replace {address}/24 dev eth0")
        violating += [uplinks.tcp(uplinks.eth4_gateway, address) for _connection in range(4)]
        ip(uplinks.host, f"addr del {address}/24 dev eth0")
        time.sleep(chance.uniform(0, 0.06))
        agent.kill()
        agent.start_without_waiting()
        time.sleep(chance.uniform(0, 0.4))
        agent.kill()
        agent.start()
    until(
        lambda: not any(alive(connection.sock) for connection in violating), "violations destroyed"
    )
    agent.wait_for_pass()
    assert all(alive(connection.sock) for connection in kept)
    # A killed agent may not have logged its last destroys.
    assert set(agent.destroyed()) <= {connection.cookie for connection in violating}


def test_garbage_policies(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """Truncated and corrupted files: the agent keeps the policy in force."""
    chance = random.Random(77)
    kept = [uplinks.tcp(uplinks.service4), uplinks.tcp(uplinks.service6)]
    valid = policy(_GONE)
    text = json.dumps(valid).encode()
    agent = start_agent(uplinks.host, valid)
    digest = agent.status()["policy"]["digest"]
    for number in range(_GARBAGE):
        broken = bytearray(text)
        for _change in range(chance.randrange(1, 6)):
            kind = chance.randrange(3)
            at = chance.randrange(len(broken))
            if kind == 0:
                del broken[at:]
            elif kind == 1:
                broken[at] = chance.randrange(256)
            else:
                broken[at:at] = chance.choice((b"{", b"]", b"null", b'"', b"\0", b"1e999", b","))
            if not broken:
                break
        # The suffix makes it invalid in any case.
        agent.write(bytes(broken) + b"}")
        agent.signal(signal.SIGHUP)
        until(
            lambda count=number + 1: agent.metrics().get("policy_rejections_total") == count,
            "policy rejected",
        )
    assert agent.process is not None
    assert agent.process.poll() is None
    assert agent.status()["policy"]["digest"] == digest
    assert all(alive(connection.sock) for connection in kept)
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    _assert_enforced(agent, kept[1:], kept[:1])


def test_idle(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """No passes but the resync, and no measurable CPU time."""
    uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    agent.wait_for_pass()
    # The last events of the topology may cause more passes.
    last, since = agent.passes(), time.monotonic()
    while time.monotonic() - since < 1.0:
        time.sleep(0.1)
        if agent.passes() != last:
            last, since = agent.passes(), time.monotonic()
    passes, before = agent.passes(), _cpu_s(agent)
    time.sleep(2)
    assert agent.passes() <= passes + 1
    assert _cpu_s(agent) - before <= 0.02
    assert _resident_bytes(agent) < 60e6
