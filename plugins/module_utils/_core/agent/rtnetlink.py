# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what wakes the agent: rtnetlink events, by pyroute2."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from ..errors import PackageMissing
from ..sockets.needs import RTNETLINK_GROUPS, Need
from .news import News, Reader

# Those of which there may be storms have a socket of their own: what the others tell is not lost
# along with them.
_STORMY = frozenset({Need.ROUTES})

# An event says hardly more than "look again", so few of them need room. A storm overflows the
# buffer, which is an event too (ENOBUFS), and reading what is left of it takes no time.
_SOCKET_BUFFER = 16 * 1024
_RECEIVE_BUFFER = 4 * 1024
_NETLINK_LISTEN_ALL_NSID = 8  # include/uapi/linux/netlink.h


def load() -> None:
    """Bring pyroute2 into memory, where there is one: it takes longer than many looks."""
    with suppress(ImportError):
        from pyroute2.netlink.rtnl import iprsocket  # noqa: F401


class NetlinkEvents:
    """Becomes readable when one of the facts may have changed.

    facts: keys of RTNETLINK_GROUPS. foreign: hear of the network namespaces too that have an id in
    this one (ip-netns(8), set), without holding anything open in them; and of mounts, by which
    namespaces get names and lose them. What is true is asked of the kernel, and not read from the
    events: a lost one costs nothing but time.
    Raises PackageMissing, and OSError.
    """

    def __init__(self, facts: Collection[Need], *, foreign: bool = False) -> None:
        self._buffer = bytearray(_RECEIVE_BUFFER)
        self._reader = Reader()
        self._calm = self._stormy = None
        self._descriptors = _Descriptors()
        try:
            calm, stormy = set(facts) - _STORMY, _STORMY.intersection(facts)
            # At least one socket, since with `foreign` it may be that it hears of mounts alone.
            if calm or not stormy:
                self._calm = _Groups(calm, foreign=foreign)
                self._descriptors.add(self._calm.raw, select.EPOLLIN)
            if stormy:
                self._stormy = _Groups(stormy, foreign=foreign)
                self._descriptors.add(self._stormy.raw, select.EPOLLIN)
            if foreign:
                self._descriptors.add_mounts()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._descriptors.fileno()

    def drain(self) -> News:
        """Take what has come. Raises OSError."""
        news = News()
        if self._calm is not None:
            news = self._taken(self._calm)
        if self._stormy is not None:
            # What is lost of these ends no violation.
            news += self._taken(self._stormy)._replace(lost=False)
        return news

    def _taken(self, groups: _Groups) -> News:
        news = News()
        while True:
            try:
                size = groups.raw.recv_into(self._buffer)
                news += self._reader.read(bytes(self._buffer[:size]))
            except BlockingIOError:
                return news
            except OSError as error:
                # More came than there was room for. What did fit can still be read.
                if error.errno != errno.ENOBUFS:
                    raise
                news += News(1, lost=True)

    def close(self) -> None:
        self._descriptors.close()
        for groups in (self._calm, self._stormy):
            if groups is not None:
                groups.close()


class _Groups:
    """A socket that hears of some kinds of facts. Raises PackageMissing, and OSError."""

    def __init__(self, facts: Collection[Need], *, foreign: bool) -> None:
        try:
            from pyroute2.netlink import rtnl
            from pyroute2.netlink.rtnl.iprsocket import IPRSocket
        except ImportError as error:
            raise PackageMissing(
                "pyroute2", "hears of changes of the network", str(error)
            ) from None
        groups = 0
        for fact in facts:
            for name in RTNETLINK_GROUPS[fact]:
                groups |= getattr(rtnl, name)
        self._socket = IPRSocket(all_ns=foreign)
        try:
            self._socket.bind(groups=groups)
            self.raw = socket.socket(fileno=os.dup(self._socket.fileno()))
        except BaseException:
            self._socket.close()
            raise
        self.raw.setblocking(False)
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)

    def close(self) -> None:
        self.raw.close()
        self._socket.close()


class _Descriptors:
    """Readable where one of several descriptors is."""

    def __init__(self) -> None:
        self._table: Any = None
        self._all = select.epoll()

    def add(self, descriptor: Any, events: int) -> None:
        self._all.register(descriptor, events)

    def add_mounts(self) -> None:
        """Readable too when the table of mounts has changed since it was asked for last
        (proc_pid_mounts(5)), if there is such a table."""
        with suppress(OSError):
            self._table = open("/proc/self/mountinfo", "rb", buffering=0)  # noqa: SIM115 - closed below
            self.add(self._table, select.EPOLLPRI)

    def fileno(self) -> int:
        return self._all.fileno()

    def close(self) -> None:
        self._all.close()
        if self._table is not None:
            self._table.close()
