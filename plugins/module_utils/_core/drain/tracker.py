# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The connections that a drain tracks, and their status.

The key of a connection is its cookie, which it keeps in every state, TIME_WAIT included
(inet_twsk_alloc). A socket also keeps its cookie when its application disconnects it and connects
it elsewhere, so the tracker compares the endpoints too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ..guard.reason import Reason
from ..netlink import constants
from ..netlink.inet_diag import DiagMessage
from ..sockets.socket import Socket

# (name of the namespace, protocol, cookie), as Socket.identity.
Key = tuple[str, str, int]

# The drain waits until the connection ends.
AWAITED = "awaited"
# The guard protects it.
PROTECTED = "protected"
# An arrival that the drain ignores, or a datagram socket that lost its remote.
IGNORED = "ignored"

_ENDPOINTS = struct.Struct("=BHH16s16s")


class TrackedConnection(NamedTuple):
    """The state of a connection between snapshots.

    status: AWAITED, PROTECTED or IGNORED. endpoints: checksum of its addresses and ports. arrived:
    it started to match after the first snapshot. empty_since: for a datagram socket, the time since
    which every snapshot found its queues empty. attempted: it could not be destroyed before the
    grace period ended. message: its last dump. reason: why it is protected; None also if an earlier
    step determined it.
    """

    status: str
    endpoints: int
    arrived: bool = False
    empty_since: float | None = None
    attempted: bool = False
    message: DiagMessage | None = None
    reason: Reason | None = None


def endpoints_checksum(message: DiagMessage) -> int:
    """The CRC-32 of a socket's family, addresses and ports."""
    return zlib.crc32(
        _ENDPOINTS.pack(message.family, message.sport, message.dport, message.src, message.dst)
    )


def is_datagram(protocol: str) -> bool:
    """Whether the protocol has no connections of its own, such as udp."""
    return protocol not in constants.STREAMS


class Tracker:
    """The tracked connections, by key."""

    def __init__(self) -> None:
        self.connections: dict[Key, TrackedConnection] = {}

    def find(self, sock: Socket) -> TrackedConnection | None:
        """Return the tracked state of this connection; None: the connection is new."""
        tracked = self.connections.get(sock.identity)
        if tracked is None or tracked.endpoints == endpoints_checksum(sock.message):
            return tracked
        if is_datagram(sock.protocol):
            if tracked.status != AWAITED:
                return tracked
            if not sock.has_remote:
                return tracked._replace(status=IGNORED)
        return None

    def with_status(
        self, status: str, namespace_name: str
    ) -> Iterator[tuple[Key, TrackedConnection]]:
        """Yield the connections of one namespace that have this status."""
        for key, tracked in self.connections.items():
            if tracked.status == status and key[0] == namespace_name:
                yield key, tracked

    def count(self, status: str) -> int:
        """The number of connections with this status, in all namespaces."""
        return sum(tracked.status == status for tracked in self.connections.values())

    def add(self, sock: Socket, status: str, *, arrived: bool) -> None:
        """Track a new connection."""
        self.connections[sock.identity] = TrackedConnection(
            status, endpoints_checksum(sock.message), arrived
        )

    def update(self, sock: Socket, now: float) -> None:
        """Store the latest dump of a tracked connection. now: seconds of Host.monotonic."""
        tracked = self.connections[sock.identity]
        message = sock.message
        since = None
        if is_datagram(message.protocol) and not message.rqueue and not message.wqueue:
            since = now if tracked.empty_since is None else tracked.empty_since
        self.connections[sock.identity] = tracked._replace(message=message, empty_since=since)

    def protect(self, key: Key, reason: Reason | None) -> None:
        """Mark a connection as protected."""
        self.connections[key] = self.connections[key]._replace(
            status=PROTECTED, message=None, reason=reason
        )

    def mark_attempted(self, key: Key) -> None:
        """Record that destroying failed; the next attempt is at the end of the grace period."""
        self.connections[key] = self.connections[key]._replace(attempted=True)

    def remove(self, key: Key) -> None:
        """Stop tracking a connection."""
        del self.connections[key]

    def finish(self, key: Key) -> None:
        """Stop waiting for a connection.

        A datagram socket may exist on without its remote. It stays tracked, so that it does not
        count as an arrival.
        """
        if is_datagram(key[1]):
            self.connections[key] = self.connections[key]._replace(status=IGNORED, message=None)
        else:
            del self.connections[key]
