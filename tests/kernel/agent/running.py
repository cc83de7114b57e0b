# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as it runs on a host: a process of its own in a namespace, and what it says."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.topologies.topology import LabNamespace
from tests.support.topologies.waiting import until

_CORE = Path(__file__).parents[3] / "plugins" / "module_utils" / "_core"

# The sockets under test belong to the process that started the agent: else it would spare them all.
OURS = {"control_connection": False}


def policy(*rules: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A policy that destroys at once, unless a rule or `more` says otherwise."""
    return {
        "version": 1,
        "limits": {"max_sockets": 10_000, "per": "1s"},
        "protect": OURS,
        "rules": [{"hold": 0, **rule} for rule in rules],
        **more,
    }


class RunningAgent:
    """One agent; its files are in a folder of the test's.

    document: the policy, or None for no file. start False: not yet.
    """

    def __init__(
        self,
        where: LabNamespace,
        folder: Path,
        document: object,
        *,
        resync: str = "20s",
        prefix: Sequence[str] = (),
        start: bool = True,
    ) -> None:
        self.where = where
        self.policy = folder / "policy.json"
        self.state = folder / "state"
        self.runtime = folder / "run"
        self.metrics_file = folder / "agent.prom"
        self.log_file = folder / "log"
        self._modules = folder / "modules"
        # Compiled once for all tests, wherever the bytecode of others goes.
        self._environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                filter(None, (str(self._modules), os.environ.get("AGENT_PYTHONPATH")))
            ),
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(folder.parents[1] / "bytecode"),
        }
        self._resync = resync
        self.prefix = prefix
        for directory in (self.state, self.runtime, self._modules):
            directory.mkdir(parents=True, exist_ok=True)
        (self._modules / "linuxnet_sockets").symlink_to(_CORE)
        if document is not None:
            self.write(document)
        self.process: subprocess.Popen[Any] | None = None
        if start:
            self.start()

    def write(self, document: object) -> None:
        """Put a policy in place, as one step."""
        new = self.policy.with_suffix(".new")
        if isinstance(document, bytes):
            new.write_bytes(document)
        else:
            new.write_text(json.dumps(document))
        new.replace(self.policy)

    def _words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "linuxnet_sockets.agent.cli", *words]

    def _places(self) -> list[str]:
        return ["--state-directory", str(self.state), "--runtime-directory", str(self.runtime)]

    def start(self) -> None:
        pid = self.start_blind().pid
        until(lambda: self.status().get("pid") == pid, "the agent has looked", seconds=15)

    def start_blind(self) -> subprocess.Popen[Any]:
        """Start it, and do not wait for its status."""
        with self.log_file.open("ab") as log:
            self.process = self.where.spawn(
                *self.prefix,
                *self._words("run", "--policy", str(self.policy), "--resync", self._resync),
                *self._places(),
                "--metrics",
                str(self.metrics_file),
                stdout=log,
                stderr=log,
                env=self._environ,
            )
        return self.process

    def command(self, name: str, *words: str, own_places: bool = True) -> tuple[int, str]:
        """Exit status and output of another command of the program, run inside."""
        places = self._places() if own_places else []
        done = subprocess.run(
            self.where.command(*self._words(name, *places, *words)),
            capture_output=True,
            text=True,
            timeout=30,
            env=self._environ,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """As the kernel does it, at any moment: nothing is cleaned up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=10)

    def reload(self, document: object) -> None:
        """Another policy, and the signal; returns when it was taken or refused."""
        before = self.status()
        self.write(document)
        self.signal(signal.SIGHUP)
        until(
            lambda: (
                (self.status()["policy"], self.status()["rejected"])
                != (before["policy"], before["rejected"])
            ),
            "the agent has read its policy again",
        )

    def status(self) -> dict[str, Any]:
        """{}: it has written none."""
        try:
            found = json.loads((self.runtime / "status.json").read_text())
        except FileNotFoundError:
            return {}
        assert isinstance(found, dict)
        return found

    def log(self) -> str:
        return self.log_file.read_text()

    def log_lines(self, *parts: str) -> list[str]:
        """The lines of the log that contain all parts."""
        return [line for line in self.log().splitlines() if all(part in line for part in parts)]

    def destroyed(self) -> dict[int, str]:
        """By cookie: the rule that each was destroyed for, as the log says."""
        found: dict[int, str] = {}
        for line in self.log().splitlines():
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
            if line.startswith("destroyed "):
                found[int(words["cookie"], 16)] = words["rule"]
        return found

    def metrics(self) -> dict[str, float]:
        """By name and labels, as they are written."""
        found = {}
        for line in self.metrics_file.read_text().splitlines():
            if not line.startswith("#"):
                name, _space, value = line.rpartition(" ")
                found[name.removeprefix("linuxnet_sockets_")] = float(value)
        return found

    def looks(self) -> int:
        return int(self.status()["passes"])

    def looked_again(self) -> None:
        """A whole look that began after now; the first that ends may have begun before."""
        for _each in range(2):
            self._look_once()

    def _look_once(self) -> None:
        before = self.looks()
        for verb in ("add", "del"):
            self.where.output("ip", "address", verb, "127.200.0.1/32", "dev", "lo")
        until(lambda: self.looks() > before, "the agent has looked")

    def poke(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
            knock.connect(str(self.runtime / "events.sock"))

    def listen(self) -> io.TextIOWrapper:
        """The agent's events from now on; to be closed."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as reader:
            reader.settimeout(5)
            reader.connect(str(self.runtime / "events.sock"))
            return reader.makefile(encoding="utf-8")


def alive(sock: socket.socket) -> bool:
    """Whether it is still connected: what was destroyed has no remote end any more."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
