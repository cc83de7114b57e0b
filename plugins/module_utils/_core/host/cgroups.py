# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: cgroup v2 paths and the ids by which the kernel names them.

A cgroup's id is the inode number of its directory (cgroup_id() in include/linux/cgroup.h and
kernfs), so walking the mount tells every id.
"""

from __future__ import annotations

import os


def mount_point(proc: str) -> str | None:
    """Where the cgroup v2 hierarchy is mounted; None where it is not."""
    try:
        with open(f"{proc}/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                before, _dash, after = line.partition(" - ")
                if after.startswith("cgroup2 "):
                    return before.split()[4].encode().decode("unicode_escape")
    except OSError:
        return None
    return None


class Cgroups:
    """The ids and paths of one moment. Paths begin with / at the mount.

    All come from one walk, so that a cgroup made since is not known, instead of known as one that
    lies below no other.
    """

    def __init__(self, mount: str | None) -> None:
        self._mount = mount
        self._paths: dict[int, str] | None = None

    def path(self, identifier: int) -> str | None:
        """The path of an id; None where there is no such cgroup any more, or not yet."""
        return self._known().get(identifier)

    def ids(self, path: str) -> frozenset[int] | None:
        """The ids of the cgroup and everything below it; None where there is no such cgroup.

        The path may have the mount point in front, as ss(8) takes it.
        """
        if not self._mount:
            return None
        if f"{path}/".startswith(f"{self._mount}/"):
            path = path[len(self._mount) :]
        wanted = "/" + "/".join(step for step in path.split("/") if step not in ("", "."))
        if ".." in wanted.split("/"):
            return None
        below = f"{wanted.rstrip('/')}/"
        return (
            frozenset(
                identifier
                for identifier, each in self._known().items()
                if each == wanted or each.startswith(below)
            )
            or None
        )

    def _known(self) -> dict[int, str]:
        if self._paths is None:
            self._paths = dict(_walk(self._mount)) if self._mount else {}
        return self._paths


def _walk(mount: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        directory = mount + path
        try:
            found.append((os.stat(directory).st_ino, path))
            with os.scandir(directory) as entries:
                waiting += [
                    f"{path.rstrip('/')}/{entry.name}"
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                ]
        except OSError:
            continue
    return found
