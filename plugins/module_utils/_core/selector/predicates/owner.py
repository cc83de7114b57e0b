# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Predicates on the owner of a socket: user, cgroup and processes."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ... import text, values
from ...errors import Absent
from ...host.processes import (
    UNIT_SUFFIXES,
    Process,
    command_line,
    process_numbers,
    program,
    read_comm,
    unit_of_path,
    unit_of_process,
)
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
# How many similar cgroups a warning lists.
_MAX_SIMILAR = 5


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

    def absent(self, snapshot: Snapshot) -> Iterable[Absent]:
        if self._ids(snapshot) is not None:
            return
        cgroups = snapshot.cgroups
        if not cgroups.mounted:
            yield Absent(
                tuple(self.path), self.value, "no cgroup v2 is mounted", "use unit or process"
            )
            return
        name = self.cgroup.rstrip("/").rpartition("/")[2]
        similar = [path for path in cgroups.paths() if name and name in path.rpartition("/")[2]]
        hint = f"existing: {', '.join(similar[:_MAX_SIMILAR])}; " if similar else ""
        yield Absent(
            tuple(self.path),
            self.value,
            "no such cgroup",
            f"{hint}services are below /system.slice/NAME, and unit selects by the name alone",
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

    def bind(self, snapshot: Snapshot) -> Bound:
        answers: dict[Process, bool | None] = {}

        def test(sock: Socket) -> bool | None:
            processes = sock.processes
            if processes is None:
                return None
            unknown = False
            for process in processes:
                if process not in answers:
                    answers[process] = self.matches(process, snapshot)
                if answers[process]:
                    return True
                unknown = unknown or answers[process] is None
            return None if unknown else False

        return test

    def matches(self, process: Process, snapshot: Snapshot) -> bool | None:
        """Whether a process matches; None: unknown."""
        raise NotImplementedError


class ProcessIs(_HeldByProcess):
    """A process with one of the command names, which the kernel cuts after 15 bytes."""

    def __init__(self, path: Path, value: object, names: Collection[str]) -> None:
        super().__init__(path, value)
        self._written = {
            text.decode(text.encode(spelling)[:_COMM_BYTES]): name
            for name in names
            for spelling in text.spellings(name)
        }
        self.names = frozenset(self._written)

    def matches(self, process: Process, snapshot: Snapshot) -> bool:  # noqa: ARG002
        return process.comm in self.names

    def absent(self, snapshot: Snapshot) -> Iterable[Absent]:
        doubtful = {name for name in self.names if _other_key(self._written[name])}
        if not doubtful:
            return
        proc = snapshot.host.proc
        absent = doubtful.difference(read_comm(proc, pid) for pid in process_numbers(proc))
        for name in sorted(self._written[each] for each in absent):
            yield Absent(tuple(self.path), name, *(_other_key(name) or ("", "")))


def _other_key(name: str) -> tuple[str, str] | None:
    """For what is hardly the name of a command: the problem, and what to use instead."""
    if "/" in name:
        command = name.rstrip("/").rpartition("/")[2]
        remedy = f"use process: {command}, or exe for the path of the program"
        return "a path, but process is the command name", remedy
    if name.endswith(UNIT_SUFFIXES):
        return "a systemd unit, but process is the command name", f"use unit: {name}"
    parts = [part.strip() for part in name.split(",")]
    if len(parts) > 1 and all(parts):
        return "no such process; a list in one string", f"use process: [{', '.join(parts)}]"
    if any(sign in name for sign in "*?[]|^$ "):
        remedy = "use cmdline with a regular expression for the command line"
        return "no such process; process is the command name alone", remedy
    return None


class PidIs(_HeldByProcess):
    """A process with one of the PIDs."""

    def __init__(self, path: Path, value: object, pids: Collection[int]) -> None:
        super().__init__(path, value)
        self.pids = frozenset(pids)

    def matches(self, process: Process, snapshot: Snapshot) -> bool:  # noqa: ARG002
        return process.pid in self.pids

    def absent(self, snapshot: Snapshot) -> Iterable[Absent]:
        for pid in sorted(self.pids):
            if not os.path.exists(f"{snapshot.host.proc}/{pid}"):
                yield Absent(
                    tuple(self.path), pid, "no such process", "check the number, or use process"
                )


class ExeIs(_HeldByProcess):
    """A process that runs one of the programs, given by path. Unknown if the path is unreadable."""

    def __init__(self, path: Path, value: object, programs: Collection[str]) -> None:
        super().__init__(path, value)
        spellings = {each for program in programs for each in text.spellings(program)}
        # /proc shows the path without symbolic links.
        resolved = {text.decode(os.path.realpath(text.encode(each))) for each in spellings}
        self.programs = frozenset(spellings | resolved)

    def matches(self, process: Process, snapshot: Snapshot) -> bool | None:
        found = program(snapshot.host.proc, process.pid)
        return None if found is None else found in self.programs


class CmdlineMatches(_HeldByProcess):
    """A process whose command line contains a match of one of the regular expressions."""

    def __init__(self, path: Path, value: object, patterns: Collection[re.Pattern[str]]) -> None:
        super().__init__(path, value)
        self.patterns = tuple(patterns)

    def matches(self, process: Process, snapshot: Snapshot) -> bool | None:
        line = command_line(snapshot.host.proc, process.pid)
        if not line:
            return None
        lines = {line, text.encodable(line), text.printable(line)}
        return any(pattern.search(each) for pattern in self.patterns for each in lines)


class UnitIs(Predicate):
    """The socket was created in one of the systemd units, or a process of one holds it.

    Unknown if neither its cgroup nor a process is known.
    """

    needs = frozenset({Need.CGROUPS, Need.OWNERS})
    cost = 2

    def __init__(self, path: Path, value: object, units: Collection[str]) -> None:
        super().__init__(path, value)
        self.units = frozenset(each for unit in units for each in text.spellings(unit))

    def bind(self, snapshot: Snapshot) -> Bound:
        units = self.units

        def test(sock: Socket) -> bool | None:
            cgroup = snapshot.cgroup_path(sock.cgroup_id) if sock.cgroup_id else None
            if cgroup is not None and unit_of_path(cgroup) in units:
                return True
            processes = sock.processes
            if processes is None:
                return None
            return any(process.unit in units for process in processes)

        return test

    def absent(self, snapshot: Snapshot) -> Iterable[Absent]:
        proc = snapshot.host.proc
        found = {unit_of_path(path) for path in snapshot.cgroups.paths()}
        if self.units <= found:
            return
        found.update(unit_of_process(proc, pid) for pid in process_numbers(proc))
        for unit in sorted(self.units - found):
            yield Absent(
                tuple(self.path), unit, "no such unit is running", "compare `systemctl list-units`"
            )
