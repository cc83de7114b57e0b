# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: which sockets are held by whom, as far as the guard must know."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..host.processes import SocketOwners, describe, descriptor_links, link_of
from ..sockets.snapshot import Snapshot
from .holding import remove_held
from .processes import Processes
from .reason import CONTROL_CONNECTION, KERNEL, OWNER_UNREADABLE, SSH_SESSIONS, Reason


def reasons_by_owner(
    snapshot: Snapshot,
    inodes: Collection[int],
    switches: Collection[str],
    ancestors: Sequence[int],
) -> dict[int, Reason]:
    """Why sockets with these inodes, none of them 0, are protected for the sake of who holds them.

    Descriptors are read of the ancestors and of ssh's processes; then, where it matters whether
    anybody holds a socket at all, of other processes until all sockets are found.
    """
    proc = snapshot.host.proc
    processes = Processes.of(snapshot)
    found: dict[int, Reason] = {}
    links = {link_of(inode): inode for inode in inodes}
    unseen = set(links)
    unreadable: list[int] = []
    read: set[int] = set()

    def protect(pid: int, reason: Reason) -> None:
        """For everything that the process holds."""
        read.add(pid)
        held = descriptor_links(proc, pid)
        if held is None:
            unreadable.append(pid)
            return
        for link in unseen.intersection(held):
            unseen.discard(link)
            found[links[link]] = reason

    if CONTROL_CONNECTION in switches:
        for pid in ancestors:
            detail = f"held by process {pid}, from which this one descends"
            protect(pid, Reason(CONTROL_CONNECTION, detail))
    if SSH_SESSIONS in switches:
        for pid, program in processes.ssh.items():
            if pid not in read:
                protect(pid, Reason(SSH_SESSIONS, f"held by {program}, process {pid}"))
    if SSH_SESSIONS not in switches and KERNEL not in switches:
        return found
    owners = snapshot.known_owners
    if owners is not None:
        unseen.difference_update([link for link in unseen if owners.of(links[link])])
    if not unseen:
        return found
    near, elsewhere = processes.near_and_elsewhere
    others = [pid for pid in (*near, *elsewhere) if pid not in read]
    hidden = len(unreadable) + remove_held(proc, others, unseen)
    unread = f"the descriptors of {_count(hidden, 'process')} cannot be read"
    if hidden and SSH_SESSIONS in switches:
        nobody = Reason(OWNER_UNREADABLE, unread)
    elif KERNEL in switches:
        detail = "no visible process holds it"
        nobody = Reason(KERNEL, f"{detail}, and {unread}" if hidden else detail)
    else:
        return found
    found.update(dict.fromkeys([links[link] for link in unseen], nobody))
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}es"


def name_holders(snapshot: Snapshot, inodes: Collection[int]) -> None:
    """Find one holder of each of these sockets, if there is one, for the environment to keep.

    A walk over all descriptors of all processes takes far longer, and finds them all.
    """
    proc = snapshot.host.proc
    links = {link_of(inode): inode for inode in inodes}
    unseen = set(links)
    found: dict[str, int] = {}
    unreadable = 0
    for pids in Processes.of(snapshot).near_and_elsewhere:
        unreadable += remove_held(proc, pids, unseen, found)
    described = {pid: describe(proc, pid) for pid in set(found.values())}
    held_by = {pid: (each,) for pid, each in described.items() if each is not None}
    holders = {links[link]: held_by[pid] for link, pid in found.items() if pid in held_by}
    snapshot.set_some_owners(SocketOwners(holders, not unreadable))
