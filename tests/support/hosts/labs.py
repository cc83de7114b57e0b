# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start labs, run commands in them, and stop them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import cgroups, lab_init, registry, rootfs
from .errors import LabError
from .paths import CHECKOUT, LabPaths, lab_name, require_root
from .plan import parse_hosts
from .recipe import RECIPES

_SUPERVISOR = f"{__package__}.supervisor"


def up(
    paths: LabPaths,
    hosts: list[str],
    *,
    name: str | None = None,
    owner: int | None = None,
    report_progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Start a lab and return its description.

    Removes the files of labs whose processes were killed, before that. Removes the new lab again if
    it cannot start.

    hosts: NAME=SUITE each. owner: process id; the lab stops when that process ends. Raises
    LabError.
    """
    require_root()
    for suite in sorted({host.suite for host in parse_hosts(hosts)}):
        rootfs.create_rootfs(paths, RECIPES[suite], report_progress)
    for leftover in registry.reap(paths):
        report_progress(f"removed the files of lab {leftover}")
    owner_pidfd = None if owner is None else _open_owner(owner)
    name, lock = registry.claim_name(paths, name)
    status, status_there = os.pipe()
    parent_pipe_end, parent_pipe = os.pipe()
    options = {
        "lock": lock,
        "run": str(paths.run),
        "cache": str(paths.cache),
        "name": name,
        "hosts": hosts,
        "status": status_there,
        "parent_pipe": parent_pipe_end,
        "owner": owner_pidfd,
    }
    passed = [lock, status_there, parent_pipe_end, *([] if owner_pidfd is None else [owner_pidfd])]
    with open(paths.lab(name) / "supervisor.log", "w", encoding="utf-8") as log:
        subprocess.Popen(
            [sys.executable, "-m", _SUPERVISOR, json.dumps(options)],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=passed,
            start_new_session=True,
        )
    for descriptor in passed:
        os.close(descriptor)
    with open(status, encoding="utf-8", errors="replace") as answers:
        answer = answers.read()
    if answer != lab_init.READY:
        os.close(parent_pipe)
        raise LabError(f"lab {name} did not start: {answer or 'its supervisor ended'}")
    description = registry.description(paths, name)
    os.write(parent_pipe, lab_init.READY.encode())
    os.close(parent_pipe)
    return description


def down(paths: LabPaths, name: str, seconds: float = 30.0) -> None:
    """Stop a lab and remove all its files.

    seconds: timeout. Raises LabError.
    """
    require_root()
    if name not in registry.names(paths):
        raise LabError(f"lab {lab_name(name)} does not exist; list labs with: lab list")
    deadline = time.monotonic() + seconds
    with registry.liveness(paths, name) as is_alive:
        while is_alive():
            # This kills the lab's first process. Its supervisor then removes the lab and exits.
            cgroups.kill(name)
            if time.monotonic() > deadline:
                raise LabError(f"lab {name} does not stop; see {paths.lab(name)}/supervisor.log")
            time.sleep(0.02)
    registry.reap(paths)


def down_all(paths: LabPaths) -> list[str]:
    """Stop all labs on this machine. Returns their names."""
    names = registry.names(paths)
    for name in names:
        down(paths, name)
    return names


def exec_in_host(paths: LabPaths, name: str, host: str, command: list[str]) -> NoReturn:
    """Execute ``command`` as root in all namespaces of a host."""
    description = registry.description(paths, name)
    if host not in description["hosts"]:
        raise LabError(
            f"lab {name} has no host {host}; its hosts: {', '.join(description['hosts'])}"
        )
    cgroup = cgroups.lab_cgroup(name)
    init = cgroups.find_init(cgroup / f"{cgroups.HOST}{host}")
    _enter(cgroup, [f"--target={init}", "--all"], command)


def exec_in_network(paths: LabPaths, name: str, command: list[str]) -> NoReturn:
    """Execute ``command`` of this machine in the network namespace of the controller."""
    description = registry.description(paths, name)
    _enter(cgroups.lab_cgroup(name), [f"--net=/proc/{description['init']}/ns/net"], command)


def _enter(cgroup: os.PathLike[str], namespaces: list[str], command: list[str]) -> NoReturn:
    cgroups.join(cgroups.clients_cgroup(cgroup))
    os.execvp("nsenter", ["nsenter", *namespaces, "--", *command])


def _open_owner(process: int) -> int:
    """Return a pidfd, which becomes readable when the process ends."""
    try:
        return os.pidfd_open(process)
    except OSError as error:
        raise LabError(f"owner of the lab, process {process}: {error.strerror}") from None
