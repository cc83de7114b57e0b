# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time and memory of an agent: idle, and during a flood of route changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import measure

_CORE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_core"
_POLICY: dict[str, Any] = {
    "version": 1,
    "limits": {"max_sockets": 10_000, "per": "1s"},
    # The bench owns the connections and is the agent's parent: the guard would protect them.
    "protect": {"control_connection": False},
    "rules": [{"name": "gone", "match": {"stranded": "address_gone"}, "hold": 0}],
}
_IDLE_S = 3.0
_MAX_MIB = 60.0
_MAX_CORE_SHARE = 0.1
# The resolution of /proc/PID/stat. Less than two ticks is not measurable.
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_CHANGES = 100_000
_BATCH_SIZE = 10_000


class Limit(NamedTuple):
    """A measured value with a maximum."""

    name: str
    value: float
    unit: str
    maximum: float

    @property
    def passed(self) -> bool:
        return self.value <= self.maximum

    def line(self) -> str:
        return (
            f"{self.name:<40} {self.value:7.2f} {self.unit:<9}"
            f"   limit {self.maximum:g}: {'met' if self.passed else 'EXCEEDED'}"
        )


def measure_agent() -> list[Limit]:
    with agent() as pid:
        # The first pass is over.
        time.sleep(1)
        before = _cpu_s(pid)
        time.sleep(_IDLE_S)
        idle = _cpu_s(pid) - before
        resident = _resident_mib(pid)
        share = _route_flood(pid)
        flood_resident = _resident_mib(pid)
    return [
        Limit("agent, idle: resident memory", resident, "MiB", _MAX_MIB),
        Limit(f"agent, idle: CPU time in {_IDLE_S:g} s", idle, "s", _TICK_S),
        Limit(f"agent, {_CHANGES} route changes: CPU", share, "of a core", _MAX_CORE_SHARE),
        Limit(f"agent, {_CHANGES} route changes: memory", flood_resident, "MiB", _MAX_MIB),
    ]


def _route_flood(pid: int) -> float:
    """Return the share of a core that the agent uses during the flood."""
    lines = [f"route add 100.64.{n >> 8}.{n & 255}/32 dev lo" for n in range(_BATCH_SIZE // 2)]
    lines += [line.replace(" add ", " del ") for line in lines]
    with tempfile.NamedTemporaryFile("w") as batch:
        batch.write("".join(f"{line}\n" for line in lines))
        batch.flush()
        before, began = _cpu_s(pid), time.monotonic()
        for _batch in range(_CHANGES // _BATCH_SIZE):
            measure.run_quietly("ip", "-batch", batch.name)
        # Includes the last pass.
        time.sleep(0.5)
        return (_cpu_s(pid) - before) / (time.monotonic() - began)


def _cpu_s(pid: int) -> float:
    """Return the user and system time of a process (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def started(*command: str, environ: dict[str, str] | None = None) -> Iterator[int]:
    """Run a process in a process group of its own; yield its PID."""
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **(environ or {})},
    )
    try:
        yield process.pid
    finally:
        for number in (signal.SIGCONT, signal.SIGKILL):
            os.killpg(process.pid, number)
        process.wait()


@contextmanager
def agent(**changes: Any) -> Iterator[int]:
    """Run an agent for stranded connections; yield its PID after the first pass.

    changes: keys of the policy. By default, it has no holds.
    """
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "linuxnet_sockets").symlink_to(_CORE)
        (base / "policy.json").write_text(json.dumps({**_POLICY, **changes}))
        command = (sys.executable, "-m", "linuxnet_sockets.agent.cli", "run")
        options = ("--policy", str(base / "policy.json"), "--state-directory", folder)
        options += ("--runtime-directory", folder)
        with started(*command, *options, environ={"PYTHONPATH": folder}) as pid:
            _wait_until((base / "status.json").exists)
            yield pid


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the agent did not write its status within 20 s")
        time.sleep(0.05)
