# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tools/lab, and find the traces of a lab on the machine."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.hosts import cgroups
from tests.support.hosts.paths import CHECKOUT, LabPaths

TOOL = CHECKOUT / "tools" / "lab"
_SECONDS = 60


class Commands:
    """Runs tools/lab and records the names of its labs."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._names: list[str] = []

    def name(self) -> str:
        """Return an unused name for a lab."""
        self._names.append(f"test-{os.getpid()}-{next(self._numbers)}")
        return self._names[-1]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and return its process."""
        return subprocess.Popen(
            [str(TOOL), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *arguments: str) -> str:
        """Run a command, which must succeed, and return its output."""
        done = subprocess.run(
            [str(TOOL), *arguments], capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(self, *arguments: str) -> str:
        """Run a command, which must fail, and return its error."""
        done = subprocess.run(
            [str(TOOL), *arguments], capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 1, done.stdout
        return done.stderr

    def up(self, *hosts: str, name: str | None = None, owner: int | None = None) -> dict[str, Any]:
        """Start a lab and return its description."""
        options = ["--owner", str(owner)] if owner else []
        return json.loads(self.run("up", "--name", name or self.name(), *options, *hosts))

    def take_down_all(self) -> None:
        """Stop all labs that still run."""
        for name in self._names:
            if LabPaths().lab(name).exists():
                self.run("down", "--missing-ok", name)


def ssh(lab: dict[str, Any], host: str, command: str) -> str:
    """Run a command in a host over SSH and return its output."""
    done = subprocess.run(
        [lab["ssh"], host, command], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def namespaces(lab: dict[str, Any]) -> set[str]:
    """Network and PID namespaces of the lab's processes, without those of this process."""
    own = set(_namespaces_of(os.getpid()))
    pids = cgroups.processes(cgroups.lab_cgroup(lab["name"]))
    return {namespace for pid in pids for namespace in _namespaces_of(pid)} - own


def processes_in(inodes: set[str]) -> list[int]:
    """Processes of this machine in one of these namespaces."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if inodes & set(_namespaces_of(pid))]


def processes_with_argument(text: str) -> list[int]:
    """Other processes that have ``text`` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def is_removed(name: str) -> bool:
    """Whether the lab has no directory, cgroups, processes or mounts."""
    return not (
        LabPaths().lab(name).exists()
        or cgroups.lab_cgroup(name).exists()
        or processes_with_argument(name)
        or name in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    )


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for the condition. Raises AssertionError after the timeout in seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.05)


def _namespaces_of(pid: int) -> list[str]:
    found = []
    for kind in ("net", "pid"):
        try:
            found.append(os.readlink(f"/proc/{pid}/ns/{kind}"))
        except OSError:
            continue
    return found
