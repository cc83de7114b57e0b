# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Descriptors of other processes: find, borrow and disconnect them.

    with borrow_fd(Descriptor(pid=4711, number=9)) as borrowed:
        borrowed.disconnect()

pidfd_open(2) needs Linux 5.3, pidfd_getfd(2) Linux 5.6. Borrowing requires the permission to trace
the process (PTRACE_MODE_ATTACH_REALCREDS). connect(2) with AF_UNSPEC calls the protocol's
disconnect: __inet_stream_connect and inet_dgram_connect (net/ipv4/af_inet.c).

System calls use the descriptor number. A socket.socket of a borrowed descriptor would make the
socket non-blocking if a default timeout is set, for its owner too.
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

from .proc_visibility import hidden_processes_reason
from .processes import FdDirectory, descriptors_of_threads, link_of, process_numbers

# The same numbers on most architectures (include/uapi/asm-generic/unistd.h). On others, such as
# MIPS, they are not system calls, so pidfd_getfd counts as missing.
_PIDFD_OPEN = 434
_PIDFD_GETFD = 438
_PIDFD_THREAD = os.O_EXCL  # include/uapi/linux/pidfd.h
_SO_PEERNAME = 28  # include/uapi/asm-generic/socket.h
_SO_COOKIE = 57
_TCP_INFO = 11  # include/uapi/linux/tcp.h; its first byte is tcpi_state
_COOKIE = struct.Struct("=Q")
_UNSPECIFIED = struct.pack("=H14x", socket.AF_UNSPEC)
# struct sockaddr_in and sockaddr_in6.
_IPV4_SIZE, _IPV6_SIZE = 16, 28


class End(NamedTuple):
    """An end of a connection. address: 16 bytes, IPv4 in the first four, as in DiagMessage."""

    address: bytes
    port: int


class Descriptor(NamedTuple):
    """A descriptor of a process. It may have been closed or reused since it was found.

    thread: pid is that of a thread, since the main thread does not have the descriptor.
    """

    pid: int
    number: int
    thread: bool = False


class Holders(NamedTuple):
    """The descriptors of sockets, by inode.

    readable: False if at least one process may be hidden, or its descriptors were unreadable.
    """

    descriptors: dict[int, list[Descriptor]]
    readable: bool


def find_descriptors(proc: str, inodes: Collection[int]) -> Holders:
    """Find the descriptors of these sockets in all visible processes."""
    targets = {link_of(inode): inode for inode in inodes if inode}
    found: dict[int, list[Descriptor]] = {}
    readable = True
    if not targets:
        return Holders(found, readable)
    for pid in process_numbers(proc):
        try:
            with FdDirectory(proc, pid) as directory:
                links = directory.numbered()
                thread = directory.thread
        except PermissionError:
            readable = False
            continue
        for number, link in links:
            inode = targets.get(link)
            if inode is not None:
                found.setdefault(inode, []).append(
                    Descriptor(pid, number) if thread is None else Descriptor(thread, number, True)
                )
    left = {link for link, inode in targets.items() if inode not in found}
    if left:
        for _pid, thread_id, number, link in descriptors_of_threads(proc, left):
            found.setdefault(targets[link], []).append(Descriptor(thread_id, number, True))
        readable = readable and hidden_processes_reason(proc) is None
    return Holders(found, readable)


def available() -> bool:
    """True if this kernel has pidfd_getfd."""
    try:
        _call(_PIDFD_GETFD, -1, -1, 0)
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


class BorrowedFd:
    """A duplicate of another process's descriptor; a context manager that closes it.

    Its methods raise OSError if the descriptor is not a socket of the right type.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> BorrowedFd:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._number)

    def cookie(self) -> int:
        """The socket's cookie (SO_COOKIE), the same as in socket diag."""
        (cookie,) = _COOKIE.unpack(self._option(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE.size))
        return int(cookie)

    def tcp_state(self) -> int:
        """The state of a TCP socket, a number of constants.STATES."""
        return self._option(socket.IPPROTO_TCP, _TCP_INFO, 1)[0]

    def local(self) -> End:
        """The local end of the socket."""
        buffer = ctypes.create_string_buffer(_IPV6_SIZE)
        size = ctypes.c_uint(len(buffer))
        _checked(_libc().getsockname(self._number, buffer, ctypes.byref(size)))
        return _end(buffer.raw[: size.value])

    def remote(self, family: int) -> End | None:
        """The remote end of a connected or connecting socket; None: none.

        Unlike getpeername(2), SO_PEERNAME also works in SYN_SENT (inet_getname).
        """
        size = _IPV4_SIZE if family == socket.AF_INET else _IPV6_SIZE
        try:
            return _end(self._option(socket.SOL_SOCKET, _SO_PEERNAME, size))
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return None
            raise

    def disconnect(self) -> int:
        """Disconnect with connect(2) to AF_UNSPEC: a TCP peer receives a RST, readers an error.

        Returns the errno; 0: success; EBUSY on some kernels while a thread waits on the socket.
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
    """Duplicate another process's descriptor.

    Raises OSError: ESRCH or EBADF if the process has ended or the descriptor is closed, EPERM
    without permission to trace the process, ENOSYS before Linux 5.6; EINVAL for the descriptor of
    a thread before Linux 6.9.
    """
    process = _call(_PIDFD_OPEN, descriptor.pid, _PIDFD_THREAD if descriptor.thread else 0)
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
    """Make a system call by its number. Raises OSError."""
    longs = [ctypes.c_long(value) for value in (number, *arguments)]
    return _checked(_libc().syscall(*longs))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
