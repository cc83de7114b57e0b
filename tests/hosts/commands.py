# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/lab as a person runs it, and what can be seen of a lab from the machine."""

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
from tests.support.hosts.places import CHECKOUT, Places

TOOL = CHECKOUT / "tools" / "lab"
_SECONDS = 60


class Commands:
    """Runs tools/lab, and knows which labs it brought up."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._names: list[str] = []

    def name(self) -> str:
        """A name that no other lab on this machine has."""
        self._names.append(f"test-{os.getpid()}-{next(self._numbers)}")
        return self._names[-1]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command and let it run."""
        return subprocess.Popen(
            [str(TOOL), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *arguments: str) -> str:
        """What the command printed. It has to succeed."""
        done = subprocess.run(
            [str(TOOL), *arguments], capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(self, *arguments: str) -> str:
        """What the command said when it failed, as it has to."""
        done = subprocess.run(
            [str(TOOL), *arguments], capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 1, done.stdout
        return done.stderr

    def up(self, *hosts: str, name: str | None = None, owner: int | None = None) -> dict[str, Any]:
        """Bring a lab up; its description."""
        options = ["--owner", str(owner)] if owner else []
        return json.loads(self.run("up", "--name", name or self.name(), *options, *hosts))

    def clear(self) -> None:
        """Take down whatever is still up."""
        for name in self._names:
            if Places().lab(name).exists():
                self.run("down", "--missing-ok", name)


def ssh(lab: dict[str, Any], host: str, command: str) -> str:
    """What a command printed that ran in the host, over ssh."""
    done = subprocess.run(
        [lab["ssh"], host, command], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def namespaces(lab: dict[str, Any]) -> set[str]:
    """Every network and PID namespace that processes of the lab are in, and this one is not."""
    own = set(_namespaces_of(os.getpid()))
    pids = cgroups.processes(cgroups.of_lab(lab["name"]))
    return {namespace for pid in pids for namespace in _namespaces_of(pid)} - own


def holders(wanted: set[str]) -> list[int]:
    """The processes of this machine that are in one of these namespaces."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if wanted & set(_namespaces_of(pid))]


def mentions(text: str) -> list[int]:
    """The processes that have ``text`` on their command line, this one apart."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def nothing_left(name: str) -> bool:
    """Whether the machine shows no trace of the lab: directory, cgroups, processes, mounts."""
    return not (
        Places().lab(name).exists()
        or cgroups.of_lab(name).exists()
        or mentions(name)
        or name in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    )


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what has to come true soon."""
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
