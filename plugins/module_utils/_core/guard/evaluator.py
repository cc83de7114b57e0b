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
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
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
    """Says of sockets why they are protected: cheap rules first, and who holds them last."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        switches: frozenset[str],
        selectors: Sequence[tuple[str, Selector]],
    ) -> None:
        self._environment = snapshot
        self._switches = switches
        self._selectors = [(source, each.bind(snapshot)) for source, each in selectors]

    @cached_property
    def _ancestors(self) -> list[int]:
        host = self._environment.host
        return management.ancestors(host.proc, host.pid)

    @cached_property
    def _ssh_connections(self) -> frozenset[management.Ends]:
        if CONTROL_CONNECTION not in self._switches:
            return frozenset()
        return management.ssh_connections(self._environment.host, self._ancestors)

    def reason(self, sock: Socket) -> Reason | None:
        """Why this socket is protected; None: it is not."""
        return self.reasons([sock])[0]

    def reasons(self, sockets: Sequence[Socket]) -> list[Reason | None]:
        """For each socket why it is protected, or None. Cheaper for many sockets at once."""
        found = self._without_owners(sockets)
        if self._switches & _OWNER_RULES:
            undecided = {
                sock.message.inode
                for sock, reason in zip(sockets, found)
                if reason is None and sock.message.inode
            }
            if undecided:
                owned = reasons_by_owner(
                    self._environment, undecided, self._switches, self._ancestors
                )
                if owned:
                    found = [
                        owned.get(sock.message.inode) if reason is None else reason
                        for sock, reason in zip(sockets, found)
                    ]
        return found

    def _without_owners(self, sockets: Sequence[Socket]) -> list[Reason | None]:
        """What addresses, ports, states and selectors say. 20,000 sockets pass through here."""
        control_ports = self._control_ports()
        socks = [sock.message for sock in sockets]
        found: list[Reason | None] = [None] * len(socks)
        for index, message in enumerate(socks if control_ports else ()):
            if message.sport in control_ports or message.dport in control_ports:
                found[index] = self._control(sockets[index])
        if LOOPBACK in self._switches:
            self._add_loopback(sockets, found)
        states = {message.state for message in socks}
        if LISTENERS in self._switches and not states.isdisjoint(_LISTENER_LIKE):
            for index, sock in enumerate(sockets):
                if found[index] is None and sock.state_number in _LISTENING_STATES:
                    found[index] = Reason(LISTENERS)
        if UNCONNECTED in self._switches and states != {constants.ESTABLISHED}:
            for index, message in enumerate(socks):
                # By the state: the kernel leaves the address of a remote that an IPv6 socket no
                # longer has.
                if (
                    found[index] is None
                    and message.protocol in _DATAGRAM
                    and message.state != constants.ESTABLISHED
                ):
                    found[index] = Reason(UNCONNECTED)
        if self._selectors:
            for index, sock in enumerate(sockets):
                if found[index] is None:
                    found[index] = self._selected(sock)
        return found

    def _add_loopback(self, sockets: Sequence[Socket], found: list[Reason | None]) -> None:
        if not self._may_be_loopback(sockets):
            return
        keys = [(each.message.family, each.message.src, each.message.dst) for each in sockets]
        by_addresses = {key: self._loopback(each) for key, each in dict(zip(keys, sockets)).items()}
        for index, key in enumerate(keys):
            if found[index] is None:
                found[index] = by_addresses[key]

    def _may_be_loopback(self, sockets: Sequence[Socket]) -> bool:
        """Whether the rule can hold for any: each address of the many is looked at but once."""
        if len({each.message.family for each in sockets}) > 1:
            # An IPv4 address has the same 16 bytes here as some IPv6 address.
            return True
        locals_ = {each.message.src: each for each in sockets}
        remotes = {each.message.dst: each for each in sockets}
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

    def _control(self, sock: Socket) -> Reason | None:
        if sock.protocol not in constants.STREAMS:
            return None
        for port in (sock.remote_port, sock.local_port):
            if port in management.SALT_PORTS:
                return Reason(CONTROL_CONNECTION, f"port {port} is Salt's")
        ends = (
            sock.local_address,
            sock.local_port,
            sock.remote_address,
            sock.remote_port,
        )
        if ends in self._ssh_connections:
            return Reason(CONTROL_CONNECTION, "the ssh connection by which this was asked for")
        return None

    def _loopback(self, sock: Socket) -> Reason | None:
        local, remote = sock.local_address, sock.remote_address
        if _is_loopback(local) or _is_loopback(remote):
            return Reason(LOOPBACK, "one end is a loopback address")
        if local in _UNSPECIFIED or remote in _UNSPECIFIED:
            return None
        held = self._environment.local_addresses
        if local == remote or (local in held and remote in held):
            return Reason(LOOPBACK, "both ends are on this host")
        return None

    def _selected(self, sock: Socket) -> Reason | None:
        for source, matches in self._selectors:
            verdict = matches(sock)
            if verdict is None:
                return Reason(SELECTOR, f"{source}, undecided: in doubt it lives")
            if verdict:
                return Reason(SELECTOR, source)
        return None


def _is_loopback(address: bytes) -> bool:
    """127.0.0.0/8 (v4-mapped too) or ::1; the address has 4 or 16 bytes."""
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK_6
