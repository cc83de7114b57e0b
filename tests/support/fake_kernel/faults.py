# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can befall the answers on their way: each takes and gives a list of datagrams and errors.

Put one into FakeNamespace.faults; it strikes the answers of the next send, once.
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


def none(answers: list[Item]) -> list[Item]:
    """Let one send pass unharmed."""
    return answers


def failing(code: int, *, at: int = 0) -> Fault:
    """A receive fails with that errno; nothing is lost."""
    return lambda answers: [*answers[:at], _error(code), *answers[at:]]


def overrun(*, kept: int = 0) -> Fault:
    """ENOBUFS: only the first answers were kept."""
    return lambda answers: [_error(errno.ENOBUFS), *answers[:kept]]


def lost(*, kept: int = 0) -> Fault:
    """The rest of the answers never comes."""
    return lambda answers: answers[:kept]


def without_done(answers: list[Item]) -> list[Item]:
    """The messages come, the end of the dump does not."""
    return _messages(answers, lambda header, body: header[1] != NLMSG_DONE and (header, body))


def dump_interrupted(answers: list[Item]) -> list[Item]:
    """The kernel says that its tables changed during the dump (nl_dump_check_consistent)."""

    def mark(header: tuple[int, ...], body: bytes) -> tuple[tuple[int, ...], bytes]:
        return (header[0], header[1], header[2] | F_DUMP_INTR, *header[3:]), body

    return _messages(answers, mark)


def done_with(code: int) -> Fault:
    """The dump ends with an errno in the payload of NLMSG_DONE."""

    def replace(header: tuple[int, ...], body: bytes) -> tuple[tuple[int, ...], bytes]:
        return (header, struct.pack("=i", -code)) if header[1] == NLMSG_DONE else (header, body)

    return lambda answers: _messages(answers, replace)


def strangers(*, sequence: bool = False, port: bool = False) -> Fault:
    """Before the answers come such as are for another request, or for another socket."""

    def mark(header: tuple[int, ...], body: bytes) -> tuple[tuple[int, ...], bytes]:
        length, kind, flags, number, to_port = header
        number = (number + 1000) & 0xFFFFFFFF if sequence else number
        other = bytes(byte ^ 0xFF for byte in body) if kind >= 16 else body
        return (length, kind, flags, number, to_port ^ 0x5A5A if port else to_port), other

    return lambda answers: [*_messages(answers, mark), *answers]


def cut(size: int) -> Fault:
    """Each datagram ends after so many bytes."""
    return lambda answers: [each[:size] if isinstance(each, bytes) else each for each in answers]


def padded(size: int) -> Fault:
    """Each datagram is longer than any buffer: so many bytes of zeros follow."""
    return lambda answers: [
        each + bytes(size) if isinstance(each, bytes) else each for each in answers
    ]


def bodies(change: Callable[[bytes], bytes]) -> Fault:
    """Change the payload of each message but the last of a dump."""

    def replace(header: tuple[int, ...], body: bytes) -> tuple[tuple[int, ...], bytes]:
        return (header, change(body)) if header[1] >= 16 else (header, body)

    return lambda answers: _messages(answers, replace)


def raw(*datagrams: bytes) -> Fault:
    """Those bytes come instead of the answers."""
    return lambda _answers: list(datagrams)


def _messages(
    answers: list[Item],
    change: Callable[[tuple[int, ...], bytes], tuple[tuple[int, ...], bytes] | bool],
) -> list[Item]:
    """Apply a change to each message; what it answers False to is left out."""
    found: list[Item] = []
    for item in answers:
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
