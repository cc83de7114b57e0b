# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Assembler for the kernel's socket filters.

A filter for connected sockets of 192.0.2.0/24 that use port 443:

    bytecode.dst_host(socket.AF_INET, 24, bytes([192, 0, 2, 0]), 443)

Instructions are struct inet_diag_bc_op (include/uapi/linux/inet_diag.h). inet_diag_bc_audit
validates a program and inet_diag_bc_run runs it (net/ipv4/inet_diag.c).

A block accepts a socket by running off its end, and rejects it by jumping four bytes beyond its
end. Every function here takes and returns such blocks, so they nest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..errors import BytecodeTooLong
from .attributes import MAX_VALUE

_JMP = 1
_S_GE = 2
_S_LE = 3
_D_GE = 4
_D_LE = 5
_AUTO = 6
_S_COND = 7
_D_COND = 8
_DEV_COND = 9
_MARK_COND = 10
_S_EQ = 11
_D_EQ = 12
_CGROUP_COND = 13

_OP = struct.Struct("=BBH")
_HOST = struct.Struct("=BBxxi")
_REJECT_BY = 4

# Jumps are u16 and multiples of four; the length of the attribute is u16 too.
MAX_LENGTH = min(0xFFFC - _REJECT_BY, MAX_VALUE)

ACCEPT = b""
# A jump beyond the block's end.
REJECT = _OP.pack(_JMP, _OP.size, _OP.size + _REJECT_BY)


def _condition(code: int, argument: bytes) -> bytes:
    length = _OP.size + len(argument)
    return _OP.pack(code, length, length + _REJECT_BY) + argument


def _port(code: int, port: int) -> bytes:
    return _condition(code, _OP.pack(0, 0, port))


def sport_ge(port: int) -> bytes:
    """The local port is this one or higher."""
    return _port(_S_GE, port)


def sport_le(port: int) -> bytes:
    """The local port is this one or lower."""
    return _port(_S_LE, port)


def dport_ge(port: int) -> bytes:
    """The remote port is this one or higher."""
    return _port(_D_GE, port)


def dport_le(port: int) -> bytes:
    """The remote port is this one or lower."""
    return _port(_D_LE, port)


def sport_eq(port: int, *, exact: bool = True) -> bytes:
    """The local port is this one. exact=False: two instructions, for kernels without S_EQ."""
    if exact:
        return _port(_S_EQ, port)
    return conjunction((sport_ge(port), sport_le(port)))


def dport_eq(port: int, *, exact: bool = True) -> bytes:
    """The remote port is this one. exact=False: two instructions, for kernels without D_EQ."""
    if exact:
        return _port(_D_EQ, port)
    return conjunction((dport_ge(port), dport_le(port)))


def auto() -> bytes:
    """The kernel chose the local port (SOCK_BINDPORT_LOCK is not set)."""
    return _condition(_AUTO, b"")


def src_host(family: int, prefix_length: int, address: bytes, port: int = -1) -> bytes:
    """The local address lies in the prefix, and the local port is this one (-1: any).

    family: AF_UNSPEC (0) with prefix_length 0 tests only the port; AF_INET also accepts v4-mapped
    sockets in an AF_INET6 dump. address: 4 or 16 bytes.
    """
    return _condition(_S_COND, _HOST.pack(family, prefix_length, port) + address)


def dst_host(family: int, prefix_length: int, address: bytes, port: int = -1) -> bytes:
    """Like src_host, for the remote end."""
    return _condition(_D_COND, _HOST.pack(family, prefix_length, port) + address)


def device(ifindex: int) -> bytes:
    """The socket is bound to this interface (0: to none)."""
    return _condition(_DEV_COND, struct.pack("=I", ifindex))


def mark(value: int, mask: int) -> bytes:
    """The mark matches: (mark & mask) == value. Without CAP_NET_ADMIN the kernel returns EPERM."""
    return _condition(_MARK_COND, struct.pack("=II", value, mask))


def cgroup(identifier: int) -> bytes:
    """The socket was created in exactly this cgroup v2, not in a child."""
    return _condition(_CGROUP_COND, struct.pack("=Q", identifier))


def _checked(block: bytes) -> bytes:
    if len(block) > MAX_LENGTH:
        raise BytecodeTooLong(len(block), MAX_LENGTH)
    return block


def conjunction(blocks: Sequence[bytes]) -> bytes:
    """Accept what every block accepts; ACCEPT for no blocks. Raises BytecodeTooLong."""
    program = _checked(b"".join(blocks))
    relocated = bytearray(program)
    end = 0
    for block in blocks:
        start, end = end, end + len(block)
        _move_exits(relocated, start, end, len(program) + _REJECT_BY)
    return bytes(relocated)


def _move_exits(program: bytearray, start: int, end: int, target: int) -> None:
    """Move the rejecting jumps of the block [start, end) from end + 4 to target."""
    offset = start
    while offset < end:
        code, size, no = _OP.unpack_from(program, offset)
        if offset + no == end + _REJECT_BY:
            _OP.pack_into(program, offset, code, size, target - offset)
        offset += size


def disjunction(blocks: Sequence[bytes]) -> bytes:
    """Accept what any block accepts; REJECT for no blocks. Raises BytecodeTooLong.

    A jump to the end separates two blocks. A block that rejects lands after that jump, at the next
    block. The `yes` offsets, which the kernel's audit follows, step over the jump.
    """
    if not blocks:
        return REJECT
    length = sum(map(len, blocks)) + _OP.size * (len(blocks) - 1)
    if length > MAX_LENGTH:
        raise BytecodeTooLong(length, MAX_LENGTH)
    parts: list[bytes] = []
    left = length
    for block in blocks[:-1]:
        left -= len(block)
        parts += (block, _OP.pack(_JMP, _OP.size, left))
        left -= _OP.size
    parts.append(blocks[-1])
    return b"".join(parts)


def negation(block: bytes) -> bytes:
    """Accept the sockets that the block rejects. Raises BytecodeTooLong."""
    return _checked(block + REJECT)
