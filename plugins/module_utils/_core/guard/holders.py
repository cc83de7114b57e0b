# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Search for processes that hold sockets.

Reading one descriptor costs the kernel almost two microseconds, and one holder is enough to know
that a socket has one. So the processes and descriptors that most likely hold the sockets are read
first, and reading stops when every socket has a holder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..host.proc_visibility import hidden_processes_reason
from ..host.processes import (
    FdDirectory,
    SocketOwners,
    describe,
    descriptor_links,
    descriptors_of_threads,
    link_of,
)
from ..sockets.snapshot import Snapshot
from .process_list import Processes

# The number of descriptors from which sampling pays.
_MIN_SAMPLED = 1024
_SAMPLE_SIZE = 32


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
    discard_held_by_threads(proc, without_holder, pid_by_link)
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


def discard_held_by_threads(
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
