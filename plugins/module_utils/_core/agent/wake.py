# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what wakes the agent: rtnetlink events, by pyroute2."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress

from ..errors import PackageMissing

# The groups that tell of a change of each kind of fact (include/uapi/linux/rtnetlink.h; pyroute2
# calls them by these names in each of its versions).
GROUPS: dict[str, tuple[str, ...]] = {
    "links": ("RTMGRP_LINK",),
    "addresses": ("RTMGRP_IPV4_IFADDR", "RTMGRP_IPV6_IFADDR"),
    "routes": ("RTMGRP_IPV4_ROUTE", "RTMGRP_IPV6_ROUTE"),
    "rules": ("RTMGRP_IPV4_RULE", "RTMGRP_IPV6_RULE"),
}

# An event says no more than "look again", so few of them need room. A storm overflows the buffer,
# which is an event too (ENOBUFS), and reading what is left of it takes no time.
_SOCKET_BUFFER = 16 * 1024
_RECEIVE_BUFFER = 4 * 1024
_NETLINK_LISTEN_ALL_NSID = 8  # include/uapi/linux/netlink.h


def load() -> None:
    """Bring pyroute2 into memory, where there is one: it takes longer than many looks."""
    with suppress(ImportError):
        from pyroute2.netlink.rtnl import iprsocket  # noqa: F401


class NetlinkEvents:
    """Becomes readable when one of the facts may have changed.

    facts: keys of GROUPS. foreign: hear of the network namespaces too that have an id in this one
    (ip-netns(8), set), without holding anything open in them; and of mounts, by which namespaces
    get names and lose them. The events are not decoded: what is true is asked of the kernel, and a
    lost event costs nothing.
    Raises PackageMissing, and OSError.
    """

    def __init__(self, facts: Collection[str], *, foreign: bool = False) -> None:
        try:
            from pyroute2.netlink import rtnl
            from pyroute2.netlink.rtnl.iprsocket import IPRSocket
        except ImportError as error:
            raise PackageMissing(
                "pyroute2", "hears of changes of the network", str(error)
            ) from None
        groups = 0
        for fact in facts:
            for name in GROUPS[fact]:
                groups |= getattr(rtnl, name)
        self._socket = IPRSocket(all_ns=foreign)
        try:
            self._socket.bind(groups=groups)
            self._raw = socket.socket(fileno=os.dup(self._socket.fileno()))
        except BaseException:
            self._socket.close()
            raise
        self._raw.setblocking(False)
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        self._buffer = bytearray(_RECEIVE_BUFFER)
        self._mounts = _Mounts(self._raw) if foreign else None

    def fileno(self) -> int:
        return self._raw.fileno() if self._mounts is None else self._mounts.fileno()

    def drain(self) -> int:
        """Take what has come; how many events there were at least. Raises OSError."""
        return sum(1 for _event in self._waiting())

    def _waiting(self) -> Iterator[None]:
        while True:
            try:
                self._raw.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                # More came than there was room for. What did fit can still be read.
                if error.errno != errno.ENOBUFS:
                    raise
            yield

    def close(self) -> None:
        if self._mounts is not None:
            self._mounts.close()
        self._raw.close()
        self._socket.close()


class _Mounts:
    """Readable where another descriptor is, or the table of mounts has changed since it was asked
    for last (proc_pid_mounts(5)). Without such a table the other one is all there is."""

    def __init__(self, other: socket.socket) -> None:
        self._table = None
        self._both = select.epoll()
        self._both.register(other, select.EPOLLIN)
        with suppress(OSError):
            self._table = open("/proc/self/mountinfo", "rb", buffering=0)  # noqa: SIM115 - closed below
            self._both.register(self._table, select.EPOLLPRI)

    def fileno(self) -> int:
        return self._both.fileno()

    def close(self) -> None:
        self._both.close()
        if self._table is not None:
            self._table.close()
