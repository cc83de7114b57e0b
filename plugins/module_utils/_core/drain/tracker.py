# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the connections that a drain knows of, and what it means with each.

A connection is known by its cookie, which it keeps in every state, TIME_WAIT included
(inet_twsk_alloc). A socket that its application disconnects and connects elsewhere keeps it too, so
its ends are compared as well.
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

# (namespace's name, protocol, cookie), as Subject.identity.
Key = tuple[str, str, int]

WAITED = "waited"
PROTECTED = "protected"
# It came meanwhile and is left alone, or is a datagram socket that has lost its remote.
IGNORED = "ignored"

_ENDS = struct.Struct("=BHH16s16s")


class Entry(NamedTuple):
    """ends: a checksum of addresses and ports. arrived: it came after the beginning. quiet_since:
    when the queues of a datagram socket were first seen empty of which they have been since.
    tried: it could not be destroyed before the time was over. sock: as it was last seen. reason:
    why it is protected; None also where an earlier step knew."""

    kind: str
    ends: int
    arrived: bool = False
    quiet_since: float | None = None
    tried: bool = False
    message: DiagMessage | None = None
    reason: Reason | None = None


def ends_of(message: DiagMessage) -> int:
    return zlib.crc32(
        _ENDS.pack(message.family, message.sport, message.dport, message.src, message.dst)
    )


def is_datagram(protocol: str) -> bool:
    return protocol not in constants.STREAMS


class Watchlist:
    """What is known of each connection, by its key."""

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}

    def of(self, sock: Socket) -> Entry | None:
        """The entry of this very connection; None: it is a new one."""
        entry = self.entries.get(sock.identity)
        if entry is None or entry.ends == ends_of(sock.message):
            return entry
        if is_datagram(sock.protocol):
            if entry.kind != WAITED:
                return entry
            if not sock.has_remote:
                return entry._replace(kind=IGNORED)
        return None

    def all(self, kind: str, label: str) -> Iterator[tuple[Key, Entry]]:
        """Those of one kind in one namespace."""
        for key, entry in self.entries.items():
            if entry.kind == kind and key[0] == label:
                yield key, entry

    def count(self, kind: str) -> int:
        return sum(entry.kind == kind for entry in self.entries.values())

    def watch(self, sock: Socket, kind: str, *, arrived: bool) -> None:
        """Take up a connection that was not known."""
        self.entries[sock.identity] = Entry(kind, ends_of(sock.message), arrived)

    def seen(self, sock: Socket, now: float) -> None:
        """Keep how a connection that is waited for was seen."""
        entry = self.entries[sock.identity]
        message = sock.message
        since = None
        if is_datagram(message.protocol) and not message.rqueue and not message.wqueue:
            since = now if entry.quiet_since is None else entry.quiet_since
        self.entries[sock.identity] = entry._replace(message=message, quiet_since=since)

    def protect(self, key: Key, reason: Reason | None) -> None:
        self.entries[key] = self.entries[key]._replace(kind=PROTECTED, message=None, reason=reason)

    def tried(self, key: Key) -> None:
        self.entries[key] = self.entries[key]._replace(tried=True)

    def forget(self, key: Key) -> None:
        del self.entries[key]

    def done(self, key: Key) -> None:
        """It is no longer waited for. A datagram socket may live on without its remote: that is
        nothing new."""
        if is_datagram(key[1]):
            self.entries[key] = self.entries[key]._replace(kind=IGNORED, message=None)
        else:
            del self.entries[key]
