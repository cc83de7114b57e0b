# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the guard over the sockets of one look in one namespace."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import cached_property

from ..netlink import constants
from ..selector.parse import Selector
from ..sockets.snapshot import Environment
from ..sockets.socket import Subject
from . import management
from .owners import reasons_by_owner
from .reason import (
    CONTROL_CONNECTION,
    KERNEL,
    LISTENERS,
    LOOPBACK,
    SELECTOR,
    SSH_SESSIONS,
    UNCONNECTED,
    Reason,
)

_LISTENING_STATES = frozenset({constants.LISTENING, constants.BOUND_INACTIVE})
_LISTENER_LIKE = (constants.LISTENING, constants.CLOSED)  # as the kernel reports them
_DATAGRAM = frozenset(constants.PROTOCOLS) - constants.STREAMS
_OWNER_RULES = frozenset({CONTROL_CONNECTION, SSH_SESSIONS, KERNEL})
_LOOPBACK_6 = socket.inet_pton(socket.AF_INET6, "::1")
_UNSPECIFIED = (bytes(4), bytes(16))


class Watch:
    """Says of sockets why they are spared: cheap rules first, and who holds them last."""

    def __init__(
        self,
        environment: Environment,
        *,
        switches: frozenset[str],
        selectors: Sequence[tuple[str, Selector]],
    ) -> None:
        self._environment = environment
        self._switches = switches
        self._selectors = [(source, each.bind(environment)) for source, each in selectors]

    @cached_property
    def _ancestors(self) -> list[int]:
        host = self._environment.host
        return management.ancestors(host.proc, host.pid)

    @cached_property
    def _ssh_connections(self) -> frozenset[management.Ends]:
        if CONTROL_CONNECTION not in self._switches:
            return frozenset()
        return management.ssh_connections(self._environment.host, self._ancestors)

    def reason(self, subject: Subject) -> Reason | None:
        """Why this socket is spared; None: it is not."""
        return self.reasons([subject])[0]

    def reasons(self, subjects: Sequence[Subject]) -> list[Reason | None]:
        """For each socket why it is spared, or None. Many at once cost far less than one by one."""
        found = self._without_owners(subjects)
        if self._switches & _OWNER_RULES:
            undecided = {
                subject.sock.inode
                for subject, reason in zip(subjects, found)
                if reason is None and subject.sock.inode
            }
            if undecided:
                owned = reasons_by_owner(
                    self._environment, undecided, self._switches, self._ancestors
                )
                if owned:
                    found = [
                        owned.get(subject.sock.inode) if reason is None else reason
                        for subject, reason in zip(subjects, found)
                    ]
        return found

    def _without_owners(self, subjects: Sequence[Subject]) -> list[Reason | None]:
        """What addresses, ports, states and selectors say. 20,000 sockets pass through here."""
        control_ports = self._control_ports()
        socks = [subject.sock for subject in subjects]
        found: list[Reason | None] = [None] * len(socks)
        for index, sock in enumerate(socks if control_ports else ()):
            if sock.sport in control_ports or sock.dport in control_ports:
                found[index] = self._control(subjects[index])
        if LOOPBACK in self._switches:
            self._add_loopback(subjects, found)
        states = {sock.state for sock in socks}
        if LISTENERS in self._switches and not states.isdisjoint(_LISTENER_LIKE):
            for index, subject in enumerate(subjects):
                if found[index] is None and subject.state_number in _LISTENING_STATES:
                    found[index] = Reason(LISTENERS)
        if UNCONNECTED in self._switches and states != {constants.ESTABLISHED}:
            for index, sock in enumerate(socks):
                # By the state: the kernel leaves the address of a remote that an IPv6 socket no
                # longer has.
                if (
                    found[index] is None
                    and sock.protocol in _DATAGRAM
                    and sock.state != constants.ESTABLISHED
                ):
                    found[index] = Reason(UNCONNECTED)
        if self._selectors:
            for index, subject in enumerate(subjects):
                if found[index] is None:
                    found[index] = self._selected(subject)
        return found

    def _add_loopback(self, subjects: Sequence[Subject], found: list[Reason | None]) -> None:
        if not self._may_be_loopback(subjects):
            return
        keys = [(each.sock.family, each.sock.src, each.sock.dst) for each in subjects]
        by_addresses = {
            key: self._loopback(each) for key, each in dict(zip(keys, subjects)).items()
        }
        for index, key in enumerate(keys):
            if found[index] is None:
                found[index] = by_addresses[key]

    def _may_be_loopback(self, subjects: Sequence[Subject]) -> bool:
        """Whether the rule can hold for any: each address of the many is looked at but once."""
        if len({each.sock.family for each in subjects}) > 1:
            # An IPv4 address has the same 16 bytes here as some IPv6 address.
            return True
        locals_ = {each.sock.src: each for each in subjects}
        remotes = {each.sock.dst: each for each in subjects}
        held = self._environment.local_addresses
        return (
            not locals_.keys().isdisjoint(remotes)
            or any(_is_loopback(each.local_address) for each in locals_.values())
            or any(
                _is_loopback(each.remote_address) or each.remote_address in held
                for each in remotes.values()
            )
        )

    def _control_ports(self) -> frozenset[int]:
        """A socket of the control path has one of these ports at one end."""
        if CONTROL_CONNECTION not in self._switches:
            return frozenset()
        return management.SALT_PORTS | {ends[1] for ends in self._ssh_connections}

    def _control(self, subject: Subject) -> Reason | None:
        if subject.protocol not in constants.STREAMS:
            return None
        for port in (subject.remote_port, subject.local_port):
            if port in management.SALT_PORTS:
                return Reason(CONTROL_CONNECTION, f"port {port} is Salt's")
        ends = (
            subject.local_address,
            subject.local_port,
            subject.remote_address,
            subject.remote_port,
        )
        if ends in self._ssh_connections:
            return Reason(CONTROL_CONNECTION, "the ssh connection by which this was asked for")
        return None

    def _loopback(self, subject: Subject) -> Reason | None:
        local, remote = subject.local_address, subject.remote_address
        if _is_loopback(local) or _is_loopback(remote):
            return Reason(LOOPBACK, "one end is a loopback address")
        if local in _UNSPECIFIED or remote in _UNSPECIFIED:
            return None
        held = self._environment.local_addresses
        if local == remote or (local in held and remote in held):
            return Reason(LOOPBACK, "both ends are on this host")
        return None

    def _selected(self, subject: Subject) -> Reason | None:
        for source, matches in self._selectors:
            verdict = matches(subject)
            if verdict is None:
                return Reason(SELECTOR, f"{source}, undecided: in doubt it lives")
            if verdict:
                return Reason(SELECTOR, source)
        return None


def _is_loopback(address: bytes) -> bool:
    """127.0.0.0/8 (v4-mapped too) or ::1; the address has 4 or 16 bytes."""
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK_6
