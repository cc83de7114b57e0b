# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's cgroups: whatever runs in one of them belongs to the lab, and nothing else does.

Ending a lab is ending its cgroup. No process is ever looked up by its name, and no number of a
process that has ended is ever signalled.
"""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

from .errors import LabError, Refused
from .places import PREFIX, lab_name

# Below a lab's own cgroup: its first process, what works on the hosts from outside (ssh, a shell
# that entered), and one for each host, named after it with this in front.
KEEPER = "keeper"
VISITORS = "visitors"
HOST = "host-"


def mount_point() -> Path:
    """Where this machine has mounted cgroup v2. Raises LabError if it has not."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _dash, after = line.partition(" - ")
            if after.split(" ", 1)[0] == "cgroup2":
                return Path(before.split(" ")[4])
    raise LabError("the lab needs cgroup v2, which this machine has not mounted")


def of_lab(name: str) -> Path:
    """The cgroup of one lab."""
    return mount_point() / f"{PREFIX}{lab_name(name)}"


def create(name: str, hosts: list[str]) -> Path:
    """Make the cgroups of a new lab."""
    top = of_lab(name)
    try:
        top.mkdir()
    except FileExistsError:
        raise LabError(f"there is a lab {name} on this machine already (cgroup {top})") from None
    except OSError as error:
        raise LabError(
            f"cgroup {top} cannot be made: {error.strerror} (in a container the lab cannot work)"
        ) from None
    if not (top / "cgroup.kill").exists():
        top.rmdir()
        raise LabError("the lab needs Linux 5.14 or newer (cgroup.kill, to end without a trace)")
    for below in (KEEPER, VISITORS, *(f"{HOST}{host}" for host in hosts)):
        (top / below).mkdir()
    return top


def join(cgroup: Path) -> None:
    """Put the calling process into ``cgroup``."""
    (cgroup / "cgroup.procs").write_text("0", encoding="ascii")


def processes(cgroup: Path) -> list[int]:
    """The processes in ``cgroup`` and below, by their number in the caller's PID namespace."""
    found = []
    for procs in cgroup.rglob("cgroup.procs"):
        try:
            found += [int(pid) for pid in procs.read_text(encoding="ascii").split()]
        except OSError:
            continue
    return found


def init_of(cgroup: Path) -> int:
    """The process that is PID 1 of the PID namespace that runs in ``cgroup``."""
    for pid in processes(cgroup):
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # proc_pid_status(5): its number in each PID namespace, the innermost last.
        numbers = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
        if numbers and numbers[1].split()[-1] == "1":
            return pid
    raise LabError(f"nothing runs in {cgroup}")


def visitors(cgroup: os.PathLike[str]) -> Path:
    """The cgroup below a lab's own for what works on its hosts from outside."""
    return Path(cgroup) / VISITORS


def kill(name: str) -> None:
    """End every process of the lab. That its cgroup is gone, or just goes, is no error."""
    try:
        (of_lab(name) / "cgroup.kill").write_text("1", encoding="ascii")
    except OSError as error:
        # ENODEV: it was found, and removed before it was opened (kernfs_fop_open).
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def clear(cgroup: Path) -> None:
    """Remove what an init that has ended left below its cgroup: the next one starts anew."""
    for directory, _below, _files in os.walk(cgroup, topdown=False):
        if Path(directory) != cgroup:
            os.rmdir(directory)
    control = cgroup / "cgroup.subtree_control"
    for controller in control.read_text(encoding="ascii").split():
        control.write_text(f"-{controller}", encoding="ascii")


def remove(name: str, seconds: float = 10.0) -> None:
    """End every process of the lab and remove its cgroups. What is not there is no error."""
    top = of_lab(name)
    if top.parent != mount_point() or not top.name.startswith(PREFIX):
        raise Refused(f"{top} is no cgroup of the lab: left alone")
    deadline = time.monotonic() + seconds
    while top.is_dir():
        try:
            kill(name)
            for directory, _below, _files in os.walk(top, topdown=False):
                os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:  # EBUSY while the last processes go
            if time.monotonic() > deadline:
                raise LabError(f"cgroup {top} does not empty: {error.strerror}") from None
            time.sleep(0.02)
