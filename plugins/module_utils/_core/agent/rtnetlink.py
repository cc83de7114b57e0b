# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Rtnetlink multicast events, received with pyroute2."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Collection
from contextlib import suppress

from ..errors import PackageMissing, errors_of_library
from ..policy.doubt import NO_CHANGES, NetworkChanges
from ..sockets.needs import RTNETLINK_GROUPS, Need
from .network_events import OWN, EventBatch, Nsid, parse_event

# Facts that can change thousands of times a second. They have a socket of their own, so that their
# overflow does not drop events of the other facts.
_FREQUENT = frozenset({Need.ROUTES})

# Small, because an event of a frequent fact only triggers a snapshot. An overflow (ENOBUFS) is an
# event too, and a small backlog is quick to read.
_FREQUENT_BUFFER = 16 * 1024
# A lost event of another fact restarts holds, and one pass may last longer than a burst of events,
# as when many containers start.
_RARE_BUFFER = 1024 * 1024
_RECEIVE_BUFFER = 4 * 1024
# How many events of a socket are read at once. Senders may be faster than the agent.
_MAX_EVENTS = 4_096
# include/uapi/asm-generic/socket.h; the same on all architectures but parisc and sparc.
_SO_RCVBUFFORCE = 33

# include/linux/socket.h and include/uapi/linux/netlink.h: the control message with the nsid.
_SOL_NETLINK = 270
_NETLINK_LISTEN_ALL_NSID = 8
_NSID = struct.Struct("=i")
_CONTROL_BUFFER = socket.CMSG_SPACE(_NSID.size)


def preload() -> None:
    """Import pyroute2, if it is installed. That takes longer than many reconcile passes."""
    with suppress(Exception):
        from pyroute2.netlink.rtnl import iprsocket  # noqa: F401


class RtnetlinkListener:
    """Becomes readable when one of the facts may have changed.

    facts: keys of RTNETLINK_GROUPS. all_namespaces: also receive events of the network namespaces
    that have an id in this one (ip-netns(8), set). They have sockets of their own, so that a flood
    there does not drop events of this namespace. Keeps nothing open in these namespaces. The agent
    reads the facts from the kernel and not from the events, so a lost event only costs time.
    Raises PackageMissing, LibraryFailed and OSError.
    """

    def __init__(self, facts: Collection[Need], *, all_namespaces: bool = False) -> None:
        self._buffer = bytearray(_RECEIVE_BUFFER)
        self._sources: list[_MulticastSocket] = []
        self._epoll = select.epoll()
        try:
            for others in (False, True)[: 1 + all_namespaces]:
                for group in (set(facts) - _FREQUENT, _FREQUENT.intersection(facts)):
                    # Without facts one socket shows that pyroute2 works.
                    if group or not (facts or others or self._sources):
                        self._add(_MulticastSocket(group, all_namespaces=others))
        except BaseException:
            self.close()
            raise

    def _add(self, source: _MulticastSocket) -> None:
        self._sources.append(source)
        self._epoll.register(source.raw, select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def drain(self) -> EventBatch:
        """Read pending events. Raises OSError."""
        batch = EventBatch()
        for source in self._sources:
            self._read(source, batch)
        return batch

    def _read(self, source: _MulticastSocket, batch: EventBatch) -> None:
        for _event in range(_MAX_EVENTS):
            try:
                size, nsid = source.receive(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                # On ENOBUFS the events before the overflow are still readable.
                if error.errno != errno.ENOBUFS:
                    raise
                _add_overflow(source, batch)
                continue
            if nsid is OWN and source.all_namespaces:
                # The other sockets receive it too.
                continue
            if source.frequent:
                # A route event cannot show that a violation ended.
                batch.add(nsid)
            else:
                batch.add(nsid, parse_event(bytes(self._buffer[:size])))
        # A flood: the rest is read later, and counts as lost.
        _add_overflow(source, batch)

    def close(self) -> None:
        self._epoll.close()
        for source in self._sources:
            source.close()


def _add_overflow(source: _MulticastSocket, batch: EventBatch) -> None:
    if source.all_namespaces:
        batch.events += 1
        batch.others_overflow = True
        batch.others_lost = batch.others_lost or not source.frequent
    else:
        batch.add(OWN, NO_CHANGES if source.frequent else NetworkChanges(lost=True))


class _MulticastSocket:
    """An rtnetlink socket in the groups of some facts.

    Raises PackageMissing, LibraryFailed and OSError.
    """

    def __init__(self, facts: Collection[Need], *, all_namespaces: bool) -> None:
        self.all_namespaces = all_namespaces
        self.frequent = not _FREQUENT.isdisjoint(facts)
        try:
            from pyroute2.netlink import rtnl
            from pyroute2.netlink.rtnl.iprsocket import IPRSocket
        # A broken installation raises other exceptions than ImportError.
        except Exception as error:  # noqa: BLE001
            raise PackageMissing(
                "pyroute2",
                "receives events of network changes",
                "Without it, the agent does not react to changes at once, but only at the next "
                "resync (--resync)",
                str(error),
            ) from None
        with errors_of_library("pyroute2", "open an rtnetlink socket"):
            groups = 0
            for fact in facts:
                for name in RTNETLINK_GROUPS[fact]:
                    groups |= getattr(rtnl, name)
            self._socket = IPRSocket(all_ns=all_namespaces)
            try:
                self._socket.bind(groups=groups)
                self.raw = socket.socket(fileno=os.dup(self._socket.fileno()))
            except BaseException:
                self._close_library()
                raise
        try:
            self.raw.setblocking(False)
            _set_buffer(self.raw, _FREQUENT_BUFFER if self.frequent else _RARE_BUFFER)
        except OSError:
            self.close()
            raise

    def receive(self, buffer: bytearray) -> tuple[int, Nsid]:
        """Receive one event; return its size and the id of its namespace. Raises OSError."""
        if not self.all_namespaces:
            return self.raw.recv_into(buffer), OWN
        size, control, _flags, _address = self.raw.recvmsg_into([buffer], _CONTROL_BUFFER)
        for level, kind, value in control:
            if (level, kind) == (_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID):
                (nsid,) = _NSID.unpack_from(value)
                return size, int(nsid)
        return size, OWN

    def close(self) -> None:
        self.raw.close()
        self._close_library()

    def _close_library(self) -> None:
        # Nothing can be done about an error, and it must not hide an earlier one.
        with suppress(Exception):
            self._socket.close()


def _set_buffer(sock: socket.socket, size: int) -> None:
    """Set the receive buffer, beyond net.core.rmem_max if the process may."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
