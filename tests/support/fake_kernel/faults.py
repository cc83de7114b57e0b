# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of netlink replies: functions from a list of datagrams and errors to another.

Append one to FakeNamespace.faults. It applies to the replies of the next send, once.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable

from .model import Fault, Item
from .netlink import F_DUMP_INTR, F_MULTI, HEADER, NLMSG_DONE, message


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def none(replies: list[Item]) -> list[Item]:
    """No fault: skip one send."""
    return replies


def failing(code: int, *, at: int = 0) -> Fault:
    """A receive fails with this errno; nothing is lost."""
    return lambda replies: [*replies[:at], _error(code), *replies[at:]]


def overrun(*, kept: int = 0) -> Fault:
    """ENOBUFS: only the first replies are kept."""
    return lambda replies: [_error(errno.ENOBUFS), *replies[:kept]]


def lost(*, kept: int = 0) -> Fault:
    """All replies but the first ones are lost, without an error."""
    return lambda replies: replies[:kept]


def without_done(replies: list[Item]) -> list[Item]:
    """NLMSG_DONE is lost."""
    return _messages(replies, lambda header, body: header[1] != NLMSG_DONE and (header, body))


def dump_interrupted(replies: list[Item]) -> list[Item]:
    """The kernel's tables changed during the dump (nl_dump_check_consistent)."""

    def mark(header: tuple[int, ...], body: bytes) -> tuple[tuple[int, ...], bytes]:
        return (header[0], header[1], header[2] | F_DUMP_INTR, *header[3:]), body

    return _messages(replies, mark)


def done_with(code: int) -> Fault:
    """NLMSG_DONE carries this errno."""

    def replace(header: tuple[int, ...], body: bytes) -> tuple[tuple[int, ...], bytes]:
        return (header, struct.pack("=i", -code)) if header[1] == NLMSG_DONE else (header, body)

    return lambda replies: _messages(replies, replace)


def strangers(*, sequence: bool = False, port: bool = False) -> Fault:
    """Replies to another request, or to another socket, precede the real ones."""

    def mark(header: tuple[int, ...], body: bytes) -> tuple[tuple[int, ...], bytes]:
        length, kind, flags, number, to_port = header
        number = (number + 1000) & 0xFFFFFFFF if sequence else number
        other = bytes(byte ^ 0xFF for byte in body) if kind >= 16 else body
        return (length, kind, flags, number, to_port ^ 0x5A5A if port else to_port), other

    return lambda replies: [*_messages(replies, mark), *replies]


def cut(size: int) -> Fault:
    """Each datagram is cut to this size in bytes."""
    return lambda replies: [item[:size] if isinstance(item, bytes) else item for item in replies]


def padded(size: int) -> Fault:
    """This many zero bytes follow each datagram."""
    return lambda replies: [
        item + bytes(size) if isinstance(item, bytes) else item for item in replies
    ]


def bodies(change: Callable[[bytes], bytes]) -> Fault:
    """Change the payload of each message except NLMSG_DONE and NLMSG_ERROR."""

    def replace(header: tuple[int, ...], body: bytes) -> tuple[tuple[int, ...], bytes]:
        return (header, change(body)) if header[1] >= 16 else (header, body)

    return lambda replies: _messages(replies, replace)


def raw(*datagrams: bytes) -> Fault:
    """Replace the replies with these datagrams."""
    return lambda _replies: list(datagrams)


def _messages(
    replies: list[Item],
    change: Callable[[tuple[int, ...], bytes], tuple[tuple[int, ...], bytes] | bool],
) -> list[Item]:
    """Apply a change to each message. False drops the message."""
    found: list[Item] = []
    for item in replies:
        if isinstance(item, OSError):
            found.append(item)
            continue
        offset = 0
        rebuilt = b""
        while offset + 16 <= len(item):
            header = HEADER.unpack_from(item, offset)
            changed = change(header, item[offset + 16 : offset + header[0]])
            if not isinstance(changed, bool):
                (_length, kind, flags, number, to_port), body = changed
                rebuilt += message(kind, flags, number, to_port, body)
            offset += (header[0] + 3) & ~3
        if rebuilt:
            found.append(rebuilt)
    return found


__all__ = [
    "F_MULTI",
    "bodies",
    "cut",
    "done_with",
    "dump_interrupted",
    "failing",
    "lost",
    "none",
    "overrun",
    "padded",
    "raw",
    "strangers",
    "without_done",
]
