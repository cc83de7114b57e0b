# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cgroups of a lab. They contain all its processes and no others.

A lab is stopped by killing its cgroup. Processes are never found by name, and no signal is sent to
a process id that may have been reused.
"""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

from .errors import LabError, UnsafeOperation
from .paths import PREFIX, lab_name

# Children of the lab's cgroup: its first process, processes that access hosts from outside (ssh,
# a shell that entered), and one cgroup per host (prefix).
INIT = "init"
CLIENTS = "clients"
HOST = "host-"


def mount_point() -> Path:
    """Mount point of cgroup v2. Raises LabError if it is not mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _dash, after = line.partition(" - ")
            if after.split(" ", 1)[0] == "cgroup2":
                return Path(before.split(" ")[4])
    raise LabError("the lab needs cgroup v2, which is not mounted on this machine")


def lab_cgroup(name: str) -> Path:
    """Cgroup of a lab."""
    return mount_point() / f"{PREFIX}{lab_name(name)}"


def create(name: str, hosts: list[str]) -> Path:
    """Create the cgroups of a new lab."""
    top = lab_cgroup(name)
    try:
        top.mkdir()
    except FileExistsError:
        raise LabError(f"lab {name} already exists on this machine (cgroup {top})") from None
    except OSError as error:
        raise LabError(
            f"cannot create cgroup {top}: {error.strerror} (the lab does not work in a container)"
        ) from None
    if not (top / "cgroup.kill").exists():
        top.rmdir()
        raise LabError("the lab needs Linux 5.14 or newer (cgroup.kill)")
    for below in (INIT, CLIENTS, *(f"{HOST}{host}" for host in hosts)):
        (top / below).mkdir()
    return top


def join(cgroup: Path) -> None:
    """Move the calling process to ``cgroup``."""
    (cgroup / "cgroup.procs").write_text("0", encoding="ascii")


def processes(cgroup: Path) -> list[int]:
    """Process ids in ``cgroup`` and its descendants, in the PID namespace of the caller."""
    found = []
    for procs in cgroup.rglob("cgroup.procs"):
        try:
            found += [int(pid) for pid in procs.read_text(encoding="ascii").split()]
        except OSError:
            continue
    return found


def find_init(cgroup: Path) -> int:
    """Process in ``cgroup`` that is PID 1 of its PID namespace. Raises LabError."""
    for pid in processes(cgroup):
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # proc_pid_status(5): the process id in each PID namespace, the innermost last.
        numbers = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
        if numbers and numbers[1].split()[-1] == "1":
            return pid
    raise LabError(f"no process runs in {cgroup}")


def clients_cgroup(cgroup: os.PathLike[str]) -> Path:
    """Child cgroup for processes that access the hosts from outside."""
    return Path(cgroup) / CLIENTS


def kill(name: str) -> None:
    """Kill all processes of the lab. Succeeds if the cgroup does not exist or is being removed."""
    try:
        (lab_cgroup(name) / "cgroup.kill").write_text("1", encoding="ascii")
    except OSError as error:
        # ENODEV: removed between lookup and open (kernfs_fop_open).
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def remove_children(cgroup: Path) -> None:
    """Remove the child cgroups and controllers of an init that has ended, for its next boot."""
    for directory, _below, _files in os.walk(cgroup, topdown=False):
        if Path(directory) != cgroup:
            os.rmdir(directory)
    control = cgroup / "cgroup.subtree_control"
    for controller in control.read_text(encoding="ascii").split():
        control.write_text(f"-{controller}", encoding="ascii")


def remove(name: str, seconds: float = 10.0) -> None:
    """Kill all processes of the lab and remove its cgroups, if they exist.

    seconds: timeout. Raises LabError after it.
    """
    top = lab_cgroup(name)
    if top.parent != mount_point() or not top.name.startswith(PREFIX):
        raise UnsafeOperation(f"{top} is not a cgroup of the lab: not removed")
    deadline = time.monotonic() + seconds
    while top.is_dir():
        try:
            kill(name)
            for directory, _below, _files in os.walk(top, topdown=False):
                os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:  # EBUSY until the last process has exited
            if time.monotonic() > deadline:
                raise LabError(f"cannot remove cgroup {top}: {error.strerror}") from None
            time.sleep(0.02)
