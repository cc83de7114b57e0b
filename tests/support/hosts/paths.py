# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and names of the lab, and checks that it changes nothing else."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError, UnsafeOperation

CHECKOUT = Path(__file__).resolve().parents[3]

# Prefix of all names of the lab on the machine.
PREFIX = "lns-lab-"

# File in a root file system that contains the digest of its recipe.
MARKER = ".linuxnet-sockets-lab"

_LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
# Also used in the name of a network interface (v-NAME, at most 15 characters) and a directory.
_HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,12}")


@dataclass(frozen=True)
class LabPaths:
    """Directories of the lab. It writes and removes only files below them."""

    run: Path = Path("/run/linuxnet-sockets-lab")
    cache: Path = CHECKOUT / ".build" / "lab" / "rootfs"

    def lab(self, name: str) -> Path:
        """Directory of a lab: description, keys and logs."""
        return self.run / lab_name(name)


def lab_name(name: str) -> str:
    """Return ``name`` if it is a valid name of a lab. Raises UnsafeOperation."""
    if not _LAB_NAME.fullmatch(name):
        raise UnsafeOperation(
            f"{name!r} is not a lab name: use at most 24 lower-case letters, digits and dashes"
        )
    return name


def host_name(name: str) -> str:
    """Return ``name`` if it is a valid name of a host. Raises UnsafeOperation."""
    if not _HOST_NAME.fullmatch(name) or name == "localhost":
        raise UnsafeOperation(
            f"{name!r} is not a host name: use a lower-case letter, then letters, digits and "
            "dashes, at most 13, and not localhost"
        )
    return name


def require_root() -> None:
    """Raise LabError unless this process is root in the initial user namespace."""
    uid_map = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    if os.geteuid() != 0 or uid_map != ["0", "0", "4294967295"]:
        raise LabError("the lab needs root in the initial user namespace: run it as root")


def require_rootfs(directory: Path, digest: str, *, inside: bool = False) -> None:
    """Raise UnsafeOperation unless this is a root file system of the lab with this digest.

    An init on the root of the machine would take over the machine. "/" is valid only ``inside`` a
    host, after the pivot.
    """
    marker = directory / MARKER
    if not inside and os.path.realpath(directory) == "/":
        raise UnsafeOperation(f"{directory} is the root of this machine")
    if marker.is_symlink() or not marker.is_file():
        raise UnsafeOperation(f"{directory} is not a root file system of the lab: no file {MARKER}")
    if marker.read_text(encoding="ascii").strip() != digest:
        raise UnsafeOperation(
            f"{directory} was made from another recipe than the one expected ({digest})"
        )


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below ``directory`` in this mount namespace."""
    inside = os.path.join(os.path.realpath(directory), "")
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            # proc_pid_mountinfo(5): the fifth field, with octal escapes for blanks.
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split(" ")[4])
            if os.path.join(point, "").startswith(inside):
                found.append(point)
    return found


def remove_tree(directory: Path, *, below: Path) -> None:
    """Remove ``directory``, an entry of the directory ``below``.

    Raises UnsafeOperation for symbolic links and for mounts inside, which could lead to other
    files.
    """
    if directory.parent.resolve() != below.resolve() or directory.name in ("", ".", ".."):
        raise UnsafeOperation(f"{directory} is not an entry of {below}: not removed")
    if directory.is_symlink():
        raise UnsafeOperation(f"{directory} is a symbolic link: not removed")
    if mounted := mounts_below(directory):
        raise UnsafeOperation(f"{mounted[0]} is mounted inside {directory}: not removed")
    if directory.is_dir():
        shutil.rmtree(directory)
