# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent takes while nothing happens, and while the table of routes is rewritten."""

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
from typing import NamedTuple

from tests.bench import measure

_CORE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_core"
_POLICY = {
    "version": 1,
    "limits": {"max_sockets": 10_000, "per": "1s"},
    # The bench holds the connections and is the agent's parent: else it would spare them.
    "protect": {"control_connection": False},
    "rules": [{"name": "gone", "match": {"stranded": "address_gone"}, "hold": 0}],
}
_IDLE_S = 3.0
_MOST_MIB = 60.0
_MOST_OF_A_CORE = 0.1
# The clock of /proc/PID/stat ticks 100 times a second: less than two ticks is nothing measurable.
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_CHANGES = 100_000
_AT_ONCE = 10_000


class Promise(NamedTuple):
    """A number with a limit."""

    name: str
    value: float
    unit: str
    at_most: float

    @property
    def kept(self) -> bool:
        return self.value <= self.at_most

    def line(self) -> str:
        return (
            f"{self.name:<38} {self.value:7.2f} {self.unit}"
            f"   at most {self.at_most:g}: {'kept' if self.kept else 'NOT KEPT'}"
        )


def promises() -> list[Promise]:
    with agent() as pid:
        # What it found at its start has been dealt with.
        time.sleep(1)
        before = _processor_s(pid)
        time.sleep(_IDLE_S)
        idle = _processor_s(pid) - before
        resident = _resident_mib(pid)
        share = _storm(pid)
        storm_resident = _resident_mib(pid)
    return [
        Promise("idle agent: resident memory", resident, "MiB", _MOST_MIB),
        Promise(f"idle agent: processor in {_IDLE_S:g} s", idle, "s", _TICK_S),
        Promise(f"agent under {_CHANGES} route changes", share, "of a core", _MOST_OF_A_CORE),
        Promise("  and its resident memory", storm_resident, "MiB", _MOST_MIB),
    ]


def _storm(pid: int) -> float:
    """What part of a core the agent takes meanwhile."""
    lines = [f"route add 100.64.{n >> 8}.{n & 255}/32 dev lo" for n in range(_AT_ONCE // 2)]
    lines += [line.replace(" add ", " del ") for line in lines]
    with tempfile.NamedTemporaryFile("w") as batch:
        batch.write("".join(f"{line}\n" for line in lines))
        batch.flush()
        before, began = _processor_s(pid), time.monotonic()
        for _each in range(_CHANGES // _AT_ONCE):
            measure.run_quietly("ip", "-batch", batch.name)
        # The rest after the last look belongs to it.
        time.sleep(0.5)
        return (_processor_s(pid) - before) / (time.monotonic() - began)


def _processor_s(pid: int) -> float:
    """User and system time so far (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def started(*words: str, environ: dict[str, str] | None = None) -> Iterator[int]:
    """A process that leads a group of its own; its pid."""
    process = subprocess.Popen(
        words,
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
def agent() -> Iterator[int]:
    """One that has looked; what loses its address is destroyed at once."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "linuxnet_sockets").symlink_to(_CORE)
        (base / "policy.json").write_text(json.dumps(_POLICY))
        words = (sys.executable, "-m", "linuxnet_sockets.agent.cli", "run")
        places = ("--policy", str(base / "policy.json"), "--state-directory", folder)
        where = ("--runtime-directory", folder)
        with started(*words, *places, *where, environ={"PYTHONPATH": folder}) as pid:
            _until((base / "status.json").exists)
            yield pid


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        if time.monotonic() > end:
            raise SystemExit("the agent does not start")
        time.sleep(0.05)
