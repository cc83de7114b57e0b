# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Paths and ids of cgroups (v2).

The id of a cgroup is the inode number of its directory (cgroup_id() in include/linux/cgroup.h, and
kernfs). A walk over the mount therefore finds all ids.
"""

from __future__ import annotations

import os

from .. import text
from . import mountinfo


def mount_point(proc: str) -> str | None:
    """The mount point of the cgroup v2 hierarchy; None if it is not mounted."""
    try:
        with open(f"{proc}/self/mountinfo", "rb") as lines:
            for mount in mountinfo.parse(lines):
                if mount.filesystem == b"cgroup2":
                    return text.decode(mount.mount_point)
    except OSError:
        return None
    return None


class Cgroups:
    """A snapshot of the ids and paths of all cgroups. Paths start with / at the mount point.

    All ids come from one walk, on first use. A cgroup created later is unknown, so a selector does
    not mistake it for one outside of its ancestors.
    """

    def __init__(self, mount: str | None) -> None:
        self._mount = mount
        self._paths: dict[int, str] | None = None

    def path(self, identifier: int) -> str | None:
        """The path of a cgroup; None if the snapshot has no cgroup with this id."""
        return self._all_paths().get(identifier)

    def ids(self, path: str) -> frozenset[int] | None:
        """The ids of a cgroup and all its descendants; None if the snapshot has no such cgroup.

        path: with or without the mount point, as in ss(8), or as results show it.
        """
        for name in text.spellings(path):
            found = self._ids(name)
            if found is not None:
                return found
        return None

    def _ids(self, path: str) -> frozenset[int] | None:
        if not self._mount:
            return None
        if f"{path}/".startswith(f"{self._mount}/"):
            path = path[len(self._mount) :]
        normal = "/" + "/".join(step for step in path.split("/") if step not in ("", "."))
        if ".." in normal.split("/"):
            return None
        prefix = f"{normal.rstrip('/')}/"
        return (
            frozenset(
                identifier
                for identifier, cgroup in self._all_paths().items()
                if cgroup == normal or cgroup.startswith(prefix)
            )
            or None
        )

    def paths(self) -> list[str]:
        """The paths of all cgroups."""
        return sorted(self._all_paths().values())

    @property
    def mounted(self) -> bool:
        """Whether a cgroup v2 hierarchy is mounted."""
        return bool(self._mount)

    def _all_paths(self) -> dict[int, str]:
        if self._paths is None:
            self._paths = dict(_walk(self._mount)) if self._mount else {}
        return self._paths


def _walk(mount: str) -> list[tuple[int, str]]:
    """List (id, path) of all cgroups, without any that are removed during the walk."""
    found: list[tuple[int, str]] = []
    pending = ["/"]
    while pending:
        path = pending.pop()
        directory = text.encode(mount + path)
        try:
            found.append((os.stat(directory).st_ino, path))
            with os.scandir(directory) as entries:
                pending += [
                    f"{path.rstrip('/')}/{text.decode(entry.name)}"
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                ]
        except OSError:
            continue
    return found
