# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Who is at the other end of a unix socket: SO_PEERCRED and SO_PEERGROUPS (unix(7)).

The kernel recorded both when the peer called connect(2) or listen(2), so a peer cannot forge them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import socket
import struct
from typing import NamedTuple

# include/uapi/asm-generic/socket.h, since Linux 4.13; Python has no name for it.
SO_PEERGROUPS = 59
# struct ucred: pid_t, uid_t, gid_t.
_UCRED = struct.Struct("iII")
_GID_BYTES = 4
# NGROUPS_MAX of include/uapi/linux/limits.h.
_MAX_GROUPS = 65_536


class Peer(NamedTuple):
    """groups: the primary and all supplementary groups."""

    pid: int
    uid: int
    groups: frozenset[int]


def peer_of(connection: socket.socket) -> Peer:
    """The process that connected, or that listens. Raises OSError."""
    size = _UCRED.size
    pid, uid, gid = _UCRED.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return Peer(pid, uid, frozenset({gid, *_supplementary_groups(connection, uid, gid)}))


def _supplementary_groups(connection: socket.socket, uid: int, gid: int) -> list[int]:
    """The groups of the peer's process; those of its user where the kernel does not say."""
    try:
        return peer_groups(connection)
    except OSError as error:
        if error.errno not in (errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return []


def peer_groups(connection: socket.socket) -> list[int]:
    """The supplementary groups of the peer's process.

    Raises OSError: ENOPROTOOPT for a kernel without SO_PEERGROUPS.
    """
    # socket.getsockopt returns at most 1024 bytes, and a process may have 65,536 groups.
    libc = ctypes.CDLL(None, use_errno=True)
    capacity = 64
    while True:
        buffer = (ctypes.c_uint32 * capacity)()
        size = ctypes.c_uint32(capacity * _GID_BYTES)
        status = libc.getsockopt(
            connection.fileno(), socket.SOL_SOCKET, SO_PEERGROUPS, buffer, ctypes.byref(size)
        )
        if status == 0:
            return list(buffer[: size.value // _GID_BYTES])
        number = ctypes.get_errno()
        if number != errno.ERANGE or capacity >= _MAX_GROUPS:
            raise OSError(number, os.strerror(number))
        # The kernel wrote the size that it needs.
        capacity = min(max(size.value // _GID_BYTES, 2 * capacity), _MAX_GROUPS)
