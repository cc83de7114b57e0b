# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Predicates on the owner of a socket: user, cgroup and processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ... import text, values
from ...netlink import bytecode
from ...sockets.needs import Need
from ...values import Path
from .. import kernel_filter
from ..kernel_filter import ACCEPT, REJECT, Condition, Filter
from ..tree import FilterContext, Predicate

if TYPE_CHECKING:
    from ...sockets.snapshot import Snapshot
    from ...sockets.socket import Socket
    from ..tree import Bound

# TASK_COMM_LEN (include/linux/sched.h) without the terminating null byte.
_COMM_BYTES = 15
# Python compares more ids than this faster than a kernel filter.
_CGROUP_CONDITIONS = 32


class UserIs(Predicate):
    """The UID is in one of the ranges (first, last). Unknown if the kernel reports no owner."""

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
    """The socket was created in a cgroup v2 or, unless below is False, anywhere below it.

    Unknown if the cgroup does not exist, for sockets without one (TIME_WAIT, half-open), and for
    sockets whose cgroup was removed, because its path is no longer known.
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
        return frozenset(
            {min(ids, key=lambda identifier: len(snapshot.cgroup_path(identifier) or ""))}
        )

    def bind(self, snapshot: Snapshot) -> Bound:
        ids = self._ids(snapshot)
        if ids is None:
            return None
        # By id, so that the path of a cgroup is looked up once and not for each socket.
        answers: dict[int, bool | None] = dict.fromkeys(ids, True)

        def test(sock: Socket) -> bool | None:
            identifier = sock.cgroup_id
            if not identifier:
                return None
            if identifier not in answers:
                removed = snapshot.cgroup_path(identifier) is None
                answers[identifier] = None if removed else False
            return answers[identifier]

        return test

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:
        ids = self._ids(context.snapshot)
        if ids is None:
            return REJECT, REJECT
        if not context.exact_ops or len(ids) > _CGROUP_CONDITIONS:
            return ACCEPT, ACCEPT
        accepted = kernel_filter.any_of(
            Condition(bytecode.cgroup(identifier)) for identifier in sorted(ids)
        )
        return accepted, kernel_filter.negation(accepted)


class _HeldByProcess(Predicate):
    """Predicates on the processes that hold a socket. Unknown if the caller can see none."""

    needs = frozenset({Need.OWNERS})
    cost = 2

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        matches = self.matches

        def test(sock: Socket) -> bool | None:
            processes = sock.processes
            if processes is None:
                return None
            return any(matches(process.pid, process.comm) for process in processes)

        return test

    def matches(self, pid: int, comm: str) -> bool:
        raise NotImplementedError


class ProcessIs(_HeldByProcess):
    """A process with one of the command names, which the kernel cuts after 15 bytes."""

    def __init__(self, path: Path, value: object, names: Collection[str]) -> None:
        super().__init__(path, value)
        self.names = frozenset(
            text.decode(text.encode(spelling)[:_COMM_BYTES])
            for name in names
            for spelling in text.spellings(name)
        )

    def matches(self, pid: int, comm: str) -> bool:  # noqa: ARG002
        return comm in self.names


class PidIs(_HeldByProcess):
    """A process with one of the PIDs."""

    def __init__(self, path: Path, value: object, pids: Collection[int]) -> None:
        super().__init__(path, value)
        self.pids = frozenset(pids)

    def matches(self, pid: int, comm: str) -> bool:  # noqa: ARG002
        return pid in self.pids
