# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Superseded connections: the peer continues in another connection.

A connection is superseded if it received nothing for some time, not even an acknowledgement, and
another connection from the same peer address to the same local address and port received data
since. The order of creation is not available: the kernel numbers cookies on the first dump
(sock_gen_cookie, net/core/sock_diag.c), and inodes per CPU (get_next_ino, fs/inode.c).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from ..errors import HandlerMissing
from ..netlink import bytecode, constants, inet_diag
from ..netlink.connection import Connection
from ..sockets.slots import Slot
from ..sockets.socket import Socket
from .tcp_timers import nothing_received_ms
from .verdict import show_verdicts

if TYPE_CHECKING:
    from ..sockets.snapshot import Snapshot

SUPERSEDED = "superseded"

# The default for records, totals and the agent's reports: three times a usual reporting interval of
# devices (10 s), so that one lost report does not count.
DEFAULT_SILENT_MS = 30_000

# (local address, local port, remote address, index of the bound interface)
PeerKey = tuple[bytes, int, bytes, int]
# Evidence that a connection is superseded; False: it is not; None: unknown.
Finding = Union[dict[str, Any], bool, None]

_DUMPED_STATES = constants.state_mask(
    constants.ALL_STATES
    - {
        constants.CLOSED,
        constants.TIME_WAIT,
        constants.SYN_SENT,
        constants.SYN_RECV,
    }
)
# A FIN counts as one byte received (tcp_rcv_nxt_update, net/ipv4/tcp_input.c).
_FIN_RECEIVED = (constants.CLOSE_WAIT, constants.LAST_ACK, constants.CLOSING)
# A kernel filter with more ports costs more than it saves.
_MAX_FILTER_PORTS = 64
# The evaluated connection may itself be the most recent one, so a second one is kept.
_KEPT_PER_KEY = 2


class _Connection(NamedTuple):
    """A connection, sorted by the milliseconds since it received data."""

    received_ms: int
    remote_port: int
    cookie: int


# The port of a listener, or a connection with its key.
_Entry = Union[int, tuple[PeerKey, _Connection]]


class PeerActivity:
    """The connections of a snapshot that received data most recently, for each loaded key."""

    def __init__(self) -> None:
        self._recent: dict[PeerKey, list[_Connection]] = {}
        self._listening: set[int] = set()

    @classmethod
    def of(cls, snapshot: Snapshot) -> PeerActivity:
        """Return the peer activity of a snapshot, created on first use."""
        known = snapshot.get_or_create(PEERS, cls)
        show_verdicts(snapshot)
        return known

    def load(
        self, connection: Connection, snapshot: Snapshot, keys: Iterable[PeerKey | None]
    ) -> None:
        """Dump the connections with these keys, whatever the port of the peer.

        connection: NETLINK_SOCK_DIAG. Raises the errors of Connection.dump.
        """
        new = {key for key in keys if key is not None} - self._recent.keys()
        if not new:
            return

        def entry(message: inet_diag.DiagMessage) -> _Entry | None:
            if message.state == constants.LISTENING:
                return message.sport
            sock = Socket(message, snapshot)
            key = peer_key(sock)
            received_ms = _received_ms(sock)
            if key not in new or received_ms is None:
                return None
            return key, _Connection(received_ms, message.dport, message.cookie)

        program = _filter({port for _local, port, _remote, _ifindex in new})
        extensions = inet_diag.extension_bits([inet_diag.INFO])
        recent: dict[PeerKey, list[_Connection]] = {key: [] for key in new}
        entries: list[_Entry] = []
        with suppress(HandlerMissing):
            entries = inet_diag.dump_map_both_families(
                entry, connection, "tcp", _DUMPED_STATES, extensions, program
            )
        for item in entries:
            if isinstance(item, int):
                self._listening.add(item)
            else:
                key, found = item
                recent[key] = sorted((*recent[key], found))[:_KEPT_PER_KEY]
        self._recent.update(recent)

    def evaluate(self, sock: Socket, silent_ms: int) -> bool | None:
        """Evaluate the verdict for a minimum silence. None: unknown, or the key is not loaded."""
        found = self.evidence(sock, silent_ms)
        return None if found is None else bool(found)

    def evidence(self, sock: Socket, silent_ms: int) -> Finding:
        """As evaluate, with the evidence instead of True.

        {silent_ms, by: {remote_port, cookie, last_received_ms}}: milliseconds without received
        data or acknowledgements, and the connection that received data last_received_ms ago.
        """
        key, silent = peer_key(sock), silence_ms(sock)
        if key is None or silent is None:
            return None
        return False if silent < silent_ms else self.find_successor(key, sock.cookie, silent)

    def find_successor(self, key: PeerKey, cookie: int, silent_ms: int) -> Finding:
        """Return the evidence for the connection with this cookie, silent for silent_ms."""
        others = self._recent.get(key)
        if others is None:
            return None
        for other in others:
            # Dumped after the evaluated connection: a shorter time is also a later moment.
            if other.cookie != cookie and other.received_ms < silent_ms:
                by = {
                    "remote_port": other.remote_port,
                    "cookie": f"{other.cookie:x}",
                    "last_received_ms": other.received_ms,
                }
                return {"silent_ms": silent_ms, "by": by}
        return False

    def is_service_port(self, snapshot: Snapshot, port: int) -> bool:
        """Whether a local port belongs to a service.

        True if a socket listens on it, or if it is outside ip_local_port_range. Several outgoing
        connections may share a port and a peer, each to another service of the peer.
        """
        if port in self._listening:
            return True
        ephemeral = snapshot.local_port_range
        return ephemeral is not None and not ephemeral[0] <= port <= ephemeral[1]


PEERS: Slot[PeerActivity] = Slot("peers")


def silence_ms(sock: Socket) -> int | None:
    """Milliseconds without received data or acknowledgements; None: unknown.

    Acknowledgements count, because some streams are sent only by this side.
    """
    info = sock.tcp_info
    if info is None or sock.idle_ms is None:
        return None
    return nothing_received_ms(info)


def peer_key(sock: Socket) -> PeerKey | None:
    """The fields that a connection shares with its successors; None: not a TCP connection.

    The bound interface is part of the key: on another link or VRF the same addresses may belong to
    other hosts.
    """
    if sock.protocol != "tcp" or not sock.has_remote:
        return None
    return (
        sock.local_address,
        sock.local_port,
        sock.remote_address,
        sock.ifindex,
    )


def _received_ms(sock: Socket) -> int | None:
    """Milliseconds since data was received. None: none was, so the clock has another start."""
    info = sock.tcp_info or {}
    received = info.get("bytes_received", 0)
    if received <= (sock.message.state in _FIN_RECEIVED):
        return None
    return info.get("last_data_recv")


def _filter(ports: set[int]) -> bytes:
    if len(ports) > _MAX_FILTER_PORTS:
        return b""
    return bytecode.disjunction(
        [bytecode.sport_eq(port, exact=False) for port in sorted(ports)],
    )
