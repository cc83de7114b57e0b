# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's socket filters: inet_diag_bc_audit and inet_diag_bc_run (net/ipv4/inet_diag.c)."""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

_OP = struct.Struct("=BBH")
_HOST = struct.Struct("=BB2xi")
NOP, JMP, S_GE, S_LE, D_GE, D_LE, AUTO, S_COND, D_COND, DEV_COND, MARK_COND = range(11)
S_EQ, D_EQ, CGROUP_COND = 11, 12, 13
_PORTS = frozenset({S_GE, S_LE, D_GE, D_LE, S_EQ, D_EQ})
_PLAIN = frozenset({NOP, JMP, AUTO})
_ARGUMENT = {DEV_COND: 4, MARK_COND: 8, CGROUP_COND: 8}
_ADDRESS = {socket.AF_UNSPEC: 0, socket.AF_INET: 4, socket.AF_INET6: 16}


class Entry(NamedTuple):
    """The fields of a socket that filters test (struct inet_diag_entry).

    Ports are in host order. Addresses have 16 bytes, IPv4 in the first four.
    """

    family: int
    src: bytes
    dst: bytes
    sport: int
    dport: int
    autobound: bool = False
    ifindex: int = 0
    mark: int = 0
    cgroup: int = 0


def audit(program: bytes, *, privileged: bool = True, unknown: frozenset[int] = frozenset()) -> int:
    """inet_diag_bc_audit: 0, or the errno with which the kernel rejects the program."""
    total = len(program)
    if total < 4:
        return errno.EINVAL
    offset = 0
    while offset < total:
        remaining = total - offset
        if remaining < 4:
            return errno.EINVAL
        code, yes, no = _OP.unpack_from(program, offset)
        if code > CGROUP_COND or code in unknown:
            return errno.EINVAL
        if code == MARK_COND and not privileged:
            return errno.EPERM
        needed = _needed(program, offset, code, remaining)
        if needed is None:
            return errno.EINVAL
        if code != NOP:
            if no < needed or no > remaining + 4 or no & 3:
                return errno.EINVAL
            if no < remaining and not _reachable(program, offset + no):
                return errno.EINVAL
        if yes < needed or yes > remaining + 4 or yes & 3:
            return errno.EINVAL
        offset += yes
    return 0 if offset == total else errno.EINVAL


def _needed(program: bytes, offset: int, code: int, remaining: int) -> int | None:
    """The minimum length of an instruction with its argument (min_len); None: it does not fit."""
    if code in _PLAIN:
        return 4
    if code in _PORTS:
        needed = 8
    elif code in _ARGUMENT:
        needed = 4 + _ARGUMENT[code]
    else:
        needed = 12
        if remaining < needed:
            return None
        family, prefix_length, _port = _HOST.unpack_from(program, offset + 4)
        if family not in _ADDRESS:
            return None
        needed += _ADDRESS[family]
        if prefix_length > 8 * _ADDRESS[family]:
            return None
    return needed if remaining >= needed else None


def _reachable(program: bytes, target: int) -> bool:
    """valid_cc: True if a walk over the program by its yes offsets reaches the target."""
    offset = 0
    while offset < target and offset + 4 <= len(program):
        yes = program[offset + 1]
        if yes < 4 or yes & 3:
            return False
        offset += yes
    return offset == target


def run(program: bytes, entry: Entry) -> bool:
    """inet_diag_bc_run: True if a program that passed the audit accepts the socket."""
    offset = 0
    remaining = len(program)
    while remaining > 0:
        code, yes, no = _OP.unpack_from(program, offset)
        step = yes if _holds(program, offset, code, entry) else no
        offset += step
        remaining -= step
    return remaining == 0


def _holds(program: bytes, offset: int, code: int, entry: Entry) -> bool:
    if code == NOP:
        return True
    if code == JMP:
        return False
    if code in _PORTS:
        (port,) = struct.unpack_from("=H", program, offset + 6)
        actual = entry.sport if code in (S_GE, S_LE, S_EQ) else entry.dport
        if code in (S_EQ, D_EQ):
            return bool(actual == port)
        return bool(actual >= port) if code in (S_GE, D_GE) else bool(actual <= port)
    if code == AUTO:
        return entry.autobound
    if code == DEV_COND:
        return bool(struct.unpack_from("=I", program, offset + 4)[0] == entry.ifindex)
    if code == MARK_COND:
        mark, mask = struct.unpack_from("=II", program, offset + 4)
        return bool(entry.mark & mask == mark)
    if code == CGROUP_COND:
        return bool(struct.unpack_from("=Q", program, offset + 4)[0] == entry.cgroup)
    return _host_holds(program, offset, code, entry)


def _host_holds(program: bytes, offset: int, code: int, entry: Entry) -> bool:
    family, prefix_length, port = _HOST.unpack_from(program, offset + 4)
    address, own_port = (entry.src, entry.sport) if code == S_COND else (entry.dst, entry.dport)
    if port not in (-1, own_port):
        return False
    prefix = program[offset + 12 : offset + 12 + _ADDRESS[family]]
    if family not in (socket.AF_UNSPEC, entry.family):
        if entry.family == socket.AF_INET6 and family == socket.AF_INET:
            mapped = address[:12] == bytes(10) + b"\xff\xff"
            return mapped and _same(address[12:], prefix, prefix_length)
        return False
    return _same(address, prefix, prefix_length)


def _same(one: bytes, other: bytes, bits: int) -> bool:
    """bitstring_match: True if the first bits are equal."""
    if not bits:
        return True
    size = (bits + 7) // 8
    differing = int.from_bytes(one[:size], "big") ^ int.from_bytes(other[:size], "big")
    return not differing >> (size * 8 - bits)
