# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Connected datagram sockets whose port other sockets share.

Destroying a connected datagram socket only removes its remote (udp_abort, __udp_disconnect). If the
application chose the port, the socket stays bound to it. From then on it receives datagrams of
other clients, in place of the sockets that share the port.

If the kernel chose the port, the socket is unhashed and receives nothing more.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

from ..netlink import bytecode, constants, inet_diag
from ..netlink.inet_diag import DiagMessage
from ..sockets.slots import Slot
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from .reason import SHARED_PORT, Reason

# Protocols whose disconnect is udp_disconnect.
PROTOCOLS = frozenset({"udp", "udplite"})

_CHOSEN_BY_APPLICATION = bytecode.negation(bytecode.auto())
_VRF = "vrf"


def reasons_by_port(snapshot: Snapshot, sockets: Sequence[Socket]) -> dict[int, Reason]:
    """Find the connected datagram sockets whose local port another socket shares.

    Returns the reason by cookie. Dumps the datagram sockets of the namespace, once per snapshot,
    if any of these sockets is one. Raises what Connection.dump raises.
    """
    reasons: dict[int, Reason] = {}
    for protocol in sorted({sock.message.protocol for sock in sockets} & PROTOCOLS):
        connected = [
            sock
            for sock in sockets
            if sock.message.protocol == protocol and sock.message.state == constants.ESTABLISHED
        ]
        if connected:
            reasons.update(_PortTable.of(snapshot, protocol).reasons(connected))
    return reasons


class _PortTable:
    """The sockets of one datagram protocol by local port."""

    def __init__(self, snapshot: Snapshot, protocol: str) -> None:
        self._snapshot = snapshot
        self._protocol = protocol
        self._by_port: dict[int, list[Socket]] = {}
        for message in self._dump(bytecode.ACCEPT):
            self._by_port.setdefault(message.sport, []).append(Socket(message, snapshot))

    @classmethod
    def of(cls, snapshot: Snapshot, protocol: str) -> _PortTable:
        """The one instance of a snapshot for a protocol."""
        return snapshot.get_or_create(_TABLES[protocol], lambda: cls(snapshot, protocol))

    def _dump(self, program: bytes) -> Iterator[DiagMessage]:
        for family in constants.FAMILIES.values():
            yield from inet_diag.dump(
                self._snapshot.sock_diag, self._protocol, family, bytecode=program
            )

    def reasons(self, connected: Sequence[Socket]) -> dict[int, Reason]:
        sharing: dict[int, list[Socket]] = {}
        for sock in connected:
            others = [
                other
                for other in self._by_port.get(sock.local_port, ())
                if other.cookie != sock.cookie and self._overlap(sock, other)
            ]
            if others:
                sharing[sock.cookie] = others
        if not sharing:
            return {}
        bound = {message.cookie for message in self._dump(_CHOSEN_BY_APPLICATION)}
        return {
            cookie: Reason(SHARED_PORT, _detail(others))
            for cookie, others in sharing.items()
            if cookie in bound
        }

    def _overlap(self, sock: Socket, other: Socket) -> bool:
        """Whether the first, once disconnected, may receive datagrams for the second.

        It then has the local address that it has now, or the unspecified one: the kernel resets an
        address that the application did not choose, and does not report which it is. A socket that
        is bound to another address takes precedence over one that is bound to the unspecified one
        (compute_score).
        """
        if not self._share_device(sock.ifindex, other.ifindex):
            return False
        if any(other.local_address):
            return sock.local_address == other.local_address
        if other.message.family == socket.AF_INET:
            return len(sock.local_address) == 4
        # Of the family AF_INET6, and bound to ::. IPV6_V6ONLY excludes sockets of AF_INET only: a
        # v4-mapped socket may be bound to :: too.
        return sock.message.family == socket.AF_INET6 or not _is_v6only(other)

    def _share_device(self, first: int, second: int) -> bool:
        """Whether sockets bound to these interfaces (0: none) may receive the same datagrams."""
        if not first or not second or first == second:
            return True
        # A socket that is bound to a VRF receives what arrives on its members (inet_bound_dev_eq).
        links = {link.ifindex: link for link in self._snapshot.links}
        return any(
            link is not None and link.master == index and links[index].kind == _VRF
            for link, index in ((links.get(first), second), (links.get(second), first))
            if index in links
        )


def _is_v6only(sock: Socket) -> bool:
    raw = sock.attributes.get(inet_diag.SKV6ONLY)
    return bool(raw and raw[0])


def _detail(others: Sequence[Socket]) -> str:
    number = len(others)
    noun = "1 other socket has" if number == 1 else f"{number} other sockets have"
    first = others[0]
    address = f"[{first.local}]" if len(first.local_address) == 16 else first.local
    return (
        f"{noun} the same port ({address}:{first.local_port}, sk:{first.cookie_hex}): without its "
        "remote, this socket would receive their datagrams"
    )


_TABLES: dict[str, Slot[_PortTable]] = {name: Slot(f"ports of {name}") for name in PROTOCOLS}
