# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Protection rules that depend on the processes that hold a socket."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..host.proc_visibility import hidden_processes_reason
from ..host.processes import descriptor_links, link_of, process_numbers
from ..netlink.inet_diag import DiagMessage
from ..sockets.snapshot import Snapshot
from .holders import OWNER_INDEX, HolderSearch
from .process_list import Processes
from .reason import (
    CONTROL_CONNECTION,
    KERNEL,
    NO_HOLDER,
    OWNER_UNREADABLE,
    SSH_FORWARDS,
    SSH_SESSIONS,
    Reason,
)
from .salt import SaltSockets
from .ssh import SshProcess, SshProcesses


def reasons_by_owner(
    snapshot: Snapshot,
    sockets: Mapping[int, DiagMessage],
    switches: Collection[str],
    ancestors: Sequence[int],
) -> dict[int, Reason]:
    """Find the sockets that are protected because of the processes that hold them.

    sockets: by inode, without 0. switches: the rules that are on. ancestors: pids of this process
    and its ancestors. Returns the reason by inode, for protected sockets only.

    The descriptors of the ancestors and of SSH processes are read first. Other processes are read
    only for rules that depend on whether a socket has any holder.
    """
    return _Search(snapshot, sockets, switches).run(ancestors)


class _Search:
    """The search for the owners of some sockets.

    _without_holder: the link targets of sockets for which no holder is found yet.
    """

    def __init__(
        self, snapshot: Snapshot, sockets: Mapping[int, DiagMessage], switches: Collection[str]
    ) -> None:
        self._snapshot = snapshot
        self._proc = snapshot.host.proc
        self._switches = switches
        self._ssh = SshProcesses.of(snapshot)
        self._messages = {link_of(inode): message for inode, message in sockets.items()}
        self._without_holder = set(self._messages)
        self._reasons: dict[int, Reason] = {}
        self._read: set[int] = set()
        self._unreadable = 0

    def run(self, ancestors: Sequence[int]) -> dict[int, Reason]:
        if CONTROL_CONNECTION in self._switches:
            self._find_sockets_of_ancestors(ancestors)
        salt = self._salt_ports()
        if self._needs_ssh_processes(salt):
            self._find_sockets_of_ssh()
        for link, port in salt.items():
            if link in self._without_holder:
                self._protect(link, Reason(CONTROL_CONNECTION, f"port {port} is a Salt port"))
        self._find_sockets_without_holder()
        return self._reasons

    def _protect(self, link: str, reason: Reason) -> None:
        self._without_holder.discard(link)
        self._reasons[self._messages[link].inode] = reason

    def _held(self, pid: int, links: Collection[str] | None) -> set[str]:
        """Those sockets without a holder so far that a process with these descriptors holds."""
        self._read.add(pid)
        if links is None:
            self._unreadable += 1
        return self._without_holder.intersection(links or ())

    def _find_sockets_of_ancestors(self, ancestors: Sequence[int]) -> None:
        for pid in ancestors:
            detail = f"held by process {pid}, an ancestor of this process"
            for link in self._held(pid, descriptor_links(self._proc, pid)):
                self._protect(link, Reason(CONTROL_CONNECTION, detail))

    def _salt_ports(self) -> dict[str, int]:
        """The ports of those sockets that are Salt's."""
        if CONTROL_CONNECTION not in self._switches:
            return {}
        salt = SaltSockets.of(self._snapshot)
        ports = {
            link: salt.port(self._messages[link], self._ssh.roots) for link in self._without_holder
        }
        return {link: port for link, port in ports.items() if port is not None}

    def _is_root(self, link: str) -> bool:
        return self._messages[link].uid in self._ssh.roots

    def _needs_ssh_processes(self, salt: Collection[str]) -> bool:
        """Whether it matters which sockets SSH processes hold.

        A session of root may have opened a connection to a Salt port for its user.
        """
        if salt or SSH_FORWARDS in self._switches:
            return True
        return SSH_SESSIONS in self._switches and any(map(self._is_root, self._without_holder))

    def _find_sockets_of_ssh(self) -> None:
        holders: dict[str, list[SshProcess]] = {}
        for process in self._ssh.all:
            if process.pid not in self._read:
                for link in self._held(process.pid, self._ssh.links(process.pid)):
                    holders.setdefault(link, []).append(process)
        for link, processes in holders.items():
            self._without_holder.discard(link)
            reason = self._reason_of_ssh(link, processes)
            if reason is not None and reason.rule in self._switches:
                self._protect(link, reason)

    def _reason_of_ssh(self, link: str, holders: Sequence[SshProcess]) -> Reason | None:
        """Why a socket that these processes hold may be protected."""
        detail = f"held by {holders[0].name}, process {holders[0].pid}"
        if self._is_root(link) and self._ssh.is_transport(self._messages[link], holders):
            return Reason(SSH_SESSIONS, detail)
        if self._is_root(link) or any(holder.is_fork for holder in holders):
            return Reason(SSH_FORWARDS, f"{detail}, which opened it for its user")
        return None

    def _find_sockets_without_holder(self) -> None:
        """Search all other processes for holders, and protect sockets that have none.

        A socket of a user is neither the kernel's nor the transport of an SSH session. It matters
        who holds it only if the connections that sshd opens for users are protected too.
        """
        switches, left = self._switches, self._without_holder
        if not {SSH_SESSIONS, KERNEL} & set(switches):
            left -= {link for link in left if self._is_root(link)}
        if SSH_FORWARDS not in switches:
            left -= {link for link in left if not self._is_root(link)}
        owners = self._snapshot.known_owners
        if owners is not None:
            left -= {link for link in left if owners.of(self._messages[link].inode)}
        if not left:
            return
        users = {link: self._messages[link].uid for link in left}
        search = HolderSearch(self._proc, users, self._snapshot.get(OWNER_INDEX))
        for pids in Processes.of(self._snapshot).same_namespace_first:
            search.read([pid for pid in pids if pid not in self._read])
        search.read_threads(process_numbers(self._proc))
        left &= search.left
        if not left:
            return
        doubts: list[str] = []
        unread = self._unreadable + search.unreadable
        if unread:
            doubts.append(f"the descriptors of {_count(unread, 'process')} cannot be read")
        if search.not_reached:
            number = _count(search.not_reached, "process")
            doubts.append(f"the descriptors of {number} were not all read in this pass")
        hidden = hidden_processes_reason(self._proc)
        if hidden is not None:
            doubts.append(hidden)
        unreadable = Reason(OWNER_UNREADABLE, ", and ".join(doubts))
        kernel = Reason(KERNEL, ", and ".join([NO_HOLDER, *doubts]))
        for link in tuple(left):
            rule = SSH_SESSIONS if self._is_root(link) else SSH_FORWARDS
            if doubts and rule in switches:
                self._protect(link, unreadable)
            elif KERNEL in switches and self._is_root(link):
                self._protect(link, kernel)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}es"
