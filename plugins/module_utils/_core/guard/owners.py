# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Protection rules that depend on the processes that hold a socket."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..host.proc_visibility import hidden_processes_reason
from ..host.processes import descriptor_links, link_of
from ..sockets.snapshot import Snapshot
from .holders import discard_held, discard_held_by_threads
from .process_list import Processes
from .reason import (
    CONTROL_CONNECTION,
    KERNEL,
    NO_HOLDER,
    OWNER_UNREADABLE,
    SSH_SESSIONS,
    Reason,
)


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
    discard_held_by_threads(proc, without_holder)
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
