# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Destroy notifications: the kernel's multicast messages about destroyed sockets.

They come on the multicast groups of NETLINK_SOCK_DIAG (include/uapi/linux/sock_diag.h, enum
sknetlink_groups). Any user may subscribe (NL_CFG_F_NONROOT_RECV, sock_diag_net_init).

The kernel sends one when the last reference to a socket is dropped. For an aborted socket that is
not before its application closes the descriptor. A notification is therefore a hint to dump again;
no notification proves nothing.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Collection, Sequence
from typing import Protocol

from .connection import NETLINK_SOCK_DIAG, open_netlink

# SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET_UDP_DESTROY, and the same of INET6.
GROUPS = (1, 2, 3, 4)

_SOCKET_BUFFER = 1 << 20
# At most a struct inet_diag_msg with a tcp_info (sock_diag_broadcast_destroy_work).
_MAX_MESSAGE = 4096
# struct nlmsghdr, then the first 52 bytes of struct inet_diag_msg; the last eight are the cookie.
_COOKIE = struct.Struct("=16x44xII")
_MAX_MESSAGES_PER_READ = 4096


class DestroyEventListener(Protocol):
    """A subscription to the destroy notifications of one namespace."""

    def fileno(self) -> int: ...

    def take_cookies(self) -> frozenset[int] | None:
        """The cookies of the sockets destroyed since the last call, without waiting.

        None: the kernel dropped notifications. Raises OSError.
        """

    def close(self) -> None: ...


class DestroyEventSocket:
    """A netlink socket subscribed to the destruction of TCP and UDP sockets in its namespace.

    While it is open, it keeps the namespace alive.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def take_cookies(self) -> frozenset[int] | None:
        cookies: set[int] = set()
        for _message in range(_MAX_MESSAGES_PER_READ):
            try:
                datagram = self._sock.recv(_MAX_MESSAGE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return None
                raise
            if len(datagram) >= _COOKIE.size:
                low, high = _COOKIE.unpack_from(datagram)
                cookies.add(high << 32 | low)
        return frozenset(cookies)


def subscribe() -> DestroyEventSocket:
    """Subscribe in the caller's network namespace. Raises OSError."""
    return DestroyEventSocket(
        open_netlink(NETLINK_SOCK_DIAG, groups=GROUPS, receive_buffer=_SOCKET_BUFFER)
    )


def wait(listeners: Sequence[DestroyEventListener], timeout_s: float) -> bool:
    """Wait until a listener has a notification; returns False if none has after the timeout."""
    poll = select.poll()
    for listener in listeners:
        poll.register(listener.fileno(), select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))


def any_destroyed(listeners: Sequence[DestroyEventListener], cookies: Collection[int]) -> bool:
    """Read the notifications of all listeners.

    Returns True if one of these sockets was destroyed, or may have been: notifications were
    dropped. Raises OSError.
    """
    # All are read, even if the first already decides.
    taken = [listener.take_cookies() for listener in listeners]
    return any(destroyed is None or not destroyed.isdisjoint(cookies) for destroyed in taken)
