# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The processes that the guard considers: which may hold sockets, and which may serve SSH."""

from __future__ import annotations

import os
from functools import cached_property
from typing import NamedTuple

from .. import text
from ..host.processes import process_numbers
from ..host.threads import live_thread
from ..sockets.slots import Slot
from ..sockets.snapshot import Snapshot

# The listening daemon and, since OpenSSH 9.8, the programs of a session; and dropbear.
# A suffix tells variants apart, such as sshd.pam.
SSH_PROGRAMS = frozenset({"sshd", "sshd-session", "sshd-auth", "dropbear"})
# Its command says which program it is.
_MULTI_CALL_PROGRAM = "dropbearmulti"
# proc_pid_exe(5): appended when the program was replaced while it runs, as an upgrade does.
_DELETED = " (deleted)"
_MAX_COMM = 64


class Program(NamedTuple):
    """What a process runs.

    directory: of the process in /proc, or of another thread if the main thread has ended. path: the
    target of the link `exe` there, without a mark for a deleted file; empty: it is unreadable.
    """

    directory: str
    path: str


class Processes:
    """The processes of a snapshot that may hold sockets. Each fact is read once, on first use.

    Kernel threads and ended processes are left out: they hold no descriptors. They have no program
    (proc_exe_link returns ENOENT for a process without an mm).
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._proc = snapshot.host.proc
        self._namespace = f"net:[{snapshot.namespace.identity[1]}]"

    @classmethod
    def of(cls, snapshot: Snapshot) -> Processes:
        """The one instance of a snapshot."""
        return snapshot.get_or_create(_PROCESSES, lambda: cls(snapshot))

    @cached_property
    def _programs(self) -> dict[int, Program]:
        found: dict[int, Program] = {}
        for pid in process_numbers(self._proc):
            program = self._program(f"{self._proc}/{pid}")
            if program is None:
                # The main thread may have ended before the others.
                thread = live_thread(self._proc, pid)
                if thread is None:
                    continue
                directory = f"{self._proc}/{pid}/task/{thread}"
                program = self._program(directory) or Program(directory, "")
            found[pid] = program
        return found

    @staticmethod
    def _program(directory: str) -> Program | None:
        """The program; None: it has none."""
        try:
            target = os.readlink(f"{directory}/exe")
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError:
            target = ""
        return Program(directory, target.removesuffix(_DELETED))

    def program(self, pid: int) -> Program:
        """The program of one of these processes."""
        return self._programs[pid]

    @cached_property
    def ssh(self) -> dict[int, str]:
        """The name in SSH_PROGRAMS by pid, for processes whose program has one.

        Any user can run such a program, and call any program so: see guard/ssh.py. If the program
        is unreadable, the command decides.
        """
        found: dict[int, str] = {}
        for pid, program in self._programs.items():
            name = os.path.basename(program.path).partition(".")[0]
            if name in ("", _MULTI_CALL_PROGRAM):
                name = self._command(pid)
            if name in SSH_PROGRAMS:
                found[pid] = name
        return found

    @cached_property
    def same_namespace_first(self) -> tuple[list[int], list[int]]:
        """The pids in the network namespace of the snapshot, and all others."""
        inside: list[int] = []
        outside: list[int] = []
        for pid in self._programs:
            try:
                is_inside = os.readlink(f"{self._proc}/{pid}/ns/net") == self._namespace
            except OSError:
                is_inside = False
            (inside if is_inside else outside).append(pid)
        return inside, outside

    def _command(self, pid: int) -> str:
        try:
            descriptor = os.open(f"{self._proc}/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            return text.decode(os.read(descriptor, _MAX_COMM)).removesuffix("\n")
        except OSError:
            return ""
        finally:
            os.close(descriptor)


_PROCESSES: Slot[Processes] = Slot("processes")
