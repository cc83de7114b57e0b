# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Protection rules that depend on the processes that hold a socket.

Reading one descriptor costs the kernel almost two microseconds, and one holder is enough to know
that a socket has one. So the processes and descriptors that most likely hold the sockets are read
first, and reading stops when every socket has a holder.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

from .. import text
from ..host.proc_visibility import hidden_processes_reason
from ..host.processes import (
    FdDirectory,
    SocketOwners,
    describe,
    descriptor_links,
    descriptors_of_threads,
    link_of,
    process_numbers,
)
from ..host.threads import live_thread
from ..sockets.slots import Slot
from ..sockets.snapshot import Snapshot
from .reason import (
    CONTROL_CONNECTION,
    KERNEL,
    NO_HOLDER,
    OWNER_UNREADABLE,
    SSH_SESSIONS,
    Reason,
)

# The listening daemon and, since OpenSSH 9.8, the programs of a session; and dropbear.
SSH_PROGRAMS = frozenset({"sshd", "sshd-session", "sshd-auth", "dropbear"})
# proc_pid_exe(5): appended when the program was replaced while it runs, as an upgrade does.
_DELETED = " (deleted)"
_MAX_COMM = 64

# The number of descriptors from which sampling pays.
_MIN_SAMPLED = 1024
_SAMPLE_SIZE = 32


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
    def _programs(self) -> dict[int, str]:
        """The name of the program by pid; empty if it is unreadable."""
        found: dict[int, str] = {}
        for pid in process_numbers(self._proc):
            program = self._program(f"{self._proc}/{pid}")
            if program is None:
                # The main thread may have ended before the others.
                thread = live_thread(self._proc, pid)
                if thread is None:
                    continue
                program = self._program(f"{self._proc}/{pid}/task/{thread}") or ""
            found[pid] = os.path.basename(program.removesuffix(_DELETED))
        return found

    @staticmethod
    def _program(path: str) -> str | None:
        """The path of the program; empty if it is unreadable; None: it has none."""
        try:
            return os.readlink(f"{path}/exe")
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError:
            return ""

    @cached_property
    def ssh(self) -> dict[int, str]:
        """The name in SSH_PROGRAMS by pid, for processes whose program or command has one."""
        found: dict[int, str] = {}
        for pid, program in self._programs.items():
            name = program if program in SSH_PROGRAMS else self._command(pid)
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


def reasons_by_owner(
    snapshot: Snapshot,
    inodes: Collection[int],
    switches: Collection[str],
    ancestors: Sequence[int],
) -> dict[int, Reason]:
    """Find the sockets that are protected because of the processes that hold them.

    inodes: of the sockets, without 0. switches: the rules that are on. ancestors: pids of this
    process and its ancestors. Returns the reason by inode, for protected sockets only.

    The descriptors of the ancestors and of SSH processes are read first. Other processes are read
    only for rules that depend on whether a socket has any holder.
    """
    proc = snapshot.host.proc
    processes = Processes.of(snapshot)
    reasons: dict[int, Reason] = {}
    inode_of = {link_of(inode): inode for inode in inodes}
    without_holder = set(inode_of)
    unreadable: list[int] = []
    read: set[int] = set()

    def protect_sockets_of(pid: int, reason: Reason) -> None:
        read.add(pid)
        links = descriptor_links(proc, pid)
        if links is None:
            unreadable.append(pid)
            return
        for link in without_holder.intersection(links):
            without_holder.discard(link)
            reasons[inode_of[link]] = reason

    if CONTROL_CONNECTION in switches:
        for pid in ancestors:
            detail = f"held by process {pid}, an ancestor of this process"
            protect_sockets_of(pid, Reason(CONTROL_CONNECTION, detail))
    if SSH_SESSIONS in switches:
        for pid, program in processes.ssh.items():
            if pid not in read:
                reason = Reason(SSH_SESSIONS, f"held by {program}, process {pid}")
                protect_sockets_of(pid, reason)
    if SSH_SESSIONS not in switches and KERNEL not in switches:
        return reasons
    owners = snapshot.known_owners
    if owners is not None:
        without_holder.difference_update(
            [link for link in without_holder if owners.of(inode_of[link])]
        )
    if not without_holder:
        return reasons
    inside, outside = processes.same_namespace_first
    others = [pid for pid in (*inside, *outside) if pid not in read]
    unread = len(unreadable) + discard_held(proc, others, without_holder)
    _discard_held_by_threads(proc, without_holder)
    if not without_holder:
        return reasons
    doubts = [f"the descriptors of {_count(unread, 'process')} cannot be read"] if unread else []
    hidden = hidden_processes_reason(proc)
    if hidden is not None:
        doubts.append(hidden)
    if doubts and SSH_SESSIONS in switches:
        no_holder = Reason(OWNER_UNREADABLE, ", and ".join(doubts))
    elif KERNEL in switches:
        no_holder = Reason(KERNEL, ", and ".join([NO_HOLDER, *doubts]))
    else:
        return reasons
    reasons.update(dict.fromkeys([inode_of[link] for link in without_holder], no_holder))
    return reasons


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}es"


