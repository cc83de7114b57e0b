# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Quiescence: pending bytes of a connection, and for how long it has had none.

The queues are those of tcp_diag_get_info: write_seq - snd_una and rcv_nxt - copied_seq. SYN and FIN
each take a sequence number, so a queue counts them as a byte although they carry no data.
"""

from __future__ import annotations

from typing import NamedTuple

from ..netlink import constants
from ..sockets.socket import Socket

_TCP = "tcp"
# Our SYN or FIN is unacknowledged, as the first or the last of the send queue.
_SYN_PENDING = frozenset({constants.SYN_SENT, constants.SYN_RECV})
_FIN_PENDING = frozenset({constants.FIN_WAIT_1, constants.CLOSING, constants.LAST_ACK})
# The peer's FIN has arrived. It is the last of the receive queue until the application has read up
# to it (tcp_recvmsg).
_FIN_RECEIVED = frozenset({constants.CLOSE_WAIT, constants.CLOSING, constants.LAST_ACK})


class PendingBytes(NamedTuple):
    """Bytes that are lost if the connection is destroyed.

    unsent: written by the application, never sent. unacknowledged: sent, and not acknowledged by
    the peer. unread: received, and not read by the application.
    """

    unsent: int = 0
    unacknowledged: int = 0
    unread: int = 0

    def plus(self, other: PendingBytes | None) -> PendingBytes:
        """The sums; None counts as zero."""
        return self if other is None else PendingBytes(*map(sum, zip(self, other)))


_NOTHING_PENDING = PendingBytes()


def pending_bytes(sock: Socket) -> PendingBytes | None:
    """The pending bytes of a TCP connection; None: unknown.

    Queues of other protocols measure memory, not bytes. Those of a listener count connections.
    """
    message = sock.message
    if message.protocol != _TCP or message.state == constants.LISTENING:
        return None
    queued, unread, unsent = message.wqueue, message.rqueue, 0
    if sock.tcp_info is not None:
        unsent = min(sock.tcp_info.get("notsent_bytes", 0), queued)
    sent = queued - unsent
    if message.state in _FIN_RECEIVED and unread:
        unread -= 1
    if message.state in _FIN_PENDING:
        if unsent:
            unsent -= 1
        elif sent:
            sent -= 1
    elif message.state in _SYN_PENDING and sent:
        sent -= 1
    return PendingBytes(unsent, sent, unread)


def quiescent_for(sock: Socket, empty_for: float) -> float | None:
    """The seconds for which nothing has been in flight; None: something is or may be.

    For TCP the kernel's clocks prove it. With nothing unacknowledged, the last data sent has
    arrived, and idle_ms counts from the last data in either direction. If the kernel keeps only the
    timer of TIME_WAIT, nothing is in flight, and the result is infinite.

    empty_for: for protocols without clocks, the seconds since which their queues are known to be
    empty.
    """
    message = sock.message
    if message.protocol not in constants.STREAMS:
        return empty_for if not message.wqueue and not message.rqueue else None
    if sock.timer == "timewait":
        return float("inf")
    if message.protocol != _TCP:
        info = sock.mptcp_info
        if message.wqueue or message.rqueue or info is None or "last_data_recv" not in info:
            return None
        return min(info["last_data_sent"], info["last_data_recv"]) / 1000
    idle_ms = sock.idle_ms
    return (
        idle_ms / 1000 if idle_ms is not None and pending_bytes(sock) == _NOTHING_PENDING else None
    )
