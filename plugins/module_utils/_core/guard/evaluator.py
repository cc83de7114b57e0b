# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Evaluation of the guard for the sockets of one snapshot."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import cached_property

from ..netlink import constants
from ..selector.parse import Selector
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from . import management, shared_ports
from .owners import reasons_by_owner
from .reason import (
    CONTROL_CONNECTION,
    KERNEL,
    LISTENERS,
    LOOPBACK,
    SELECTOR,
    SHARED_PORT,
    SSH_FORWARDS,
    SSH_SESSIONS,
    UNCONNECTED,
    Reason,
)

_LISTENING_STATES = frozenset({constants.LISTENING, constants.BOUND_INACTIVE})
# The same states as the kernel numbers them in a dump.
_DUMPED_LISTENING_STATES = (constants.LISTENING, constants.CLOSED)
_DATAGRAM = frozenset(constants.PROTOCOLS) - constants.STREAMS
_OWNER_RULES = frozenset({CONTROL_CONNECTION, SSH_SESSIONS, SSH_FORWARDS, KERNEL})
_LOOPBACK_6 = socket.inet_pton(socket.AF_INET6, "::1")
_UNSPECIFIED = (bytes(4), bytes(16))


class GuardEvaluator:
    """The rules of a guard, bound to a snapshot. Cheap rules come first, owners last.

    switches: the rules that are on. selectors: each with the place where it is written.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        switches: frozenset[str],
        selectors: Sequence[tuple[str, Selector]],
    ) -> None:
        self._snapshot = snapshot
        self._switches = switches
        self._selectors = [(place, selector.bind(snapshot)) for place, selector in selectors]

    @cached_property
    def _ancestors(self) -> list[int]:
        host = self._snapshot.host
        return management.ancestors(host.proc, host.pid)

    @cached_property
    def _ssh_connections(self) -> frozenset[management.Endpoints]:
        if CONTROL_CONNECTION not in self._switches:
            return frozenset()
        return management.ssh_connections(self._snapshot.host, self._ancestors)

    def evaluate(self, sockets: Sequence[Socket]) -> list[Reason | None]:
        """The reason why each socket is protected; None: it is not protected.

        Pass all sockets in one call: each lookup then covers all of them.
        """
        reasons = self._evaluate_without_owners(sockets)
        if SHARED_PORT in self._switches:
            self._add_shared_ports(sockets, reasons)
        if self._switches & _OWNER_RULES:
            undecided = {
                sock.message.inode: sock.message
                for sock, reason in zip(sockets, reasons)
                if reason is None and sock.message.inode
            }
            if undecided:
                by_inode = reasons_by_owner(
                    self._snapshot, undecided, self._switches, self._ancestors
                )
                if by_inode:
                    reasons = [
                        by_inode.get(sock.message.inode) if reason is None else reason
                        for sock, reason in zip(sockets, reasons)
                    ]
        return reasons

    def _evaluate_without_owners(self, sockets: Sequence[Socket]) -> list[Reason | None]:
        """The rules on addresses, ports, states and selectors. 20,000 sockets pass through here."""
        control_ports = {endpoints[1] for endpoints in self._ssh_connections}
        messages = [sock.message for sock in sockets]
        reasons: list[Reason | None] = [None] * len(messages)
        for index, message in enumerate(messages if control_ports else ()):
            if message.sport in control_ports:
                reasons[index] = self._control_connection(sockets[index])
        if LOOPBACK in self._switches:
            self._add_loopback(sockets, reasons)
        states = {message.state for message in messages}
        if LISTENERS in self._switches and not states.isdisjoint(_DUMPED_LISTENING_STATES):
            for index, sock in enumerate(sockets):
                if reasons[index] is None and sock.state_number in _LISTENING_STATES:
                    reasons[index] = Reason(LISTENERS)
        if UNCONNECTED in self._switches and states != {constants.ESTABLISHED}:
            for index, message in enumerate(messages):
                # The state decides: an IPv6 socket keeps the address of a former remote.
                if (
                    reasons[index] is None
                    and message.protocol in _DATAGRAM
                    and message.state != constants.ESTABLISHED
                ):
                    reasons[index] = Reason(UNCONNECTED)
        if self._selectors:
            for index, sock in enumerate(sockets):
                if reasons[index] is None:
                    reasons[index] = self._matching_selector(sock)
        return reasons

    def _add_shared_ports(self, sockets: Sequence[Socket], reasons: list[Reason | None]) -> None:
        if shared_ports.PROTOCOLS.isdisjoint({sock.message.protocol for sock in sockets}):
            return
        undecided = [sock for sock, reason in zip(sockets, reasons) if reason is None]
        by_cookie = shared_ports.reasons_by_port(self._snapshot, undecided)
        for index, sock in enumerate(sockets if by_cookie else ()):
            if reasons[index] is None:
                reasons[index] = by_cookie.get(sock.message.cookie)

    def _add_loopback(self, sockets: Sequence[Socket], reasons: list[Reason | None]) -> None:
        if not self._may_have_loopback(sockets):
            return
        keys = [(sock.message.family, sock.message.src, sock.message.dst) for sock in sockets]
        by_addresses = {key: self._loopback(sock) for key, sock in dict(zip(keys, sockets)).items()}
        for index, key in enumerate(keys):
            if reasons[index] is None:
                reasons[index] = by_addresses[key]

    def _may_have_loopback(self, sockets: Sequence[Socket]) -> bool:
        """Whether the loopback rule can apply to any socket. Tests each distinct address once."""
        if len({sock.message.family for sock in sockets}) > 1:
            # The 16 bytes of an IPv4 address here may equal those of an IPv6 address.
            return True
        by_local = {sock.message.src: sock for sock in sockets}
        by_remote = {sock.message.dst: sock for sock in sockets}
        held = self._snapshot.local_addresses
        return (
            not by_local.keys().isdisjoint(by_remote)
            or any(_is_loopback(sock.local_address) for sock in by_local.values())
            or any(
                _is_loopback(sock.remote_address) or sock.remote_address in held
                for sock in by_remote.values()
            )
        )

    def _control_connection(self, sock: Socket) -> Reason | None:
        if sock.protocol not in constants.STREAMS:
            return None
        endpoints = (
            sock.local_address,
            sock.local_port,
            sock.remote_address,
            sock.remote_port,
        )
        if endpoints in self._ssh_connections:
            return Reason(CONTROL_CONNECTION, "the SSH connection of this session")
        return None

    def _loopback(self, sock: Socket) -> Reason | None:
        local, remote = sock.local_address, sock.remote_address
        if _is_loopback(local) or _is_loopback(remote):
            return Reason(LOOPBACK, "one end is a loopback address")
        if local in _UNSPECIFIED or remote in _UNSPECIFIED:
            return None
        held = self._snapshot.local_addresses
        if local == remote or (local in held and remote in held):
            return Reason(LOOPBACK, "both ends are on this host")
        return None

    def _matching_selector(self, sock: Socket) -> Reason | None:
        for place, matches in self._selectors:
            matched = matches(sock)
            if matched is None:
                return Reason(SELECTOR, f"{place}, unknown whether it matches")
            if matched:
                return Reason(SELECTOR, place)
        return None


def _is_loopback(address: bytes) -> bool:
    """Whether an address of 4 or 16 bytes is in 127.0.0.0/8 or is ::1."""
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK_6
