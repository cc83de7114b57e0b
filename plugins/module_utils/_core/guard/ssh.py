# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The processes that serve SSH, and which of their sockets carry the sessions.

A process is one of them if root alone decides what its program is, the program has a known name,
and the process is root's. A process of a user is one of them if all its parents are, up to one of
root: sshd forks it when the user has logged in. A server that a user starts is not.

The transport of a session is the connection that the server accepted. It belongs to root, since
the server accepts it before it knows the user. What a session opens for its user, such as the far
end of a forwarded port, belongs to that user. For a session of root, the local port tells the two
apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from ..host.processes import descriptor_links, link_of
from ..host.provenance import Ancestry, is_system_program, read_ancestry
from ..host.user_ids import root_ids
from ..netlink import bytecode, constants, inet_diag
from ..netlink.inet_diag import DiagMessage
from ..sockets.slots import Slot
from ..sockets.snapshot import Snapshot
from .process_list import Processes

_LISTEN = 1 << constants.LISTENING


class SshProcess(NamedTuple):
    """A process that serves SSH.

    is_daemon: no parent of it does. is_fork: it runs the program that its ancestors of root run,
    and not one that its user started.
    """

    pid: int
    name: str
    is_daemon: bool
    is_fork: bool


class SshProcesses:
    """The processes that serve SSH, for one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._proc = snapshot.host.proc
        self._processes = Processes.of(snapshot)
        self._ancestries: dict[int, Ancestry | None] = {}
        self._serves: dict[int, bool] = {}
        self._links: dict[int, frozenset[str] | None] = {}

    @classmethod
    def of(cls, snapshot: Snapshot) -> SshProcesses:
        """The one instance of a snapshot."""
        return snapshot.get_or_create(_SSH, lambda: cls(snapshot))

    @cached_property
    def roots(self) -> frozenset[int]:
        """The user ids that are, or may be, that of root."""
        return root_ids(self._proc)

    @cached_property
    def all(self) -> tuple[SshProcess, ...]:
        """All of them, by pid."""
        found: list[SshProcess] = []
        for pid, name in self._processes.ssh.items():
            if self._is_server(pid):
                ancestry = self._ancestry(pid)
                is_daemon = ancestry is None or not self._is_server(ancestry.parent)
                found.append(SshProcess(pid, name, is_daemon, self._is_fork(pid)))
        return tuple(found)

    def _ancestry(self, pid: int) -> Ancestry | None:
        if pid not in self._ancestries:
            self._ancestries[pid] = read_ancestry(self._proc, pid)
        return self._ancestries[pid]

    def _is_root(self, pid: int) -> bool:
        ancestry = self._ancestry(pid)
        return ancestry is not None and ancestry.user in self.roots

    def _is_server(self, pid: int) -> bool:
        if pid not in self._serves:
            # Against a cycle: pids are reused while they are read.
            self._serves[pid] = False
            self._serves[pid] = self._serves_ssh(pid)
        return self._serves[pid]

    def _serves_ssh(self, pid: int) -> bool:
        ancestry = self._ancestry(pid)
        if ancestry is None or pid not in self._processes.ssh:
            return False
        if not self._is_root(pid):
            return self._is_server(ancestry.parent)
        program = self._processes.program(pid)
        return not program.path or is_system_program(
            program.directory, program.path, self.roots, self._snapshot.host.stat
        )

    def _is_fork(self, pid: int) -> bool:
        """Whether a process that serves SSH was forked for its user, and runs the same program.

        A user who logs in may start the program again, with a configuration of their own.
        """
        while not self._is_root(pid):
            ancestry = self._ancestry(pid)
            if ancestry is None or not self._is_server(ancestry.parent):
                return False
            parent = ancestry.parent
            if self._processes.program(pid).path != self._processes.program(parent).path:
                return False
            # dropbear starts its program again, as root, before the user has logged in.
            if not ancestry.is_fork and not self._is_root(parent):
                return False
            pid = parent
        return True

    def links(self, pid: int) -> frozenset[str] | None:
        """The link targets of a process's descriptors; None: they are unreadable."""
        if pid not in self._links:
            links = descriptor_links(self._proc, pid)
            self._links[pid] = None if links is None else frozenset(links)
        return self._links[pid]

    def is_transport(self, message: DiagMessage, holders: Iterable[SshProcess]) -> bool:
        """Whether a stream socket of root carries a session, or listens for them.

        holders: those of these processes that hold it. A server may have no listening socket: it
        was stopped, or another program listens for it. A connection then counts as the transport.
        """
        if message.protocol not in constants.STREAMS:
            return False
        if message.state == constants.LISTENING:
            return any(holder.is_daemon for holder in holders)
        if message.sport in self._ports:
            return True
        return not any(
            self._accepted.intersection(self.links(holder.pid) or ()) for holder in holders
        )

    @cached_property
    def _ports(self) -> frozenset[int]:
        """The ports on which the daemons listen, in the namespace of the snapshot."""
        held: set[str] = set()
        for process in self.all:
            if process.is_daemon:
                held.update(self.links(process.pid) or ())
        return frozenset(
            message.sport for message in self._dump(_LISTEN) if link_of(message.inode) in held
        )

    @cached_property
    def _accepted(self) -> frozenset[str]:
        """The link targets of connections on these ports."""
        ports = [bytecode.sport_eq(port, exact=False) for port in sorted(self._ports)]
        if not ports:
            return frozenset()
        program = bytecode.disjunction(ports)
        states = inet_diag.ANY_STATE & ~_LISTEN
        return frozenset(link_of(message.inode) for message in self._dump(states, program))

    def _dump(self, states: int, program: bytes = bytecode.ACCEPT) -> list[DiagMessage]:
        return inet_diag.dump_map_both_families(
            lambda message: message if message.inode else None,
            self._snapshot.sock_diag,
            "tcp",
            states,
            bytecode=program,
        )


_SSH: Slot[SshProcesses] = Slot("ssh processes")
