# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the kernel's notices of sockets that it has done away with.

They come on multicast groups of NETLINK_SOCK_DIAG (include/uapi/linux/sock_diag.h, enum
sknetlink_groups), one when the last reference to a socket is dropped: for one that was aborted,
not before its application has closed the descriptor. So a notice is a hint to look again, and
none proves that nothing happened. Anybody may listen (NL_CFG_F_NONROOT_RECV, sock_diag_net_init).
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Collection, Sequence
from typing import Protocol

from .connection import NETLINK_SOCK_DIAG

# SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET_UDP_DESTROY, and the same of INET6.
GROUPS = (1, 2, 3, 4)

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_RECEIVE_BUFFER = 1 << 20
# A notice is a struct inet_diag_msg with a tcp_info at most (sock_diag_broadcast_destroy_work).
_LONGEST = 4096
# struct nlmsghdr, then the first 52 bytes of struct inet_diag_msg, the last eight the cookie.
_COOKIE = struct.Struct("=16x44xII")
# So many are read at one go; the rest waits for the next.
_MOST = 4096


class Notices(Protocol):
    """What waits for notices in one namespace."""

    def fileno(self) -> int: ...

    def cookies(self) -> frozenset[int] | None:
        """Of the sockets told of since the last call, without waiting; None: some were lost."""

    def close(self) -> None: ...


class NoticeSocket:
    """A socket that is told of every TCP and UDP socket destroyed in its namespace.

    While it is open, it keeps the namespace alive.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def cookies(self) -> frozenset[int] | None:
        found: set[int] = set()
        for _notice in range(_MOST):
            try:
                datagram = self._sock.recv(_LONGEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return None
                raise
            if len(datagram) >= _COOKIE.size:
                low, high = _COOKIE.unpack_from(datagram)
                found.add(high << 32 | low)
        return frozenset(found)


def open_notices() -> NoticeSocket:
    """In the caller's network namespace. Raises OSError."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.bind((0, 0))
        for group in GROUPS:
            sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        sock.close()
        raise
    return NoticeSocket(sock)


def wait(notices: Sequence[Notices], seconds: float) -> bool:
    """Until a notice waits in any of them, at most so long; whether one does."""
    poll = select.poll()
    for each in notices:
        poll.register(each.fileno(), select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def any_of(notices: Sequence[Notices], cookies: Collection[int]) -> bool:
    """Take what waits in all of them: whether it tells, or might tell, of one of these sockets."""
    told = [each.cookies() for each in notices]
    return any(each is None or not each.isdisjoint(cookies) for each in told)
