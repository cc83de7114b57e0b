# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on which the commands of the manual run literally.

It has its own network and mount namespace, a server with connections, and the VPN wg0. Changes in
/etc, /usr/local, /var/lib and /run are lost at the end: these directories are overlays.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tests.integration.controller import BIN, ROOT, environment
from tests.support.topologies.networks import tun
from tests.support.topologies.topology import Lab, Pair
from tests.support.topologies.waiting import until

_OVERLAYS = ("/etc", "/usr/local", "/var/lib", "/run")
_PROGRAMS = {"socketctl": "linuxnet_sockets.cli", "socket-agent": "linuxnet_sockets.agent.cli"}
# The commands run as root. Ansible and the manual call sudo with options that do not matter then.
_SUDO = "#!/bin/sh\n" + textwrap.dedent(
    """\
    while :; do
        case $1 in
            -u|-p|-g) shift 2;;
            -*) shift;;
            *) exec "$@";;
        esac
    done
    """
)
_HOSTS = ("web", "proxies")


class ManualHost:
    """See the module. base: a temporary directory, which is the current one of the commands."""

    def __init__(self, lab: Lab, base: Path) -> None:
        self.folder = base / "work"
        self._programs = base / "bin"
        self.pair = Pair(lab)
        self._processes: list[subprocess.Popen[Any]] = []
        self._vpn = tun(self.pair.client, "wg0")
        for directory in (self.folder, self._programs):
            directory.mkdir(parents=True)
        self._write_programs(base)
        self._namespace = self._mount_namespace(base / "overlays")

    def _write_programs(self, base: Path) -> None:
        package = base / "package"
        package.mkdir()
        core = ROOT / "plugins" / "module_utils" / "_core"
        (package / "linuxnet_sockets").symlink_to(core)
        programs = {"sudo": _SUDO}
        for name, module in _PROGRAMS.items():
            command = f'PYTHONPATH={package} exec {sys.executable} -B -m {module} "$@"'
            programs[name] = f"#!/bin/sh\n{command}\n"
        for name, text in programs.items():
            (self._programs / name).write_text(text)
            (self._programs / name).chmod(0o755)
        self._package = package

    def _mount_namespace(self, layers: Path) -> subprocess.Popen[Any]:
        """Start the process whose mount namespace the commands run in."""
        layers.mkdir()
        mounts = [f"mount -t tmpfs tmpfs {layers}"]
        for number, path in enumerate(_OVERLAYS):
            upper, work = layers / f"upper{number}", layers / f"work{number}"
            mounts += [
                f"mkdir {upper} {work}",
                f"mount -t overlay -o lowerdir={path},upperdir={upper},workdir={work} none {path}",
            ]
        # Programs that the manual calls by their path.
        mounts += [
            "mkdir -p /usr/local/sbin /etc/linuxnet-sockets/protect.d /var/lib/linuxnet-sockets",
            f"cp {self._programs}/socket-agent /usr/local/sbin/",
            "mkdir -p /run/linuxnet-sockets",
            "echo ready",
            "exec sleep 3600",
        ]
        process = self.pair.client.spawn(
            *("unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(mounts)),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def command(self, *words: str) -> list[str]:
        """The command line that runs a command on this host."""
        return self.pair.client.command(
            "nsenter", f"--mount=/proc/{self._namespace.pid}/ns/mnt", f"--wd={self.folder}", *words
        )

    def environment(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        inherited = environment(variables)
        path = os.pathsep.join((str(self._programs), str(BIN), inherited["PATH"]))
        # The reader has installed the collection, and has no settings of Ansible.
        return {
            **inherited,
            "PATH": path + ":/usr/local/sbin:/usr/sbin:/sbin",
            "PYTHONPATH": str(self._package),
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build" / "collections"),
            "ANSIBLE_HOME": str(self.folder / ".ansible"),
        }

    def shell(
        self, script: str, *, seconds: float = 240, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a script of bash, as a reader types it without a terminal."""
        return subprocess.run(
            self.command("bash", "-c", script),
            env=self.environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )

    def answer(self, command: str, answer: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a terminal, and answer its question (script(1))."""
        return self.shell(f"echo {answer} | script -qec {shlex.quote(command)} /dev/null")

    def events(self, command: str, expected: str) -> str:
        """Run a command that prints events until it is interrupted; return what it printed.

        Policies are loaded until it has printed the expected text, for 20 seconds at most.
        """
        script = (
            f"timeout 30 {command} >events & for each in $(seq 20); do kill -HUP {self._agent}; "
            f"sleep 1; grep -qF {shlex.quote(expected)} events && break; done; "
            "kill $!; wait $!; cat events"
        )
        return self.shell(script, seconds=60).stdout

    def write(self, name: str, content: object) -> None:
        """Write a file of the reader: a text, or a document as YAML."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        file.write_text(textwrap.dedent(text))

    def write_inventory(self) -> None:
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_remote_tmp": str(self.folder / ".ansible" / "tmp"),
        }
        groups = {name: {"hosts": {"web1": None}} for name in _HOSTS}
        self.write("inventory.yml", {"all": {"hosts": {"web1": host}, "children": groups}})
        self.write("ansible.cfg", "[defaults]\ninventory = inventory.yml\n")

    def start_agent(self, policy: object) -> None:
        """Start the agent in its default directories."""
        self.shell_ok(
            f"printf %s '{json.dumps(policy)}' >/etc/linuxnet-sockets/policy.json\n"
            "groupadd --system linuxnet-sockets\n"
            "useradd alice"
        )
        with (self.folder / "agent.log").open("wb") as log:
            agent = subprocess.Popen(
                self.command("socket-agent", "run"),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(agent)
        self._agent = agent.pid
        until(lambda: self.shell("socket-agent status").returncode == 0, "first pass", seconds=20)

    def shell_ok(self, script: str) -> str:
        done = self.shell(f"set -e\n{script}")
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _end(self, process: subprocess.Popen[Any]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        if process.stdout is not None:
            process.stdout.close()

    def close(self) -> None:
        for process in reversed([self._namespace, *self._processes]):
            with suppress(OSError):
                self._end(process)
        self._vpn.close()


def missing_programs() -> list[str]:
    """The programs that commands of the manual need and that this machine lacks."""
    return [name for name in ("jq", "nsenter", "script", "useradd") if shutil.which(name) is None]
