# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Processes that hold a socket.

A descriptor of a socket is a link ``socket:[INODE]`` in /proc/PID/fd (proc_pid_fd(5)). Reading the
links of another process requires PTRACE_MODE_READ_FSCREDS; root with CAP_SYS_PTRACE has it for all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import NamedTuple

from .. import text
from .proc_visibility import hidden_processes_reason
from .threads import live_thread, threads_with_own_descriptors

# Units that contain processes (systemd.unit(5)). Slices only group units.
# proc_pid_exe(5): appended when the program was replaced while it runs, as an upgrade does.
_DELETED = " (deleted)"
UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap")


class Process(NamedTuple):
    """A process that holds a socket. unit: its systemd unit; None: none."""

    pid: int
    comm: str
    unit: str | None


class SocketOwners:
    """The processes that hold sockets, by inode.

    readable: False if at least one process may be hidden, or its descriptors were unreadable. A
    socket without a known holder may then have an unknown one.
    """

    __slots__ = ("_holders", "readable")

    def __init__(self, holders: Mapping[int, tuple[Process, ...]], readable: bool) -> None:
        self._holders = holders
        self.readable = readable

    def of(self, inode: int) -> tuple[Process, ...]:
        """The processes that hold the socket with this inode, by pid."""
        return self._holders.get(inode, ())


def find_owners(proc: str, inodes: Collection[int] | None) -> SocketOwners:
    """Find the processes that hold the sockets with these inodes (None: all sockets).

    All processes are read, since several may hold the same socket. Command and unit are read only
    for processes that hold one.
    """
    if inodes is not None:
        inodes = {inode for inode in inodes if inode}
        if not inodes:
            return SocketOwners({}, True)
    names = None if inodes is None else {link_of(inode) for inode in inodes}
    pids: dict[str, list[int]] = {}
    readable = True
    for pid in process_numbers(proc):
        links = descriptor_links(proc, pid)
        if links is None:
            readable = False
            continue
        for link in set(filter(_is_socket, links)) if names is None else names.intersection(links):
            pids.setdefault(link, []).append(pid)
    without_holder = set() if names is None else names.difference(pids)
    if without_holder:
        for pid, _thread, _number, link in descriptors_of_threads(proc, without_holder):
            numbers = pids.setdefault(link, [])
            if pid not in numbers:
                numbers.append(pid)
        readable = readable and hidden_processes_reason(proc) is None
    # Many sockets have the same holders, so they share one tuple.
    described: dict[tuple[int, ...], tuple[Process, ...]] = {}
    holders: dict[int, tuple[Process, ...]] = {}
    for link, numbers in pids.items():
        key = tuple(numbers)
        if key not in described:
            described[key] = tuple(
                process for process in (describe(proc, pid) for pid in key) if process is not None
            )
        if described[key]:
            holders[inode_of(link)] = described[key]
    return SocketOwners(holders, readable)


def descriptors_of_threads(
    proc: str, links: Collection[str]
) -> Iterator[tuple[int, int, int, str]]:
    """Find sockets in descriptor tables that only some threads of a process have.

    links: link targets. Yields (pid, thread, number of the descriptor, link target). Most
    processes have no such table, and telling them apart costs a system call for each thread. So
    call this only for sockets that no /proc/PID/fd shows.
    """
    for pid in process_numbers(proc):
        for thread in threads_with_own_descriptors(proc, pid):
            with suppress(PermissionError), FdDirectory(proc, pid, thread) as descriptors:
                for number, link in descriptors.numbered():
                    if link in links:
                        yield pid, thread, number, link


def process_numbers(proc: str) -> list[int]:
    """The pids of all visible processes, in ascending order."""
    return sorted(int(name) for name in os.listdir(proc) if name.isdigit())


def link_of(inode: int) -> str:
    """The link target of a descriptor of this socket (sockfs_dname)."""
    return f"socket:[{inode}]"


def inode_of(link: str) -> int:
    """The inode of the socket in a link target."""
    return int(link[len("socket:[") : -1])


def _is_socket(link: str) -> bool:
    return link.startswith("socket:[")


def descriptor_links(proc: str, pid: int) -> list[str] | None:
    """The link targets of a process's descriptors: empty if it has ended; None if unreadable."""
    try:
        with FdDirectory(proc, pid) as descriptors:
            return descriptors.all()
    except PermissionError:
        return None


