# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run modules of the checkout with Ansible in a namespace and return their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.topologies.topology import LabNamespace

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

Result = dict[str, Any]

# Runs a command in a new PID namespace. Other processes of the machine may hide their namespaces
# and descriptors even from root.
IN_PID_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def task(
    module: str,
    options: Mapping[str, Any] | None = None,
    *,
    check: bool = False,
    diff: bool = False,
    **keywords: Any,
) -> dict[str, Any]:
    """A task that may fail. module: a full name, or the name of a module of this collection."""
    name = module if "." in module else f"linuxnet.sockets.{module}"
    return {
        name: dict(options or {}),
        "check_mode": check,
        "diff": diff,
        "ignore_errors": True,
        **keywords,
    }


class Controller:
    """Ansible in a namespace. base: a temporary directory for its files."""

    def __init__(self, where: LabNamespace, base: Path) -> None:
        self.where = where
        self.base = base
        self._runs = 0

    def play(
        self,
        *tasks: dict[str, Any],
        prefix: Sequence[str] = (),
        inventory: Path | None = None,
        variables: Mapping[str, str] | None = None,
        **keywords: Any,
    ) -> list[Result]:
        """Run a play and return the result of each task.

        prefix: a command that runs ansible-playbook. inventory: an inventory with one host.
        variables: additional environment variables. keywords: keywords of the play.
        """
        self._runs += 1
        results = self.base / f"results-{self._runs}.json"
        names = [f"result_{number}" for number in range(len(tasks))]
        play = {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                *({"register": name, **task} for name, task in zip(names, tasks, strict=True)),
                {
                    "ansible.builtin.copy": {
                        "dest": str(results),
                        "content": "{{ [" + ", ".join(names) + "] | to_json }}",
                        "mode": "0600",
                    },
                    "delegate_to": "localhost",
                    "become": False,
                    "check_mode": False,
                    "diff": False,
                    "vars": {
                        "ansible_connection": "local",
                        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                        "ansible_remote_tmp": str(self.base / "local"),
                    },
                },
            ],
            **keywords,
        }
        playbook = self.base / f"play-{self._runs}.yml"
        playbook.write_text(yaml.safe_dump([play], sort_keys=False))
        output = self.run(
            "ansible-playbook",
            "-i",
            str(inventory or ROOT / "tools" / "inventory.yml"),
            str(playbook),
            prefix=prefix,
            variables=variables,
        )
        assert results.exists(), output
        return json.loads(results.read_text())

    def run(
        self,
        command: str,
        *arguments: str,
        prefix: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> str:
        """Run a command of Ansible and return its output, standard error included."""
        done = run_command(
            [*self.where.command(*prefix, str(BIN / command)), *arguments],
            variables,
            timeout_s=240,
        )
        assert done.returncode == 0 or not check, done.stdout
        return done.stdout


def run_command(
    command: Sequence[str],
    variables: Mapping[str, str] | None = None,
    *,
    folder: Path = ROOT,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command in the environment of the tests. Its stdout includes standard error."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_playbook(
    name: str,
    inventory: Path,
    extra_variables: Mapping[str, Any],
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of this collection. extra_variables: as JSON, on the command line."""
    return run_command(
        [
            *(str(BIN / "ansible-playbook"), f"linuxnet.sockets.{name}", "-i", str(inventory)),
            *("-e", json.dumps(extra_variables), *arguments),
        ],
        variables,
        folder=folder,
    )


def python_inside(where: LabNamespace, file: Path) -> str:
    """Write a script that runs Python in the namespace, as interpreter of a host."""
    command = " ".join(where.command(sys.executable))
    file.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    file.chmod(0o755)
    return str(file)


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment without the caller's settings of Ansible, plus these variables."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")
    }
    inherited.pop("SSH_CONNECTION", None)
    return {
        **inherited,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "true",
        **(variables or {}),
    }


def cookies(entries: Sequence[Mapping[str, Any]]) -> set[str]:
    return {entry["cookie"] for entry in entries}


def uid_is_mapped(uid: int) -> bool:
    """Whether the current user namespace maps this UID (user_namespaces(7))."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _outside, count = map(int, line.split())
        if inside <= uid < inside + count:
            return True
    return False
