# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Facts about a process that no user can forge: its parent, its user, and who wrote its program.

A user can choose the name of a command, copy a program, and run one with code of their own in it
(LD_PRELOAD, ptrace). No user can choose the real user id, or become the child of another process.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from typing import NamedTuple

# include/linux/sched.h: forked from its parent, and still runs the parent's program.
_PF_FORKNOEXEC = 0x00000040

Stat = Callable[[str], os.stat_result]


class Ancestry(NamedTuple):
    """A process among others.

    parent: the pid of its parent; 0: it has none. user: its real user id. is_fork: it has run the
    program of its parent since it was forked.
    """

    parent: int
    user: int
    is_fork: bool


def read_ancestry(proc: str, pid: int) -> Ancestry | None:
    """The ancestry of a process; None: it has ended."""
    try:
        with open(f"{proc}/{pid}/stat", "rb") as stream:
            # proc_pid_stat(5): field 2, the command, may contain spaces and parentheses.
            fields = stream.read().rpartition(b")")[2].split()
        with open(f"{proc}/{pid}/status", "rb") as lines:
            users = next(line.split() for line in lines if line.startswith(b"Uid:"))
        return Ancestry(int(fields[1]), int(users[1]), bool(int(fields[6]) & _PF_FORKNOEXEC))
    except (OSError, IndexError, ValueError, StopIteration):
        return None


def is_system_program(
    process: str, program: str, roots: Collection[int], read: Stat = os.stat
) -> bool:
    """Whether only root decides what the program of a process is, and what it is called.

    It belongs to root, and nobody else may write it. Each directory above it belongs to root, and
    not everybody may write it.

    process: the directory of the process in /proc. program: the target of its link `exe`. roots:
    the user ids of root. read: os.stat. Call this for processes of root only: what cannot be read
    counts as the system's.
    """
    try:
        file = read(f"{process}/exe")
    except OSError:
        return True
    group_or_others = stat.S_IWGRP | stat.S_IWOTH
    if not stat.S_ISREG(file.st_mode) or file.st_mode & group_or_others:
        return False
    if file.st_uid not in roots or not program.startswith("/"):
        return False
    directory = program
    while directory != "/":
        directory = os.path.dirname(directory)
        try:
            # In the mount namespace of the process. It may have changed its root directory.
            found = read(f"{process}/root{directory}")
        except OSError:
            continue
        shared = stat.S_IWOTH
        if directory != os.path.dirname(program) and found.st_mode & stat.S_ISVTX:
            # Only the owner of an entry may rename or remove it.
            shared = 0
        if found.st_uid not in roots or found.st_mode & shared:
            return False
    return True
