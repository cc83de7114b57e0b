# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the agent as a process in a namespace, and reads its outputs."""

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

# The agent's parent process owns the sockets under test: the guard would protect all of them.
PROTECT = {"control_connection": False}


def policy(*rules: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a policy without holds, unless a rule or `more` has others."""
    return {
        "version": 1,
        "limits": {"max_sockets": 10_000, "per": "1s"},
        "protect": PROTECT,
        "rules": [{"hold": 0, **rule} for rule in rules],
        **more,
    }


class RunningAgent:
    """An agent with its files in a test directory.

    document: the policy; None: no policy file. start: start it now.
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
        # Compile the core once for all tests.
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
        """Replace the policy file atomically."""
        new = self.policy.with_suffix(".new")
        if isinstance(document, bytes):
            new.write_bytes(document)
        else:
            new.write_text(json.dumps(document))
        new.replace(self.policy)

    def _arguments(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "linuxnet_sockets.agent.cli", *arguments]

    def _directories(self) -> list[str]:
        return ["--state-directory", str(self.state), "--runtime-directory", str(self.runtime)]

    def start(self) -> None:
        pid = self.start_without_waiting().pid
        until(lambda: self.status().get("pid") == pid, "first pass", seconds=15)

    def start_without_waiting(self) -> subprocess.Popen[Any]:
        """Start the agent without waiting for its first pass."""
        with self.log_file.open("ab") as log:
            self.process = self.where.spawn(
                *self.prefix,
                *self._arguments("run", "--policy", str(self.policy), "--resync", self._resync),
                *self._directories(),
                "--metrics",
                str(self.metrics_file),
                stdout=log,
                stderr=log,
                env=self._environ,
            )
        return self.process

    def command(self, name: str, *arguments: str, own_directories: bool = True) -> tuple[int, str]:
        """Run a command of socket-agent in the namespace; return exit status and output."""
        directories = self._directories() if own_directories else []
        done = subprocess.run(
            self.where.command(*self._arguments(name, *directories, *arguments)),
            capture_output=True,
            text=True,
            timeout=30,
            env=self._environ,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def start_command(self, name: str, output: Path, *arguments: str) -> subprocess.Popen[Any]:
        """Start a command of socket-agent in the namespace. output: file for what it prints."""
        with output.open("ab") as out:
            return self.where.spawn(
                *self._arguments(name, *self._directories(), *arguments),
                stdout=out,
                env=self._environ,
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Send SIGKILL: the agent cleans up nothing."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=10)

    def reload(self, document: object) -> None:
        """Write a policy and send SIGHUP; return when the policy is in force or rejected."""
        before = self.status()
        self.write(document)
        self.signal(signal.SIGHUP)
        until(
            lambda: (
                (self.status()["policy"], self.status()["rejected"])
                != (before["policy"], before["rejected"])
            ),
            "policy reloaded",
        )

    def status(self) -> dict[str, Any]:
        """Return status.json; {} if there is none."""
        try:
            found = json.loads((self.runtime / "status.json").read_text())
        except FileNotFoundError:
            return {}
        assert isinstance(found, dict)
        return found

    def log(self) -> str:
        return self.log_file.read_text()

    def log_lines(self, *parts: str) -> list[str]:
        """Return the log lines that contain all parts."""
        return [line for line in self.log().splitlines() if all(part in line for part in parts)]

    def destroyed(self) -> dict[int, str]:
        """Return the destroyed sockets of the log: rule by cookie."""
        found: dict[int, str] = {}
        for line in self.log().splitlines():
            fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
            if line.startswith("destroyed "):
                found[int(fields["cookie"], 16)] = fields["rule"]
        return found

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name and labels."""
        found = {}
        for line in self.metrics_file.read_text().splitlines():
            if not line.startswith("#"):
                name, _space, value = line.rpartition(" ")
                found[name.removeprefix("linuxnet_sockets_")] = float(value)
        return found

    def passes(self) -> int:
        return int(self.status()["passes"])

    def wait_for_pass(self) -> None:
        """Wait for a pass that began after this call: the first to end may have begun before."""
        for _pass in range(2):
            self._wait_for_one_pass()

    def _wait_for_one_pass(self) -> None:
        before = self.passes()
        for verb in ("add", "del"):
            self.where.output("ip", "address", verb, "127.200.0.1/32", "dev", "lo")
        until(lambda: self.passes() > before, "next pass")

    def notify(self) -> None:
        """Connect to the agent, which makes it check its files."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(str(self.runtime / "agent.sock"))

    def listen(self) -> io.TextIOWrapper:
        """Follow the events. The caller closes the stream."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as reader:
            reader.settimeout(10)
            reader.connect(str(self.runtime / "agent.sock"))
            reader.sendall(b'{"request": "events"}\n')
            stream = reader.makefile(encoding="utf-8")
            assert json.loads(stream.readline()) == {"answer": {}}
            return stream


def alive(sock: socket.socket) -> bool:
    """Return whether the socket is connected: a destroyed one has no remote address."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
