# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: connections whose peer goes on in another one.

The kernel tells no order of birth: cookies are numbered by the first look, and inodes by the CPU.
So it is told from who has been heard of: nothing was received on this connection for some time, not
even an acknowledgement, while another from the same peer address to the same local address and port
received data since.
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
from .tcp_timers import nothing_came_ms
from .verdict import show_verdicts

if TYPE_CHECKING:
    from ..sockets.snapshot import Snapshot

SUPERSEDED = "superseded"

# Of records and totals, and of the agent's reports. Three times the usual interval of those that
# call home (10 s), so that one lost report does not count.
DEFAULT_SILENT_MS = 30_000

# (local address, local port, remote address, interface it is bound to)
PeerKey = tuple[bytes, int, bytes, int]
# What is said of one connection: False, None for unknown, or the evidence.
Finding = Union[dict[str, Any], bool, None]

_LISTED = constants.state_mask(
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
# A filter by more ports than these is no longer cheaper than none.
_MOST_PORTS = 64
# The one that is asked about may be the one heard of last: so another is kept.
_KEPT = 2


class _Heard(NamedTuple):
    """A connection, and how many milliseconds ago it received data."""

    heard_ms: int
    remote_port: int
    cookie: int


# The port of a listener, or who was heard of and where.
_Listed = Union[int, tuple[PeerKey, _Heard]]


class PeerActivity:
    """Which connections were heard of last, for each peer at each local address and port.

    Only for the slots that it was told to listen for; kept in the environment of their look.
    """

    def __init__(self) -> None:
        self._last: dict[PeerKey, list[_Heard]] = {}
        self._listening: set[int] = set()

    @classmethod
    def of(cls, snapshot: Snapshot) -> PeerActivity:
        """The one of this look."""
        known = snapshot.get_or_create(PEERS, cls)
        show_verdicts(snapshot)
        return known

    def load(
        self, connection: Connection, snapshot: Snapshot, slots: Iterable[PeerKey | None]
    ) -> None:
        """List whatever else has these ends, but for the peer's port.

        connection: of NETLINK_SOCK_DIAG. Raises what Connection.dump raises.
        """
        wanted = {slot for slot in slots if slot is not None} - self._last.keys()
        if not wanted:
            return

        def heard(message: inet_diag.DiagMessage) -> _Listed | None:
            if message.state == constants.LISTENING:
                return message.sport
            sock = Socket(message, snapshot)
            slot = peer_key(sock)
            clock = _heard_ms(sock)
            if slot not in wanted or clock is None:
                return None
            return slot, _Heard(clock, message.dport, message.cookie)

        program = _filter({port for _local, port, _remote, _ifindex in wanted})
        extensions = inet_diag.extension_bits([inet_diag.INFO])
        last: dict[PeerKey, list[_Heard]] = {slot: [] for slot in wanted}
        found: list[_Listed] = []
        with suppress(HandlerMissing):
            found = inet_diag.dump_map_both_families(
                heard, connection, "tcp", _LISTED, extensions, program
            )
        for each in found:
            if isinstance(each, int):
                self._listening.add(each)
            else:
                slot, voice = each
                last[slot] = sorted((*last[slot], voice))[:_KEPT]
        self._last.update(last)

    def evaluate(self, sock: Socket, silent_ms: int) -> bool | None:
        """Whether another took over; None where the kernel does not tell, or it was not asked."""
        found = self.evidence(sock, silent_ms)
        return None if found is None else bool(found)

    def evidence(self, sock: Socket, silent_ms: int) -> Finding:
        """As judge; the evidence instead of true.

        {silent_ms, by: {remote_port, cookie, heard_ms}}: for how long nothing was received, and
        which connection received something how long ago.
        """
        slot, silent = peer_key(sock), silence_ms(sock)
        if slot is None or silent is None:
            return None
        return False if silent < silent_ms else self.find_successor(slot, sock.cookie, silent)

    def find_successor(self, key: PeerKey, cookie: int, silent_ms: int) -> Finding:
        """The evidence for the connection of that cookie, if it has been silent for so long."""
        others = self._last.get(key)
        if others is None:
            return None
        for voice in others:
            # Listed later than the subject, so what is shorter here was later there as well.
            if voice.cookie != cookie and voice.heard_ms < silent_ms:
                by = {
                    "remote_port": voice.remote_port,
                    "cookie": f"{voice.cookie:x}",
                    "heard_ms": voice.heard_ms,
                }
                return {"silent_ms": silent_ms, "by": by}
        return False

    def is_service_port(self, snapshot: Snapshot, port: int) -> bool:
        """Whether a local port is that of a service, where nobody says so.

        Something listens there, or the kernel does not choose it for connections that go out.
        Of those several may share a port and a peer, each to another service there.
        """
        if port in self._listening:
            return True
        chosen = snapshot.local_port_range
        return chosen is not None and not chosen[0] <= port <= chosen[1]


PEERS: Slot[PeerActivity] = Slot("peers")


def silence_ms(sock: Socket) -> int | None:
    """For how long nothing was received, not even an acknowledgement: of a stream that only this
    side sends. None: unknown."""
    info = sock.tcp_info
    if info is None or sock.idle_ms is None:
        return None
    return nothing_came_ms(info)


def peer_key(sock: Socket) -> PeerKey | None:
    """What a connection shares with those that may take its place; None: it is no connection.

    Bound to another interface, the same addresses are those of other hosts (link-local addresses,
    VRFs).
    """
    if sock.protocol != "tcp" or not sock.has_remote:
        return None
    return (
        sock.local_address,
        sock.local_port,
        sock.remote_address,
        sock.ifindex,
    )


def _heard_ms(sock: Socket) -> int | None:
    """None: it has not received any data. Its clock then counts from the handshake."""
    info = sock.tcp_info or {}
    received = info.get("bytes_received", 0)
    if received <= (sock.message.state in _FIN_RECEIVED):
        return None
    return info.get("last_data_recv")


def _filter(ports: set[int]) -> bytes:
    if len(ports) > _MOST_PORTS:
        return b""
    return bytecode.disjunction(
        [bytecode.sport_eq(port, exact=False) for port in sorted(ports)],
    )
