# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: other processes' descriptors: found, borrowed, disconnected.

pidfd_open(2) and pidfd_getfd(2), Linux 5.6. Borrowing takes the right to trace the process
(PTRACE_MODE_ATTACH_REALCREDS). What connect(2) does with AF_UNSPEC is in __inet_stream_connect and
inet_dgram_connect (net/ipv4/af_inet.c): it calls the protocol's disconnect.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from .owners import link_of, process_numbers

# The same number on every architecture but alpha (include/uapi/asm-generic/unistd.h).
_PIDFD_GETFD = 438
_SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
_COOKIE = struct.Struct("=Q")
_GONE = frozenset({errno.ENOENT, errno.ESRCH})


class Descriptor(NamedTuple):
    """A descriptor number of a process, as it was when it was looked for."""

    pid: int
    number: int


class Holders(NamedTuple):
    """descriptors: by inode, those that referred to the socket. readable: False where the
    descriptors of at least one process could not be read."""

    descriptors: dict[int, list[Descriptor]]
    readable: bool


def find_descriptors(proc: str, inodes: Collection[int]) -> Holders:
    """The descriptors of all visible processes that refer to these sockets."""
    wanted = {link_of(inode): inode for inode in inodes if inode}
    found: dict[int, list[Descriptor]] = {}
    readable = True
    if not wanted:
        return Holders(found, readable)
    for pid in process_numbers(proc):
        directory = f"{proc}/{pid}/fd"
        try:
            names = os.listdir(directory)
        except OSError as error:
            readable = readable and error.errno in _GONE
            continue
        for name in names:
            with suppress(OSError):
                inode = wanted.get(os.readlink(f"{directory}/{name}"))
                if inode is not None:
                    found.setdefault(inode, []).append(Descriptor(pid, int(name)))
    return Holders(found, readable)


def available() -> bool:
    """Whether this kernel has pidfd_getfd at all."""
    return _getfd(-1, -1) != -errno.ENOSYS


class Borrowed:
    """A descriptor of one's own for another process's socket; a context manager that closes it."""

    def __init__(self, borrowed: socket.socket) -> None:
        self._socket = borrowed

    def __enter__(self) -> Borrowed:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def cookie(self) -> int:
        """The socket's cookie, by which socket diag names it too. Raises OSError."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE.size)
        (cookie,) = _COOKIE.unpack(raw)
        return int(cookie)

    def remote_port(self) -> int | None:
        """The port that the socket is connected to; None where it is not."""
        try:
            name = self._socket.getpeername()
        except OSError:
            return None
        return int(name[1])

    def disconnect(self) -> int:
        """connect() to no address: a TCP peer gets a RST, and whoever holds the socket an error.

        The errno, 0 for success; EBUSY while a thread waits on the socket, on some kernels.
        """
        address = struct.pack("=H14x", socket.AF_UNSPEC)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.connect(self._socket.fileno(), address, len(address)) == 0:
            return 0
        return ctypes.get_errno()


def borrow(descriptor: Descriptor) -> Borrowed:
    """What the other process's descriptor refers to at this moment.

    Raises OSError: ESRCH or EBADF where the process or the descriptor is gone, ENOTSOCK where it
    is no socket any more, EPERM where the process may not be traced, ENOSYS before Linux 5.6.
    """
    process = os.pidfd_open(descriptor.pid)
    try:
        number = _getfd(process, descriptor.number)
    finally:
        os.close(process)
    if number < 0:
        raise OSError(-number, os.strerror(-number))
    try:
        return Borrowed(socket.socket(fileno=number))
    except OSError:
        os.close(number)
        raise


def _getfd(process: int, number: int) -> int:
    """A new descriptor, or an errno as a negative number."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    answer = libc.syscall(
        ctypes.c_long(_PIDFD_GETFD), ctypes.c_int(process), ctypes.c_int(number), ctypes.c_uint(0)
    )
    return int(answer) if answer >= 0 else -ctypes.get_errno()
