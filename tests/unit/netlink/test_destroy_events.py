# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destroy notifications as the kernel's multicast groups send them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from linuxnet_sockets.netlink import destroy_events
from linuxnet_sockets.netlink.destroy_events import DestroyEventSocket


def notification(cookie: int, *, length: int = 96) -> bytes:
    """Encode struct nlmsghdr and struct inet_diag_msg, whose sockid ends with the cookie."""
    header = struct.pack("=IHHII", length, 20, 0, 0, 0)
    message = struct.pack("=BBBB", 2, 7, 0, 0)
    sockid = struct.pack("!HH16s16s", 40000, 443, bytes(range(16)), bytes(range(16))) + struct.pack(
        "=III", 9, cookie & 0xFFFFFFFF, cookie >> 32
    )
    return (header + message + sockid).ljust(length, b"\0")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, DestroyEventSocket]]:
    """A socket pair that preserves datagrams: the kernel's end, and a listener on the other."""
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener = DestroyEventSocket(ours)
    yield kernel, listener
    kernel.close()
    listener.close()


def test_take_cookies_returns_all_queued(ends: tuple[socket.socket, DestroyEventSocket]) -> None:
    kernel, listener = ends
    assert listener.take_cookies() == frozenset()
    for cookie in (7, 0xABCD_1234_5678, 7):
        kernel.send(notification(cookie))
    kernel.send(notification(9, length=380))
    assert listener.take_cookies() == {7, 9, 0xABCD_1234_5678}
    assert listener.take_cookies() == frozenset()


def test_short_messages_are_ignored(ends: tuple[socket.socket, DestroyEventSocket]) -> None:
    kernel, listener = ends
    for size in (0, 16, 67):
        kernel.send(notification(7)[:size])
    kernel.send(notification(8)[:68])
    assert listener.take_cookies() == {8}


def test_wait_and_any_destroyed(ends: tuple[socket.socket, DestroyEventSocket]) -> None:
    kernel, listener = ends
    assert not destroy_events.wait([listener], 0.01)
    assert not destroy_events.wait([listener], -1.0)
    kernel.send(notification(7))
    assert destroy_events.wait([listener], 5.0)
    assert destroy_events.any_destroyed([listener], {7, 8})
    assert not destroy_events.wait([listener], 0.0)
    kernel.send(notification(9))
    assert not destroy_events.any_destroyed([listener], {7, 8})
    assert not destroy_events.wait([listener], 0.0)


class Failing:
    """A socket whose recv fails."""

    def __init__(self, number: int) -> None:
        self._number = number

    def recv(self, _size: int, _flags: int) -> bytes:
        raise OSError(self._number, os.strerror(self._number))


def test_lost_notifications_count_as_destroyed() -> None:
    listener = DestroyEventSocket(Failing(errno.ENOBUFS))  # type: ignore[arg-type]
    assert listener.take_cookies() is None
    assert destroy_events.any_destroyed([listener], set())


def test_other_errors_are_raised() -> None:
    with pytest.raises(OSError, match="Bad file"):
        DestroyEventSocket(Failing(errno.EBADF)).take_cookies()  # type: ignore[arg-type]
