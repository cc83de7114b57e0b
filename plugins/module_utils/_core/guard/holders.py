# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: which sockets are held by whom, as far as the guard must know."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from ..environment import Environment
from ..owners import (
    Owners,
    Process,
    describe,
    descriptor_links,
    inode_of,
    link_of,
    process_numbers,
)
from .holding import remove_held
from .reason import (
    CONTROL_CONNECTION,
    KERNEL,
    OWNER_UNREADABLE,
    SSH_SESSIONS,
    Reason,
)

# The listening daemon and, since OpenSSH 9.8, the programs of a session; and dropbear.
SSH_PROGRAMS = frozenset({"sshd", "sshd-session", "sshd-auth", "dropbear"})
_DELETED = " (deleted)"


def reasons_by_owner(
    environment: Environment,
    inodes: Collection[int],
    switches: Collection[str],
    ancestors: Sequence[int],
) -> dict[int, Reason]:
    """Why sockets with these inodes, none of them 0, are spared for the sake of who holds them.

    Descriptors are read of the ancestors and of ssh's processes; then, where it matters whether
    anybody holds a socket at all, of other processes until all sockets are found.
    """
    proc = environment.host.proc
    found: dict[int, Reason] = {}
    unseen = set(map(link_of, inodes))
    unreadable: list[int] = []
    read: set[int] = set()

    def spare(pid: int, reason: Reason) -> None:
        """For everything that the process holds."""
        read.add(pid)
        links = descriptor_links(proc, pid)
        if links is None:
            unreadable.append(pid)
            return
        held = unseen.intersection(links)
        unseen.difference_update(held)
        found.update(dict.fromkeys(map(inode_of, held), reason))

    if CONTROL_CONNECTION in switches:
        for pid in ancestors:
            detail = f"held by process {pid}, from which this one descends"
            spare(pid, Reason(CONTROL_CONNECTION, detail))
    if SSH_SESSIONS in switches:
        for pid in process_numbers(proc):
            program = _ssh_program(proc, pid)
            if program is not None and pid not in read:
                spare(pid, Reason(SSH_SESSIONS, f"held by {program}, process {pid}"))
    if SSH_SESSIONS not in switches and KERNEL not in switches:
        return found
    owners = environment.owners or environment.holders
    if owners is not None:
        unseen.difference_update([name for name in unseen if owners.of(inode_of(name))])
    hidden = len(unreadable) + remove_held(proc, _others(environment, read), unseen)
    unread = f"the descriptors of {_count(hidden, 'process')} cannot be read"
    if hidden and SSH_SESSIONS in switches:
        nobody = Reason(OWNER_UNREADABLE, unread)
    elif KERNEL in switches:
        detail = "no visible process holds it"
        nobody = Reason(KERNEL, f"{detail}, and {unread}" if hidden else detail)
    else:
        return found
    found.update(dict.fromkeys(map(inode_of, unseen), nobody))
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}es"


def _ssh_program(proc: str, pid: int) -> str | None:
    """The name under which a process is one of ssh's, by its program or its command."""
    try:
        program = os.path.basename(os.readlink(f"{proc}/{pid}/exe"))
    except OSError:
        program = ""
    # Replaced by an upgrade while it runs.
    program = program.removesuffix(_DELETED)
    if program in SSH_PROGRAMS:
        return program
    try:
        with open(f"{proc}/{pid}/comm", "rb", buffering=0) as stream:
            command = os.fsdecode(stream.read().rstrip(b"\n"))
    except OSError:
        return None
    return command if command in SSH_PROGRAMS else None


def _others(environment: Environment, read: Collection[int]) -> Iterator[int]:
    """The processes not yet read; first those in the sockets' own namespace, most likely theirs."""
    near, elsewhere = _near_and_elsewhere(environment, read)
    yield from near
    yield from elsewhere


def _near_and_elsewhere(
    environment: Environment, read: Collection[int]
) -> tuple[list[int], list[int]]:
    proc = environment.host.proc
    identity = environment.namespace.identity
    near: list[int] = []
    elsewhere: list[int] = []
    for pid in process_numbers(proc):
        if pid in read:
            continue
        try:
            status = os.stat(f"{proc}/{pid}/ns/net")
        except OSError:
            elsewhere.append(pid)
            continue
        if (status.st_dev, status.st_ino) == identity:
            near.append(pid)
        else:
            elsewhere.append(pid)
    return near, elsewhere


def name_holders(environment: Environment, inodes: Collection[int]) -> None:
    """Find one holder of each of these sockets, if there is one, for the environment to keep.

    A walk over all descriptors of all processes takes far longer, and finds them all.
    """
    proc = environment.host.proc
    unseen = set(map(link_of, inodes))
    found: dict[str, int] = {}
    unreadable = 0
    for pids in _near_and_elsewhere(environment, ()):
        unreadable += remove_held(proc, pids, unseen, found)
    processes = {pid: describe(proc, pid) for pid in set(found.values())}
    holders: dict[int, tuple[Process, ...]] = {}
    for link, pid in found.items():
        process = processes[pid]
        if process is not None:
            holders[inode_of(link)] = (process,)
    environment.holders = Owners(holders, not unreadable)
