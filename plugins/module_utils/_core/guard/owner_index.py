# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""What an agent remembers about the holders of sockets, and how many descriptors it reads.

A user may have a million descriptors, and hide one socket from /proc. A search for the holder of
that socket would read all of them, in each pass. So each user has a quota of descriptors in each
search, and the next search goes on where the last one stopped. Root has no quota.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..host.processes import inode_of
from ..host.provenance import read_ancestry
from ..host.user_ids import root_ids

# Quotas of one search, in descriptors. Reading one takes the kernel one to two microseconds.
USER_QUOTA = 8_192
QUOTA_PER_SOCKET = 32
ALL_USERS_QUOTA = 4 * USER_QUOTA
# What a process costs beyond its descriptors, and what a thread costs, in descriptors.
_PROCESS = 8
THREAD = 8

# About 160 bytes each.
_MAX_HOLDERS = 1 << 17
_MAX_USERS = 4_096


_SOCKET = "socket:["
# A holder is one integer, pid and descriptor: a tuple would take twice the memory.
_NUMBER_BITS = 32
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1


class _Descriptor(NamedTuple):
    pid: int
    number: int


class OwnerIndex:
    """Remembers holders of sockets, and where each user's quota ended."""

    def __init__(self) -> None:
        # By inode. The holders that were recorded last are at the end.
        self._holders: OrderedDict[int, int] = OrderedDict()
        # By user: the pid to begin with, and the number of its first descriptor that is unread.
        self._next: OrderedDict[int, _Descriptor] = OrderedDict()

    def remember(self, link: str, pid: int, number: int) -> None:
        """Record that a descriptor of a process has this link target. Only sockets are kept."""
        self.remember_all(pid, (number,), (link,))

    def remember_all(self, pid: int, numbers: Sequence[int], links: Sequence[str]) -> None:
        """Record descriptors of a process and their link targets. Only sockets are kept."""
        holders, process = self._holders, pid << _NUMBER_BITS
        for number, link in zip(numbers, links):
            if link.startswith(_SOCKET):
                inode = inode_of(link)
                holders[inode] = process | number
                holders.move_to_end(inode)
        while len(holders) > _MAX_HOLDERS:
            holders.popitem(last=False)

    def holder(self, proc: str, link: str) -> int | None:
        """The pid of a holder that has the socket now; None: none is known.

        The link target names the socket, so a new process with the same pid and descriptor counts
        only if it holds that socket too. This proves that the socket has a holder. It says nothing
        about other holders, and None does not mean that there is none.
        """
        inode = inode_of(link)
        found = self._holders.get(inode)
        if found is None:
            return None
        pid, number = found >> _NUMBER_BITS, found & _NUMBER_MASK
        try:
            if os.readlink(f"{proc}/{pid}/fd/{number}") == link:
                return pid
        except OSError:
            pass
        del self._holders[inode]
        return None

    def continue_at(self, user: int) -> _Descriptor:
        """Where to continue with a user's processes: a pid, and a number of a descriptor."""
        return self._next.get(user, _Descriptor(0, 0))

    def stopped_at(self, user: int, pid: int, number: int) -> None:
        """Record the first descriptor that the quota left out."""
        self._next[user] = _Descriptor(pid, number)
        self._next.move_to_end(user)
        if len(self._next) > _MAX_USERS:
            self._next.popitem(last=False)

    def completed(self, user: int) -> None:
        """Record that a search read all processes of a user."""
        self._next.pop(user, None)


class Quota:
    """How many descriptors one search may read.

    users: the user of each socket that the search is about. Their processes come first.
    """

    def __init__(self, proc: str, users: Iterable[int]) -> None:
        self._proc = proc
        self._roots = root_ids(proc)
        self._sockets = Counter(users)
        self._used: Counter[int] = Counter()
        self._total = 0

    def user(self, pid: int) -> int:
        """The effective user of a process (task_dump_owner), 0 if it has ended."""
        try:
            return os.stat(f"{self._proc}/{pid}").st_uid
        except OSError:
            return 0

    def real_user_is_root(self, pid: int) -> bool:
        """Whether the real user of a process is root, or it has ended."""
        ancestry = read_ancestry(self._proc, pid)
        return ancestry is None or ancestry.user in self._roots

    def room(self, user: int) -> int | None:
        """How many more descriptors of a user may be read; None: all."""
        if user in self._roots:
            return None
        own = max(USER_QUOTA, QUOTA_PER_SOCKET * self._sockets[user]) - self._used[user]
        # The users of the sockets are not affected by the number of other users.
        left = own if self._sockets[user] else min(own, ALL_USERS_QUOTA - self._total)
        return max(0, left - _PROCESS)

    def charge(self, user: int, descriptors: int) -> None:
        """Record that descriptors of one process were read."""
        self._used[user] += descriptors + _PROCESS
        if user not in self._roots and not self._sockets[user]:
            self._total += descriptors + _PROCESS

    def by_user(self, pids: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
        """The pids of each user: first root's, then those of the users of the sockets."""
        users: dict[int, list[int]] = {}
        for pid in pids:
            users.setdefault(self.user(pid), []).append(pid)
        order = sorted(
            users, key=lambda user: (user not in self._roots, not self._sockets[user], user)
        )
        for user in order:
            yield user, users[user]
