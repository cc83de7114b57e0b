# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""salt-ssh, the agent and the orchestrated cutover, on hosts of the lab with systemd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.utils.yaml

from tests.hosts.commands import TOOL, Commands
from tests.integration.socket_process import SocketProcess
from tests.salt.integration.fleet import DATABASE, DATABASE_PORT, EXAMPLES
from tests.support.hosts import paths
from tests.support.hosts.errors import LabError

HOSTS = ("web1", "web2")
BATCHES = {"batches": [["web1"], ["web2"]], "ssh": True}

OTHER_POLICY = {
    "version": 1,
    "limits": {"max_sockets": 10, "per": "1m"},
    "rules": [{"name": "other", "match": {"remote": "203.0.113.9"}}],
}
# Connects to the server, and prints what ends the connection.
_CLIENT = f"""
import errno, socket
sock = socket.create_connection(("{DATABASE}", {DATABASE_PORT}))
print("connected", flush=True)
try:
    sock.recv(1)
    print("closed", flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
"""


class Hosts:
    """A lab with two hosts, and a master without a daemon that reaches them by salt-ssh."""

    def __init__(self, commands: Commands, root: Path) -> None:
        self._root = root
        self._commands = commands
        self.processes: list[subprocess.Popen[str]] = []
        self.lab = commands.up(*(f"{name}=bookworm" for name in HOSTS), owner=os.getpid())
        # The controller also is the old database.
        self._enter("ip", "addr", "add", f"{DATABASE}/24", "dev", "br0")
        self._server = SocketProcess(self._spawn, *self._in_network())
        self._server.listen(DATABASE, DATABASE_PORT)
        self._write("master", self._config())
        # The daemon would create it.
        (root / "var/cache/salt/master/proc").mkdir(parents=True)
        self._write("roster", {name: self._target(name) for name in HOSTS})

    def _spawn(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        self.processes.append(subprocess.Popen(words, **options))
        return self.processes[-1]

    def _config(self) -> dict[str, Any]:
        return {
            "root_dir": str(self._root),
            "known_hosts_file": str(Path(self.lab["directory"]) / "known_hosts"),
            "ssh_log_file": "ssh.log",
            "roster_file": str(self._root / "roster"),
            "file_roots": {"base": [str(EXAMPLES / "salt")]},
            "pillar_roots": {"base": [str(EXAMPLES / "pillar")]},
        }

    def _target(self, name: str) -> dict[str, Any]:
        return {
            "host": self.lab["hosts"][name]["ipv4"],
            "user": "ops",
            "sudo": True,
            "priv": self.lab["identity_file"],
        }

    def _write(self, name: str, content: dict[str, Any]) -> None:
        (self._root / name).write_text(salt.utils.yaml.safe_dump(content))

    def _in_network(self) -> list[str]:
        return [str(TOOL), "enter", self.lab["name"]]

    def _enter(self, *words: str) -> str:
        done = subprocess.run(
            [*self._in_network(), *words], capture_output=True, text=True, timeout=150, check=False
        )
        assert done.stdout or done.returncode == 0, done.stderr
        return done.stdout

    def _salt(self, name: str, *words: str) -> Any:
        script = str(Path(sys.executable).with_name(name))
        config = f"--config-dir={self._root}"
        return json.loads(self._enter(sys.executable, script, config, "--out=json", *words))

    def ssh(self, target: str, function: str, *arguments: str) -> dict[str, Any]:
        """The returns of salt-ssh, by host."""
        words = ["--static", target, function, *arguments]
        found: dict[str, Any] = self._salt("salt-ssh", *words)
        return found

    def orchestrate(self, name: str, **pillar: Any) -> dict[str, Any]:
        """The results of an orchestration, by the ID of each state."""
        found = self._salt("salt-run", "state.orchestrate", name, f"pillar={json.dumps(pillar)}")
        assert isinstance(found, dict), found
        (states,) = found["data"].values()
        return {state["__id__"]: state for state in states.values()}

    def execute(self, host: str, command: str) -> str:
        return self._commands.run("exec", self.lab["name"], host, "sh", "-c", command).strip()

    def connect(self, host: str) -> Connection:
        """A connection of the host to the old database."""
        command = [str(TOOL), "exec", self.lab["name"], host, "python3", "-c", _CLIENT]
        return Connection(self._spawn(*command, stdout=subprocess.PIPE, text=True))


class Connection:
    """A process that holds a connection and prints what ends it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self.read() == "connected"

    def read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    @property
    def is_open(self) -> bool:
        return self._process.poll() is None

    def end(self) -> str:
        """What ended the connection; waits for it."""
        return self.read()


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    try:
        paths.require_root()
    except LabError as error:
        pytest.skip(str(error))
    commands = Commands()
    # Paths of unix sockets have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="salt-") as root:
        try:
            made = Hosts(commands, Path(root))
            yield made
            for process in made.processes:
                process.kill()
                process.communicate()
        finally:
            commands.take_down_all()


def only_state(returned: dict[str, Any]) -> dict[str, Any]:
    (state,) = returned.values()
    return dict(state)


@pytest.mark.needs_root
def test_salt_ssh_keeps_its_own_connection(hosts: Hosts) -> None:
    result = hosts.ssh("web1", "sockets.destroy", "remote=192.0.2.254")["web1"]

    assert result.get("matched", 0) >= 1, result
    assert result["outcomes"] == {"protected": result["matched"]}
    assert "control_connection" in {each["reason"] for each in result["protected"]}


@pytest.mark.needs_root
def test_an_orchestration_previews_cuts_over_and_rolls_back(hosts: Hosts) -> None:
    """The second batch fails after the preview: its host cannot install a package."""
    connections = {name: hosts.connect(name) for name in HOSTS}

    preview = hosts.orchestrate("orch.sockets_cutover", **BATCHES)

    assert list(preview) == ["preview"]
    assert preview["preview"]["result"] is None, preview
    shown = preview["preview"]["changes"]["ret"]
    for name in HOSTS:
        lines = [
            line for state in shown[name].values() for line in state["changes"].get("destroyed", [])
        ]
        assert [f"-> {DATABASE}:{DATABASE_PORT} " in line for line in lines] == [True]
        assert connections[name].is_open

    hosts.execute("web2", "rm /srv/packages/*.deb")
    states = hosts.orchestrate("orch.sockets_cutover", **BATCHES, confirm=True)

    results = {name: state["result"] for name, state in states.items()}
    assert results["cut-over-batch-1"] is results["confirm-batch-1"] is True, json.dumps(
        states, indent=1
    )
    assert results["cut-over-batch-2"] is results["confirm-batch-2"] is False
    assert connections["web1"].end() == "ECONNABORTED"
    assert connections["web2"].is_open
    status = json.loads(hosts.execute("web1", "socket-agent status --json"))
    assert status["enforcing"]
    assert status["trial"] is None

    again = only_state(hosts.ssh("web1", "state.apply", "sockets.agent")["web1"])
    assert (again["result"], again["changes"]) == (True, {})

    metrics, protected = "/var/tmp/agent.prom", "/etc/linuxnet-sockets/protect.d/agent-mine.json"
    changed = only_state(
        hosts.ssh(
            "web1",
            "state.single",
            "sockets.agent_running",
            "name=changed",
            f"policy={json.dumps(OTHER_POLICY)}",
            'protect={"mine": [{"remote": "198.51.100.53"}]}',
            f"metrics_file={metrics}",
        )["web1"]
    )
    assert changed["result"] is True, changed
    assert set(changed["changes"]) == {
        "/etc/linuxnet-sockets/policy.json",
        "/etc/systemd/system/socket-agent.service",
        "service socket-agent.service",
        metrics,
        protected,
    }
    assert json.loads(hosts.execute("web1", f"cat {protected}")) == [{"remote": "198.51.100.53"}]
    assert "linuxnet_sockets_enforcing 1" in hosts.execute("web1", f"cat {metrics}")

    rolled_back = hosts.orchestrate("orch.sockets_rollback", batches=[["web1"]], ssh=True)
    assert rolled_back["rollback"]["result"] is True
    left = hosts.execute(
        "web1",
        "ls -d /etc/linuxnet-sockets /usr/local/sbin/socket-agent "
        f"/var/lib/linuxnet-sockets {metrics} 2>/dev/null; id linuxnet-sockets 2>/dev/null; true",
    )
    assert left == ""