class FdDirectory:
    """The open directory /proc/PID/fd of a process. Raises PermissionError if it is unreadable.

    If the main thread has ended, it is that of another thread.

    thread: use the directory of this thread. Afterwards, the thread whose directory it is; None:
    the main thread. count: the number of descriptors, which is the directory's size since Linux
    6.2 (proc_pid_fd(5)); 0 on older kernels.
    """

    __slots__ = ("_directory", "_link", "_pid", "_proc", "count", "thread")

    def __init__(self, proc: str, pid: int, thread: int | None = None) -> None:
        self._proc, self._pid = proc, pid
        self._directory: int | None = None
        self.count = 0
        self.thread = thread
        try:
            self._open()
        except PermissionError:
            # The directory of an ended main thread belongs to root (task_dump_owner).
            if not self._try_live_thread():
                raise

    def _open(self) -> None:
        base = f"{self._proc}/{self._pid}"
        path = f"{base}/fd" if self.thread is None else f"{base}/task/{self.thread}/fd"
        self.__exit__()
        with suppress(FileNotFoundError, ProcessLookupError):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            self._directory = os.open(path, flags)
            self.count = os.fstat(self._directory).st_size
        self._link = partial(os.readlink, dir_fd=self._directory)

    def _try_live_thread(self) -> bool:
        """Open the directory of another thread; False: the main thread lives, or none does."""
        if self.thread is not None:
            return False
        self.thread = live_thread(self._proc, self._pid)
        if self.thread is None:
            return False
        self._open()
        return True

    def __enter__(self) -> FdDirectory:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def some(self, numbers: Iterable[int]) -> list[str] | None:
        """The link targets of these descriptors; None if one of them does not exist."""
        try:
            return list(map(self._link, map(str, numbers)))
        except (FileNotFoundError, ProcessLookupError):
            return None

    def all(self) -> list[str]:
        """The link targets of all descriptors; empty if the process has ended."""
        return self.read()[1]

    def numbered(self) -> Iterable[tuple[int, str]]:
        """The (number, link target) of all descriptors; empty if the process has ended."""
        return zip(*self.read())

    def read(self, first: int = 0, limit: int | None = None) -> tuple[Sequence[int], list[str]]:
        """The numbers and link targets of descriptors; empty if the process has ended.

        first: the lowest number. limit: how many to read at most; None: all.

        Mostly their numbers are 0 to count - 1. Reading those without listing the directory saves a
        quarter of the time.
        """
        if self._directory is None:
            return (), []
        end = self.count if limit is None else min(self.count, first + limit)
        links = self.some(range(first, end)) if first < end else None
        if links is not None:
            return range(first, end), links
        numbers: list[int] = []
        links = []
        with suppress(FileNotFoundError, ProcessLookupError):
            for number in self._listed(first, limit):
                # The process may have closed it.
                with suppress(FileNotFoundError):
                    links.append(self._link(str(number)))
                    numbers.append(number)
        if not numbers and self._try_live_thread():
            return self.read(first, limit)
        return numbers, links

    def _listed(self, first: int, limit: int | None) -> list[int]:
        """The numbers of descriptors from the first one on, in ascending order (proc_readfd)."""
        if self._directory is None:
            return []
        if limit is None:
            return [int(name) for name in os.listdir(self._directory)]
        # The entries . and .. come first, and the offset of a descriptor is its number plus two.
        os.lseek(self._directory, first + 2, os.SEEK_SET)
        with os.scandir(self._directory) as entries:
            numbers = (int(entry.name) for entry in entries)
            return list(islice((number for number in numbers if number >= first), limit))


def describe(proc: str, pid: int) -> Process | None:
    """Read the command and unit of a process; None if it has ended."""
    comm = read_comm(proc, pid)
    if not comm:
        return None
    return Process(pid, comm, unit_of_process(proc, pid))


def unit_of_process(proc: str, pid: int) -> str | None:
    """The systemd unit of a process; None: none."""
    return unit_of(text.decode(_read(f"{proc}/{pid}/cgroup")))


def read_comm(proc: str, pid: int) -> str:
    """The command name of a process; empty if it has ended.

    The kernel cuts names after 15 bytes, also in the middle of a character. Any byte except NUL may
    occur, so only the newline that /proc adds is removed.
    """
    return text.decode(_read(f"{proc}/{pid}/comm")).removesuffix("\n")


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def unit_of(cgroups: str) -> str | None:
    """The innermost systemd unit in the text of /proc/PID/cgroup (cgroups(7)); None: none.

    The unified hierarchy (``0::``) takes precedence over systemd's own in cgroup v1. Slices do not
    count, since they only group units. A ``foo.service`` of a user's manager is foo.service, not
    user@1000.service.
    """
    paths: dict[str, str] = {}
    for line in cgroups.split("\n"):
        number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if number == "0" and not controllers:
            paths["unified"] = path
        elif controllers == "name=systemd":
            paths["systemd"] = path
    for hierarchy in ("unified", "systemd"):
        unit = unit_of_path(paths.get(hierarchy, ""))
        if unit is not None:
            return unit
    return None


def unit_of_path(path: str) -> str | None:
    """The innermost systemd unit in the path of a cgroup; None: none."""
    for part in reversed(path.split("/")):
        if part.endswith(UNIT_SUFFIXES):
            return part
    return None


def program(proc: str, pid: int) -> str | None:
    """The path of the program that a process runs (proc_pid_exe(5)); None: unreadable."""
    try:
        raw = os.readlink(os.fsencode(f"{proc}/{pid}/exe"))
    except OSError:
        return None
    return text.decode(raw).removesuffix(_DELETED)


def command_line(proc: str, pid: int) -> str:
    """The arguments of a process, separated by blanks (proc_pid_cmdline(5)); "": unreadable."""
    return text.decode(_read(f"{proc}/{pid}/cmdline").rstrip(b"\0").replace(b"\0", b" "))
