# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: other processes' descriptors: found, borrowed, disconnected.

pidfd_open(2) and pidfd_getfd(2), Linux 5.3 and 5.6. Borrowing takes the right to trace the process
(PTRACE_MODE_ATTACH_REALCREDS). What connect(2) does with AF_UNSPEC is in __inet_stream_connect and
inet_dgram_connect (net/ipv4/af_inet.c): it calls the protocol's disconnect.

System calls are made on the bare number: a socket.socket made of a borrowed descriptor would make
it non-blocking, for the owner too, wherever a default time-out is set.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import socket
import struct
import sys
from collections.abc import Collection
from typing import NamedTuple

from .processes import FdDirectory, link_of, process_numbers

# The same numbers on most architectures (include/uapi/asm-generic/unistd.h); on others, such as
# MIPS, they are no system calls at all, and pidfd_getfd is taken as missing.
_PIDFD_OPEN = 434
_PIDFD_GETFD = 438
_SO_PEERNAME = 28  # include/uapi/asm-generic/socket.h
_SO_COOKIE = 57
_TCP_INFO = 11  # include/uapi/linux/tcp.h; its first byte is tcpi_state
_COOKIE = struct.Struct("=Q")
_UNSPECIFIED = struct.pack("=H14x", socket.AF_UNSPEC)
# struct sockaddr_in and sockaddr_in6.
_IPV4_SIZE, _IPV6_SIZE = 16, 28


class End(NamedTuple):
    """One end of a connection; address: 16 bytes, an IPv4 one in the first four, as in Sock."""

    address: bytes
    port: int


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
        try:
            with FdDirectory(proc, pid) as opened:
                links = opened.numbered()
        except PermissionError:
            readable = False
            continue
        for number, link in links:
            inode = wanted.get(link)
            if inode is not None:
                found.setdefault(inode, []).append(Descriptor(pid, number))
    return Holders(found, readable)


def available() -> bool:
    """Whether this kernel has pidfd_getfd at all."""
    try:
        _call(_PIDFD_GETFD, -1, -1, 0)
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


class BorrowedFd:
    """A descriptor of one's own for another process's socket; a context manager that closes it.

    What can be asked of it raises OSError where it is no socket of that kind.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> BorrowedFd:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._number)

    def cookie(self) -> int:
        """The socket's cookie, by which socket diag names it too."""
        (cookie,) = _COOKIE.unpack(self._option(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE.size))
        return int(cookie)

    def tcp_state(self) -> int:
        """The state of a TCP socket, as the kernel numbers it."""
        return self._option(socket.IPPROTO_TCP, _TCP_INFO, 1)[0]

    def local(self) -> End:
        """The socket's own end."""
        buffer = ctypes.create_string_buffer(_IPV6_SIZE)
        size = ctypes.c_uint(len(buffer))
        _checked(_libc().getsockname(self._number, buffer, ctypes.byref(size)))
        return _end(buffer.raw[: size.value])

    def remote(self, family: int) -> End | None:
        """What the socket is connected to, or on the way to; None where there is nothing.

        SO_PEERNAME says it of a connection that is not answered yet too, and getpeername(2) does
        not (inet_getname).
        """
        size = _IPV4_SIZE if family == socket.AF_INET else _IPV6_SIZE
        try:
            return _end(self._option(socket.SOL_SOCKET, _SO_PEERNAME, size))
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return None
            raise

    def disconnect(self) -> int:
        """connect() to no address: a TCP peer gets a RST, and whoever waits on it an error.

        The errno, 0 for success; EBUSY while a thread waits on the socket, on some kernels.
        """
        if _libc().connect(self._number, _UNSPECIFIED, len(_UNSPECIFIED)) == 0:
            return 0
        return ctypes.get_errno()

    def _option(self, level: int, name: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        length = ctypes.c_uint(size)
        _checked(_libc().getsockopt(self._number, level, name, buffer, ctypes.byref(length)))
        return buffer.raw


def borrow_fd(descriptor: Descriptor) -> BorrowedFd:
    """What the other process's descriptor refers to at this moment.

    Raises OSError: ESRCH or EBADF where the process or the descriptor is gone, EPERM where the
    process may not be traced, ENOSYS before Linux 5.6.
    """
    process = _call(_PIDFD_OPEN, descriptor.pid, 0)
    try:
        return BorrowedFd(_call(_PIDFD_GETFD, process, descriptor.number, 0))
    finally:
        os.close(process)


def _end(address: bytes) -> End:
    port = int.from_bytes(address[2:4], "big")
    if int.from_bytes(address[:2], sys.byteorder) == socket.AF_INET:
        return End(address[4:8] + bytes(12), port)
    return End(address[8:24], port)


@functools.lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int) -> int:
    """A system call by its number. Raises OSError."""
    longs = [ctypes.c_long(each) for each in (number, *arguments)]
    return _checked(_libc().syscall(*longs))


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
