# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps its things, which names are its own, and the refusal of all others."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError, Refused

CHECKOUT = Path(__file__).resolve().parents[3]

# Everything of ours that has a name on the machine starts with it.
PREFIX = "lns-lab-"

# A file with this name, in a root file system, holds the digest of the recipe it was made from.
MARKER = ".linuxnet-sockets-lab"

_LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
# Also the name of a network interface (v-NAME, at most 15 characters) and of a directory.
_HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,12}")


@dataclass(frozen=True)
class Places:
    """The directories of the lab; only what lies strictly below them is ever written or removed."""

    run: Path = Path("/run/linuxnet-sockets-lab")
    cache: Path = CHECKOUT / ".build" / "lab" / "rootfs"

    def lab(self, name: str) -> Path:
        """The directory of one lab: its description, its keys, its logs."""
        return self.run / lab_name(name)


def lab_name(name: str) -> str:
    """``name``, if it can be a lab's."""
    if not _LAB_NAME.fullmatch(name):
        raise Refused(
            f"{name!r} is no name for a lab: lower-case letters, digits and dashes, at most 24"
        )
    return name


def host_name(name: str) -> str:
    """``name``, if it can be a host's."""
    if not _HOST_NAME.fullmatch(name) or name == "localhost":
        raise Refused(
            f"{name!r} is no name for a host: a lower-case letter, then letters, digits and "
            "dashes, at most 13, and not localhost"
        )
    return name


def require_root() -> None:
    """Mounts and cgroups need root of the machine; that of a user namespace is not enough."""
    uid_map = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    if os.geteuid() != 0 or uid_map != ["0", "0", "4294967295"]:
        raise LabError(
            "the lab makes hosts out of namespaces and needs root of this machine: run it as root"
        )


def require_rootfs(directory: Path, digest: str, *, inside: bool = False) -> None:
    """Refuse to boot what is not a root file system of the lab, made from the expected recipe.

    An init that finds itself on the root of the machine takes the machine down. Only ``inside`` a
    host, with the machine's root left behind, can "/" be right.
    """
    marker = directory / MARKER
    if not inside and os.path.realpath(directory) == "/":
        raise Refused(f"{directory} is the root of this machine; the lab boots only its own")
    if marker.is_symlink() or not marker.is_file():
        raise Refused(f"{directory} is no root file system of the lab: it has no file {MARKER}")
    if marker.read_text(encoding="ascii").strip() != digest:
        raise Refused(f"{directory} was made from another recipe than the one expected ({digest})")


def mounts_below(directory: Path) -> list[str]:
    """The mount points at or below ``directory`` that this process sees."""
    inside = os.path.join(os.path.realpath(directory), "")
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            # proc_pid_mountinfo(5): the fifth field, with blanks and the like as octal escapes.
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split(" ")[4])
            if os.path.join(point, "").startswith(inside):
                found.append(point)
    return found


def remove_tree(directory: Path, *, below: Path) -> None:
    """Remove ``directory``, which has to lie below ``below``, and nothing that is mounted into it.

    A symbolic link on the way, or a mount inside, could lead the removal to files of others.
    """
    if directory.parent.resolve() != below.resolve() or directory.name in ("", ".", ".."):
        raise Refused(f"{directory} does not lie directly in {below}: not removed")
    if directory.is_symlink():
        raise Refused(f"{directory} is a symbolic link: not removed")
    if mounted := mounts_below(directory):
        raise Refused(f"{mounted[0]} is mounted inside {directory}: not removed")
    if directory.is_dir():
        shutil.rmtree(directory)
