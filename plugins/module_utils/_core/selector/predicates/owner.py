# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: conditions by whose a socket is: user, cgroup, processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ... import values
from ...netlink import bytecode
from ...sockets.needs import Need
from ...values import Path
from .. import kernel_filter
from ..kernel_filter import ACCEPT, REJECT, Condition, Filter
from ..tree import Predicate, Target

if TYPE_CHECKING:
    from ...sockets.snapshot import Snapshot
    from ...sockets.socket import Socket
    from ..tree import Bound

# TASK_COMM_LEN (include/linux/sched.h) less the end of the string.
_COMM_BYTES = 15
# More ids than this are cheaper to compare in Python.
_CGROUP_CONDITIONS = 32


class UserIs(Predicate):
    """ranges: (first, last) of uids each. Unknown where the kernel names no owner."""

    def __init__(self, path: Path, value: object, ranges: Iterable[tuple[int, int]]) -> None:
        super().__init__(path, value)
        self.ranges = values.merge_ranges(ranges)

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        ranges = self.ranges

        def test(sock: Socket) -> bool | None:
            uid = sock.uid
            if uid is None:
                return None
            return any(first <= uid <= last for first, last in ranges)

        return test


class CgroupIs(Predicate):
    """A cgroup v2 and, unless below is False, everything below it, as of the socket's creation.

    Unknown where there is no such cgroup, for sockets without one (TIME_WAIT, half-open), and for
    those whose cgroup is gone, since its place in the tree is forgotten.
    """

    needs = frozenset({Need.CGROUPS})
    cost = 2

    def __init__(self, path: Path, value: object, cgroup: str, *, below: bool = True) -> None:
        super().__init__(path, value)
        self.cgroup = cgroup
        self.below = below

    def _ids(self, snapshot: Snapshot) -> frozenset[int] | None:
        ids = snapshot.cgroup_ids(self.cgroup)
        if ids is None or self.below:
            return ids
        return frozenset({min(ids, key=lambda each: len(snapshot.cgroup_path(each) or ""))})

    def bind(self, snapshot: Snapshot) -> Bound:
        ids = self._ids(snapshot)
        if ids is None:
            return None
        # By id, so that a cgroup's path is asked for once and not for each socket in it.
        answers: dict[int, bool | None] = dict.fromkeys(ids, True)

        def test(sock: Socket) -> bool | None:
            identifier = sock.cgroup_id
            if not identifier:
                return None
            if identifier not in answers:
                gone = snapshot.cgroup_path(identifier) is None
                answers[identifier] = None if gone else False
            return answers[identifier]

        return test

    def filters(self, target: Target) -> tuple[Filter, Filter]:
        ids = self._ids(target.snapshot)
        if ids is None:
            return REJECT, REJECT
        if not target.exact_ops or len(ids) > _CGROUP_CONDITIONS:
            return ACCEPT, ACCEPT
        accepted = kernel_filter.any_of(Condition(bytecode.cgroup(each)) for each in sorted(ids))
        return accepted, kernel_filter.negation(accepted)


class _Owned(Predicate):
    """By the processes that hold a socket, as far as this caller may see them; unknown where it
    sees none."""

    needs = frozenset({Need.OWNERS})
    cost = 2

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        holds = self.holds

        def test(sock: Socket) -> bool | None:
            processes = sock.processes
            if processes is None:
                return None
            return any(holds(process.pid, process.comm) for process in processes)

        return test

    def holds(self, pid: int, comm: str) -> bool:
        raise NotImplementedError


class ProcessIs(_Owned):
    """names: of commands, as the kernel has them: cut after 15 bytes."""

    def __init__(self, path: Path, value: object, names: Collection[str]) -> None:
        super().__init__(path, value)
        self.names = frozenset(
            name.encode(errors="surrogateescape")[:_COMM_BYTES].decode(errors="surrogateescape")
            for name in names
        )

    def holds(self, pid: int, comm: str) -> bool:  # noqa: ARG002
        return comm in self.names


class PidIs(_Owned):
    def __init__(self, path: Path, value: object, pids: Collection[int]) -> None:
        super().__init__(path, value)
        self.pids = frozenset(pids)

    def holds(self, pid: int, comm: str) -> bool:  # noqa: ARG002
        return pid in self.pids
