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
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from .. import vocabulary
from ..errors import HandlerMissing
from ..subject import Subject
from ..wire import bytecode, inet_diag
from ..wire.netlink import Connection
from .backoff import nothing_came_ms

if TYPE_CHECKING:
    from ..environment import Environment

# Of records and totals, and of the agent's reports. Three times the usual interval of those that
# call home (10 s), so that one lost report does not count.
DEFAULT_SILENT_MS = 30_000

# (local address, local port, remote address, interface it is bound to)
Slot = tuple[bytes, int, bytes, int]
# What is said of one connection: False, None for unknown, or the evidence.
Finding = Union[dict[str, Any], bool, None]

_LISTED = vocabulary.state_mask(
    vocabulary.ALL_STATES
    - {
        vocabulary.LISTENING,
        vocabulary.CLOSED,
        vocabulary.TIME_WAIT,
        vocabulary.SYN_SENT,
        vocabulary.SYN_RECV,
    }
)
# A FIN counts as one byte received (tcp_rcv_nxt_update, net/ipv4/tcp_input.c).
_FIN_RECEIVED = (vocabulary.CLOSE_WAIT, vocabulary.LAST_ACK, vocabulary.CLOSING)
# A filter by more ports than these is no longer cheaper than none.
_MOST_PORTS = 64
# The one that is asked about may be the one heard of last: so another is kept.
_KEPT = 2


class _Heard(NamedTuple):
    """A connection, and how many milliseconds ago it received data."""

    heard_ms: int
    remote_port: int
    cookie: int


class Heard:
    """Which connections were heard of last, for each peer at each local address and port.

    Only for the sockets that it was told to listen for; kept in the environment of their look.
    """

    def __init__(self) -> None:
        self._last: dict[Slot, list[_Heard]] = {}

    @classmethod
    def of(cls, environment: Environment) -> Heard:
        """The one of this look."""
        found: Heard = environment.kept.setdefault(cls, cls())
        return found

    def listen(self, connection: Connection, subjects: Iterable[Subject]) -> None:
        """List whatever else has the same ends as these sockets, but for the peer's port.

        connection: of NETLINK_SOCK_DIAG. Raises what Connection.dump raises.
        """
        environment: Environment | None = None
        slots: set[Slot] = set()
        for subject in subjects:
            if subject.protocol == "tcp" and subject.idle_ms is not None:
                environment = subject.environment
                slots.add(_slot(subject))
        slots -= self._last.keys()
        if environment is None or not slots:
            return
        here = environment

        def heard(sock: inet_diag.Sock) -> tuple[Slot, _Heard] | None:
            subject = Subject(sock, here)
            slot = _slot(subject)
            if slot not in slots:
                return None
            clock = _heard_ms(subject)
            return None if clock is None else (slot, _Heard(clock, sock.dport, sock.cookie))

        program = _filter({port for _local, port, _remote, _ifindex in slots})
        extensions = inet_diag.extension_bits([inet_diag.INFO])
        found: dict[Slot, list[_Heard]] = {slot: [] for slot in slots}
        for family in vocabulary.FAMILIES.values():
            try:
                for slot, voice in inet_diag.dump_as(
                    heard, connection, "tcp", family, _LISTED, extensions, program
                ):
                    found[slot] = sorted((*found[slot], voice))[:_KEPT]
            except HandlerMissing:
                break
        self._last.update(found)

    def judge(self, subject: Subject, silent_ms: int) -> bool | None:
        """Whether another took over; None where the kernel does not tell, or it was not asked."""
        found = self.verdict(subject, silent_ms)
        return bool(found) if found is not None else None

    def verdict(self, subject: Subject, silent_ms: int) -> Finding:
        """As judge; the evidence instead of true.

        {silent_ms, by: {remote_port, cookie, heard_ms}}: for how long nothing was received, and
        which connection received something how long ago.
        """
        info = subject.tcp_info
        if subject.protocol != "tcp" or subject.idle_ms is None or info is None:
            return None
        # An acknowledgement is heard as well: of a stream that only this side sends.
        silent = nothing_came_ms(info)
        if silent < silent_ms:
            return False
        others = self._last.get(_slot(subject))
        if others is None:
            return None
        for voice in others:
            # Listed later than the subject, so what is shorter here was later there as well.
            if voice.cookie != subject.cookie and voice.heard_ms < silent:
                by = {
                    "remote_port": voice.remote_port,
                    "cookie": f"{voice.cookie:x}",
                    "heard_ms": voice.heard_ms,
                }
                return {"silent_ms": silent, "by": by}
        return False


def _slot(subject: Subject) -> Slot:
    """What a connection shares with those that may take its place.

    Bound to another interface, the same addresses are those of other hosts (link-local addresses,
    VRFs).
    """
    return (
        subject.local_address,
        subject.local_port,
        subject.remote_address,
        subject.ifindex,
    )


def _heard_ms(subject: Subject) -> int | None:
    """None: it has not received any data. Its clock then counts from the handshake."""
    info = subject.tcp_info or {}
    received = info.get("bytes_received", 0)
    if received <= (subject.sock.state in _FIN_RECEIVED):
        return None
    return info.get("last_data_recv")


def _filter(ports: set[int]) -> bytes:
    if len(ports) > _MOST_PORTS:
        return b""
    return bytecode.disjunction(
        [bytecode.sport_eq(port, exact=False) for port in sorted(ports)],
    )
