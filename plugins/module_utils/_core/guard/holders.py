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

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ..host.proc_visibility import hidden_processes_reason
from ..host.processes import (
    FdDirectory,
    SocketOwners,
    describe,
    inode_of,
    link_of,
    process_numbers,
)
from ..host.threads import thread_count, threads_with_own_descriptors
from ..host.user_ids import ROOT
from ..sockets.slots import Slot
from ..sockets.snapshot import Snapshot
from .owner_index import THREAD, OwnerIndex, Quota
from .process_list import Processes

# The number of descriptors from which sampling pays.
_MIN_SAMPLED = 1024
_SAMPLE_SIZE = 32


class Half(NamedTuple):
    """Every other descriptor of a process. hits: sockets of the search in a sample of them."""

    hits: int
    pid: int
    numbers: range


class HolderSearch:
    """A search for one holder of each of some sockets.

    users: the user of each socket, by link target. index: what earlier searches found; it bounds
    the search. None: all descriptors are read.

    left: sockets without a holder so far. holders: a holding pid by link target. unreadable,
    not_reached: numbers of processes whose descriptors were unreadable, or beyond the quota.
    """

    def __init__(self, proc: str, users: Mapping[str, int], index: OwnerIndex | None) -> None:
        self._proc = proc
        self._index = index
        self._quota = None if index is None else Quota(proc, users.values())
        self.left = set(users)
        self.holders: dict[str, int] = {}
        self.unreadable = self.not_reached = 0
        if index is not None:
            known = {link: index.holder(proc, link) for link in users}
            self.holders.update({link: pid for link, pid in known.items() if pid is not None})
            self.left.difference_update(self.holders)

    def read(self, pids: Collection[int]) -> None:
        """Read the descriptors of these processes until every socket has a holder."""
        quota, index = self._quota, self._index
        if quota is None or index is None:
            self._read_all(pids)
            return
        for user, own in quota.by_user(pids) if self.left else ():
            if quota.room(user) is None:
                self._read_all(own)
            else:
                self._read_some(user, own, quota, index)

    def read_threads(self, pids: Iterable[int]) -> None:
        """Read the descriptors that only some threads of these processes have."""
        for pid in pids:
            if not self.left:
                return
            count = thread_count(self._proc, pid)
            if count > 1:
                self._read_threads(pid, count)

    def _read_threads(self, pid: int, count: int) -> None:
        quota = self._quota
        user = ROOT if quota is None else quota.user(pid)
        room = None if quota is None else quota.room(user)
        compared = count if room is None else min(count, room // THREAD)
        complete = compared == count
        for thread in threads_with_own_descriptors(self._proc, pid, compared):
            with suppress(PermissionError), FdDirectory(self._proc, pid, thread) as directory:
                numbers, links = directory.read(limit=room)
                self._take(pid, (), links)
                if quota is not None and room is not None:
                    complete = complete and len(numbers) < room
                    quota.charge(user, len(numbers))
                    room = quota.room(user)
        self.not_reached += not complete
        if quota is not None:
            quota.charge(user, THREAD * compared)

    def _take(self, pid: int, numbers: Sequence[int], links: Sequence[str]) -> None:
        """Record that a process holds these. numbers: of its descriptors; empty: of a thread's."""
        held = self.left.intersection(links)
        if not held:
            return
        self.left -= held
        self.holders.update(dict.fromkeys(held, pid))
        if self._index is not None and numbers:
            number_of = dict(zip(links, numbers))
            for link in held:
                self._index.remember(link, pid, number_of[link])

    def _read_all(self, pids: Iterable[int]) -> None:
        """Read all descriptors.

        Processes with many descriptors are read last, in halves of even and odd numbers, those
        halves first whose sample has the most hits. A proxy's connections to clients and to servers
        alternate, as do both ends in a test program.
        """
        halves: list[Half] = []
        for pid in pids:
            if not self.left:
                return
            try:
                with FdDirectory(self._proc, pid) as directory:
                    if directory.count >= _MIN_SAMPLED and self._started_by_user(pid):
                        continue
                    halves += self._read_or_sample(pid, directory)
            except PermissionError:
                self.unreadable += 1
        self._read_halves(halves)

    def _started_by_user(self, pid: int) -> bool:
        """Whether a user started a program of root, such as su. It has that user's descriptors."""
        if self._quota is None or self._quota.real_user_is_root(pid):
            return False
        self.not_reached += 1
        return True

    def _read_or_sample(self, pid: int, directory: FdDirectory) -> list[Half]:
        """Read the descriptors of a process, or return its halves if it has many."""
        samples = _sample(directory)
        if samples is None:
            self._take(pid, *directory.read())
        return [
            Half(len(self.left.intersection(sample)), pid, numbers)
            for numbers, sample in samples or ()
        ]

    def _read_halves(self, halves: list[Half]) -> None:
        """Read halves of descriptors, those with most hits first."""
        halves.sort(key=lambda half: half[:2], reverse=True)
        read_whole: set[int] = set()
        for _hits, pid, numbers in halves:
            if not self.left:
                return
            if pid in read_whole:
                continue
            with suppress(PermissionError), FdDirectory(self._proc, pid) as directory:
                links = directory.some(numbers)
                if links is None:
                    # One of them was closed meanwhile.
                    read_whole.add(pid)
                    self._take(pid, *directory.read())
                else:
                    self._take(pid, numbers, links)

    def _read_some(self, user: int, pids: Collection[int], quota: Quota, index: OwnerIndex) -> None:
        """Read the descriptors of a user's processes up to the quota, from where it ended last."""
        halves: list[Half] = []
        begin = index.continue_at(user)
        ordered = sorted(pids, key=lambda pid: (pid < begin.pid, pid))
        for position, pid in enumerate(ordered):
            if not self.left:
                return
            room = quota.room(user)
            if not room:
                self.not_reached += len(ordered) - position
                index.stopped_at(user, pid, 0)
                break
            first = begin.number if pid == begin.pid else 0
            try:
                with FdDirectory(self._proc, pid) as directory:
                    if not first and 0 < directory.count < room:
                        quota.charge(user, directory.count)
                        halves += self._read_or_sample(pid, directory)
                        continue
                    numbers, links = directory.read(first, room)
                    self._take(pid, numbers, links)
            except PermissionError:
                self.unreadable += 1
                continue
            quota.charge(user, len(numbers))
            if first or len(numbers) >= room:
                # The rest of it is read in the next search, or its beginning was in the last one.
                self.not_reached += 1
                following = numbers[-1] + 1 if len(numbers) >= room else 0
                index.stopped_at(user, pid if following else pid + 1, following)
                if following:
                    self.not_reached += len(ordered) - position - 1
                    break
        else:
            index.completed(user)
        self._read_halves(halves)


def load_one_owner(snapshot: Snapshot, users: Mapping[int, int], index: OwnerIndex) -> None:
    """Find one holder of each socket, and set them in the snapshot.

    users: the user of each socket by inode, without inode 0. Snapshot.load_owners finds all
    holders, which takes far longer: it reads every descriptor of every process.
    """
    proc = snapshot.host.proc
    snapshot.get_or_create(OWNER_INDEX, lambda: index)
    search = HolderSearch(proc, {link_of(inode): user for inode, user in users.items()}, index)
    if search.left:
        for pids in Processes.of(snapshot).same_namespace_first:
            search.read(pids)
        search.read_threads(process_numbers(proc))
    complete = not (search.unreadable or search.not_reached) and not (
        search.left and hidden_processes_reason(proc)
    )
    described = {pid: describe(proc, pid) for pid in set(search.holders.values())}
    holders = {pid: (process,) for pid, process in described.items() if process is not None}
    found = {inode_of(link): holders[pid] for link, pid in search.holders.items() if pid in holders}
    snapshot.set_some_owners(SocketOwners(found, complete))


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


# Set by load_one_owner, so that the rules of the guard use the same index and its quota.
OWNER_INDEX: Slot[OwnerIndex] = Slot("owner index")
