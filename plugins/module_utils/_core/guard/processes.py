# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the processes of one look that may hold a socket."""

from __future__ import annotations

import os
from functools import cached_property

from ..host.processes import process_numbers
from ..sockets.slots import Slot
from ..sockets.snapshot import Snapshot

# The listening daemon and, since OpenSSH 9.8, the programs of a session; and dropbear.
SSH_PROGRAMS = frozenset({"sshd", "sshd-session", "sshd-auth", "dropbear"})
_DELETED = " (deleted)"
_LONGEST_COMM = 64


class Processes:
    """Each question is asked of each process once, and not before somebody wants to know.

    Kernel threads and processes that have ended are left out: they hold no descriptors. They are
    those without a program (proc_exe_link answers ENOENT where there is no memory to run it in).
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._proc = snapshot.host.proc
        self._namespace = f"net:[{snapshot.namespace.identity[1]}]"

    @classmethod
    def of(cls, snapshot: Snapshot) -> Processes:
        """Those of a look, the same whenever they are asked for."""
        return snapshot.get_or_create(_PROCESSES, lambda: cls(snapshot))

    @cached_property
    def _programs(self) -> dict[int, str]:
        """By pid; empty where it may not be read."""
        found: dict[int, str] = {}
        for pid in process_numbers(self._proc):
            try:
                program = os.readlink(f"{self._proc}/{pid}/exe")
            except (FileNotFoundError, ProcessLookupError):
                continue
            except OSError:
                program = ""
            # Replaced by an upgrade while it runs.
            found[pid] = os.path.basename(program.removesuffix(_DELETED))
        return found

    @cached_property
    def ssh(self) -> dict[int, str]:
        """Those that are ssh's, by their program or their command, and which of its programs."""
        found: dict[int, str] = {}
        for pid, program in self._programs.items():
            name = program if program in SSH_PROGRAMS else self._command(pid)
            if name in SSH_PROGRAMS:
                found[pid] = name
        return found

    @cached_property
    def near_and_elsewhere(self) -> tuple[list[int], list[int]]:
        """Those in the sockets' own network namespace, most likely to hold them, and the others."""
        near: list[int] = []
        elsewhere: list[int] = []
        for pid in self._programs:
            try:
                inside = os.readlink(f"{self._proc}/{pid}/ns/net") == self._namespace
            except OSError:
                inside = False
            (near if inside else elsewhere).append(pid)
        return near, elsewhere

    def _command(self, pid: int) -> str:
        try:
            descriptor = os.open(f"{self._proc}/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            return os.fsdecode(os.read(descriptor, _LONGEST_COMM)).rstrip("\n")
        except OSError:
            return ""
        finally:
            os.close(descriptor)


_PROCESSES: Slot[Processes] = Slot("processes")
