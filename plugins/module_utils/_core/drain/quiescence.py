# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what a connection has on its way, and whether it is still.

The queues are those of tcp_diag_get_info: write_seq - snd_una and rcv_nxt - copied_seq. SYN and FIN
have sequence numbers of their own, and so count as a byte each though they carry none.
"""

from __future__ import annotations

from typing import NamedTuple

from ..netlink import constants
from ..sockets.socket import Socket

_TCP = "tcp"
# Ours is not acknowledged yet, and is the first or the last of the send queue.
_SYN_SENT = frozenset({constants.SYN_SENT, constants.SYN_RECV})
_FIN_SENT = frozenset({constants.FIN_WAIT_1, constants.CLOSING, constants.LAST_ACK})
# The peer's has come, and is the last of the receive queue as long as the application has not read
# so far (tcp_recvmsg).
_FIN_RECEIVED = frozenset({constants.CLOSE_WAIT, constants.CLOSING, constants.LAST_ACK})


class Bytes(NamedTuple):
    """unsent: written by the application, never sent. unacknowledged: sent, and the peer has not
    said that it came. unread: it came, and the application has not read it."""

    unsent: int = 0
    unacknowledged: int = 0
    unread: int = 0

    def plus(self, other: Bytes | None) -> Bytes:
        return self if other is None else Bytes(*map(sum, zip(self, other)))


_NOTHING = Bytes()


def bytes_of(sock: Socket) -> Bytes | None:
    """What is lost if it is destroyed now. None: not known. Only TCP counts bytes: the queues of
    others are the memory that they take. A listener has none of its own."""
    message = sock.message
    if message.protocol != _TCP or message.state == constants.LISTENING:
        return None
    queued, unread, unsent = message.wqueue, message.rqueue, 0
    if sock.tcp_info is not None:
        unsent = min(sock.tcp_info.get("notsent_bytes", 0), queued)
    sent = queued - unsent
    if message.state in _FIN_RECEIVED and unread:
        unread -= 1
    if message.state in _FIN_SENT:
        if unsent:
            unsent -= 1
        elif sent:
            sent -= 1
    elif message.state in _SYN_SENT and sent:
        sent -= 1
    return Bytes(unsent, sent, unread)


def still_for(sock: Socket, quiet: float) -> float | None:
    """For how many seconds nothing of it has been on its way; None: something is, or may be.

    For TCP the kernel's clocks prove it: with nothing unacknowledged the last data that was sent
    has arrived, and idle_ms counts from the last data either way. What the kernel keeps of a closed
    connection (no inode, and the timer of TIME_WAIT) has nothing any more, for any length of time.
    Other protocols have no clocks; for them counts for how long the queues were seen empty (quiet).
    """
    message = sock.message
    if message.protocol not in constants.STREAMS:
        return quiet if not message.wqueue and not message.rqueue else None
    if sock.timer == "timewait":
        return float("inf")
    if message.protocol != _TCP:
        info = sock.mptcp_info
        if message.wqueue or message.rqueue or info is None or "last_data_recv" not in info:
            return None
        return min(info["last_data_sent"], info["last_data_recv"]) / 1000
    idle_ms = sock.idle_ms
    return idle_ms / 1000 if idle_ms is not None and bytes_of(sock) == _NOTHING else None