def load_one_owner(snapshot: Snapshot, inodes: Collection[int]) -> None:
    """Find one holder of each socket with these inodes, and set them in the snapshot.

    Snapshot.load_owners finds all holders, which takes far longer: it reads every descriptor of
    every process.
    """
    proc = snapshot.host.proc
    inode_of = {link_of(inode): inode for inode in inodes}
    without_holder = set(inode_of)
    pid_by_link: dict[str, int] = {}
    unreadable = 0
    for pids in Processes.of(snapshot).same_namespace_first:
        unreadable += discard_held(proc, pids, without_holder, pid_by_link)
    _discard_held_by_threads(proc, without_holder, pid_by_link)
    complete = not unreadable and not (without_holder and hidden_processes_reason(proc))
    described = {pid: describe(proc, pid) for pid in set(pid_by_link.values())}
    holders = {pid: (process,) for pid, process in described.items() if process is not None}
    found = {inode_of[link]: holders[pid] for link, pid in pid_by_link.items() if pid in holders}
    snapshot.set_some_owners(SocketOwners(found, complete))


def discard_held(
    proc: str, pids: Iterable[int], links: set[str], holders: dict[str, int] | None = None
) -> int:
    """Remove from links those that a descriptor of these processes has.

    links: link targets of sockets; changed. holders: receives a holding pid by link. Stops when
    links is empty. Returns the number of processes that were unreadable.

    Processes with many descriptors are read last, in halves of even and odd numbers, those halves
    first whose sample has the most hits. A proxy's connections to clients and to servers alternate,
    as do both ends in a test program.
    """
    unreadable = 0
    halves: list[tuple[int, int, range]] = []

    def take(pid: int, found: Iterable[str]) -> None:
        if holders is None:
            links.difference_update(found)
        else:
            held = links.intersection(found)
            links.difference_update(held)
            holders.update(dict.fromkeys(held, pid))

    for pid in pids:
        if not links:
            return unreadable
        try:
            with FdDirectory(proc, pid) as descriptors:
                samples = _sample(descriptors)
                if samples is None:
                    take(pid, descriptors.all())
        except PermissionError:
            unreadable += 1
            continue
        for numbers, sample in samples or ():
            halves.append((len(links.intersection(sample)), pid, numbers))
    halves.sort(key=lambda half: half[:2], reverse=True)
    read_whole: set[int] = set()
    for _hits, pid, numbers in halves:
        if not links:
            break
        if pid not in read_whole:
            half = _read_half(proc, pid, numbers)
            if half is None:
                read_whole.add(pid)
                half = descriptor_links(proc, pid)
            take(pid, half or ())
    return unreadable


def _discard_held_by_threads(
    proc: str, links: set[str], holders: dict[str, int] | None = None
) -> None:
    """As discard_held, for the descriptors that only some threads of a process have."""
    if not links:
        return
    for pid, _thread, _number, link in descriptors_of_threads(proc, frozenset(links)):
        links.discard(link)
        if holders is not None:
            holders.setdefault(link, pid)


def _sample(descriptors: FdDirectory) -> list[tuple[range, list[str]]] | None:
    """The numbers of each half, with the links of a sample; None: sampling does not pay."""
    if descriptors.count < _MIN_SAMPLED:
        return None
    samples: list[tuple[range, list[str]]] = []
    for first in (0, 1):
        numbers = range(first, descriptors.count, 2)
        links = descriptors.some(numbers[:: len(numbers) // _SAMPLE_SIZE])
        if links is None:
            return None
        samples.append((numbers, links))
    return samples


def _read_half(proc: str, pid: int, numbers: range) -> list[str] | None:
    """The links of these descriptors; None: one of them does not exist."""
    with FdDirectory(proc, pid) as descriptors:
        return descriptors.some(numbers)
