# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program for which the kernel refuses system calls (seccomp(2)).

    python deny_syscalls.py bind PROGRAM ARGUMENT...
    python deny_syscalls.py datagram-netlink PROGRAM ARGUMENT...

bind: bind(2) of every socket is EPERM. datagram-netlink: socket(2) for netlink with SOCK_DGRAM, as
pyroute2 opens it, is EPERM; the collection's own netlink sockets have SOCK_RAW.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

# socket(2) and bind(2) by architecture.
NUMBERS = {"x86_64": (41, 49), "aarch64": (198, 200), "riscv64": (198, 200)}
SUPPORTED = platform.machine() in NUMBERS

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_DENY = 0x00050000 | errno.EPERM
# BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K.
_LOAD, _JUMP_EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
# Offsets in struct seccomp_data: nr and the low halves of the arguments (little-endian).
_NR, _FIRST, _SECOND = 0, 16, 24
_AF_NETLINK, _SOCK_DGRAM, _TYPE_MASK = 16, 2, 0xF


def _program(kind: str) -> list[tuple[int, int, int, int]]:
    socket_number, bind_number = NUMBERS[platform.machine()]
    if kind == "bind":
        return [
            (_LOAD, 0, 0, _NR),
            (_JUMP_EQUAL, 0, 1, bind_number),
            (_RETURN, 0, 0, _DENY),
            (_RETURN, 0, 0, _ALLOW),
        ]
    return [
        (_LOAD, 0, 0, _NR),
        (_JUMP_EQUAL, 0, 6, socket_number),
        (_LOAD, 0, 0, _FIRST),
        (_JUMP_EQUAL, 0, 4, _AF_NETLINK),
        (_LOAD, 0, 0, _SECOND),
        (_AND, 0, 0, _TYPE_MASK),
        (_JUMP_EQUAL, 0, 1, _SOCK_DGRAM),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ]


def deny(kind: str) -> None:
    """Install the filter in this process, for good. Raises OSError."""
    instructions = b"".join(struct.pack("=HBBI", *each) for each in _program(kind))
    code = ctypes.create_string_buffer(instructions, len(instructions))
    # struct sock_fprog: the number of instructions and their address.
    program = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(code))
    buffer = ctypes.create_string_buffer(program, len(program))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(buffer), 0, 0),
    ):
        if libc.prctl(*map(ctypes.c_ulong, arguments)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    deny(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
