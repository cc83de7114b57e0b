# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one does with labs: bring one up, get into it, take it down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import cgroups, keeper, registry, rootfs
from .errors import LabError
from .places import CHECKOUT, Places, lab_name, require_root
from .plan import hosts_of
from .recipe import RECIPES

_WARDEN = f"{__package__}.warden"


def up(
    places: Places,
    hosts: list[str],
    *,
    name: str | None = None,
    owner: int | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """A lab with ``hosts`` (NAME=SUITE each), booted and reachable; its description.

    With ``owner``, the number of a process, the lab goes down when that process ends. Leftovers
    of labs whose keepers were killed are cleared away first. Raises LabError; nothing is left then.
    """
    require_root()
    for suite in sorted({host.suite for host in hosts_of(hosts)}):
        rootfs.make(places, RECIPES[suite], say)
    for leftover in registry.reap(places):
        say(f"removed what was left of lab {leftover}")
    watched = None if owner is None else _watch(owner)
    name, lock = registry.claim(places, name)
    status, status_there = os.pipe()
    leash_there, leash = os.pipe()
    orders = {
        "lock": lock,
        "run": str(places.run),
        "cache": str(places.cache),
        "name": name,
        "hosts": hosts,
        "status": status_there,
        "leash": leash_there,
        "owner": watched,
    }
    passed = [lock, status_there, leash_there, *([] if watched is None else [watched])]
    with open(places.lab(name) / "warden.log", "w", encoding="utf-8") as log:
        subprocess.Popen(
            [sys.executable, "-m", _WARDEN, json.dumps(orders)],
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
    if answer != keeper.READY:
        os.close(leash)
        raise LabError(f"lab {name} did not come up: {answer or 'its warden ended'}")
    description = registry.description(places, name)
    os.write(leash, keeper.READY.encode())
    os.close(leash)
    return description


def down(places: Places, name: str, seconds: float = 30.0) -> None:
    """Take one lab down; when this returns, nothing of it is left."""
    require_root()
    if name not in registry.names(places):
        raise LabError(f"there is no lab {lab_name(name)}; see: lab list")
    deadline = time.monotonic() + seconds
    with registry.watch(places, name) as alive:
        while alive():
            # The keeper is in there: its warden sees it end, clears up, and ends too.
            cgroups.kill(name)
            if time.monotonic() > deadline:
                raise LabError(f"lab {name} does not end; see {places.lab(name)}/warden.log")
            time.sleep(0.02)
    registry.reap(places)


def down_all(places: Places) -> list[str]:
    """Take every lab of this machine down; their names."""
    names = registry.names(places)
    for name in names:
        down(places, name)
    return names


def in_host(places: Places, name: str, host: str, command: list[str]) -> NoReturn:
    """Become ``command`` as root inside a host, in all its namespaces."""
    description = registry.description(places, name)
    if host not in description["hosts"]:
        raise LabError(f"lab {name} has no host {host}; it has {', '.join(description['hosts'])}")
    cgroup = cgroups.of_lab(name)
    init = cgroups.init_of(cgroup / f"{cgroups.HOST}{host}")
    _enter(cgroup, [f"--target={init}", "--all"], command)


def in_network(places: Places, name: str, command: list[str]) -> NoReturn:
    """Become ``command`` on this machine's files, but in the network of the lab's controller."""
    description = registry.description(places, name)
    _enter(cgroups.of_lab(name), [f"--net=/proc/{description['keeper']}/ns/net"], command)


def _enter(cgroup: os.PathLike[str], namespaces: list[str], command: list[str]) -> NoReturn:
    cgroups.join(cgroups.visitors(cgroup))
    os.execvp("nsenter", ["nsenter", *namespaces, "--", *command])


def _watch(process: int) -> int:
    """A descriptor that becomes readable when ``process`` ends, and does so for no other one."""
    try:
        return os.pidfd_open(process)
    except OSError as error:
        raise LabError(f"the lab's owner, process {process}: {error.strerror}") from None
