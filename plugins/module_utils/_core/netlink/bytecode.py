# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: an assembler for the kernel's socket filters.

struct inet_diag_bc_op (include/uapi/linux/inet_diag.h); what a program may look like is decided by
inet_diag_bc_audit and run by inet_diag_bc_run (net/ipv4/inet_diag.c).

A block accepts a socket by running off its end and rejects it by landing four bytes behind its
end. Every function here takes and gives such blocks, so they nest.
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

# Jumps are u16 multiples of four, and so is the attribute that carries the program.
MAX_LENGTH = min(0xFFFC - _REJECT_BY, MAX_VALUE)

ACCEPT = b""
# A jump over the block's end.
REJECT = _OP.pack(_JMP, _OP.size, _OP.size + _REJECT_BY)


def _condition(code: int, argument: bytes) -> bytes:
    length = _OP.size + len(argument)
    return _OP.pack(code, length, length + _REJECT_BY) + argument


def _port(code: int, port: int) -> bytes:
    return _condition(code, _OP.pack(0, 0, port))


def sport_ge(port: int) -> bytes:
    return _port(_S_GE, port)


def sport_le(port: int) -> bytes:
    return _port(_S_LE, port)


def dport_ge(port: int) -> bytes:
    return _port(_D_GE, port)


def dport_le(port: int) -> bytes:
    return _port(_D_LE, port)


def sport_eq(port: int, *, exact: bool = True) -> bytes:
    """exact=False: in two ops, for kernels that do not know S_EQ."""
    if exact:
        return _port(_S_EQ, port)
    return conjunction((sport_ge(port), sport_le(port)))


def dport_eq(port: int, *, exact: bool = True) -> bytes:
    """exact=False: in two ops, for kernels that do not know D_EQ."""
    if exact:
        return _port(_D_EQ, port)
    return conjunction((dport_ge(port), dport_le(port)))


def auto() -> bytes:
    """The kernel chose the local port (SOCK_BINDPORT_LOCK is not set)."""
    return _condition(_AUTO, b"")


def src_host(family: int, prefix_length: int, address: bytes, port: int = -1) -> bytes:
    """The local address lies in the prefix, and the local port is this one (-1: any).

    family AF_UNSPEC (0) with prefix_length 0 tests the port alone. An AF_INET condition accepts
    v4-mapped sockets of an AF_INET6 dump too.
    """
    return _condition(_S_COND, _HOST.pack(family, prefix_length, port) + address)


def dst_host(family: int, prefix_length: int, address: bytes, port: int = -1) -> bytes:
    """As src_host, for the remote end."""
    return _condition(_D_COND, _HOST.pack(family, prefix_length, port) + address)


def device(ifindex: int) -> bytes:
    """The socket is bound to this interface (0: to none)."""
    return _condition(_DEV_COND, struct.pack("=I", ifindex))


def mark(value: int, mask: int) -> bytes:
    """(mark & mask) == value. The kernel refuses it with EPERM without CAP_NET_ADMIN."""
    return _condition(_MARK_COND, struct.pack("=II", value, mask))


def cgroup(identifier: int) -> bytes:
    """The socket was made in exactly this cgroup v2 (its children not included)."""
    return _condition(_CGROUP_COND, struct.pack("=Q", identifier))


def _checked(block: bytes) -> bytes:
    if len(block) > MAX_LENGTH:
        raise BytecodeTooLong(len(block), MAX_LENGTH)
    return block


def conjunction(blocks: Sequence[bytes]) -> bytes:
    """Accepts what every block accepts; ACCEPT for no blocks. Raises BytecodeTooLong."""
    program = _checked(b"".join(blocks))
    relocated = bytearray(program)
    end = 0
    for block in blocks:
        start, end = end, end + len(block)
        _move_exits(relocated, start, end, len(program) + _REJECT_BY)
    return bytes(relocated)


def _move_exits(program: bytearray, start: int, end: int, target: int) -> None:
    """Let what rejects in [start, end), landing at end + 4, land at target instead."""
    offset = start
    while offset < end:
        code, size, no = _OP.unpack_from(program, offset)
        if offset + no == end + _REJECT_BY:
            _OP.pack_into(program, offset, code, size, target - offset)
        offset += size


def disjunction(blocks: Sequence[bytes]) -> bytes:
    """Accepts what any block accepts; REJECT for no blocks. Raises BytecodeTooLong.

    Between two blocks stands a jump to the end: a block that rejects lands behind it, at the next
    block, and the `yes` steps that the kernel's audit follows pass over it.
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
    """Accepts what the block rejects. Raises BytecodeTooLong."""
    return _checked(block + REJECT)
