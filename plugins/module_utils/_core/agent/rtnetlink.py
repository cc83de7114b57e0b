# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Rtnetlink multicast events, received with pyroute2.

An event triggers a new snapshot. In addition, the agent reads from it which addresses and links
appeared: a socket that violates a rule in two snapshots may have complied with it in between, and
only the events show that.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from typing import Any, NamedTuple

from ..errors import MalformedMessage, PackageMissing
from ..netlink import attributes
from ..netlink.links import IFF_LOWER_UP, IFF_UP
from ..sockets.needs import RTNETLINK_GROUPS, Need

# Facts that can change thousands of times a second. They have a socket of their own, so that their
# overflow does not drop events of the other facts.
_FREQUENT = frozenset({Need.ROUTES})

# Small, because an event mainly triggers a snapshot. An overflow (ENOBUFS) is an event too, and a
# small backlog is quick to read.
_SOCKET_BUFFER = 16 * 1024
_RECEIVE_BUFFER = 4 * 1024

# include/uapi/linux/rtnetlink.h
_RTM_NEWLINK = 16
_RTM_NEWADDR = 20

_HEADER = struct.Struct("=4xH10x")  # nlmsg_type of struct nlmsghdr
_LINK = struct.Struct("=4xiI4x")  # ifi_index and ifi_flags of struct ifinfomsg
_ADDRESS_SIZE = 8  # struct ifaddrmsg
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_UP = IFF_UP | IFF_LOWER_UP
# How many links to track. Above it, every event of a link that is up counts as "came up".
_MAX_LINKS = 4_096


def preload() -> None:
    """Import pyroute2, if it is installed. That takes longer than many reconcile passes."""
    with suppress(ImportError):
        from pyroute2.netlink.rtnl import iprsocket  # noqa: F401


class EventBatch(NamedTuple):
    """Events received between two reads.

    events: their number, at least. addresses_added: 4 or 16 bytes each. link_up: a link came up.
    overflow: the kernel dropped events.
    """

    events: int = 0
    addresses_added: frozenset[bytes] = frozenset()
    link_up: bool = False
    overflow: bool = False

    def __add__(self, other: object) -> EventBatch:
        if not isinstance(other, EventBatch):
            return NotImplemented
        return EventBatch(
            self.events + other.events,
            self.addresses_added | other.addresses_added,
            self.link_up or other.link_up,
            self.overflow or other.overflow,
        )

    def may_have_healed(self, addresses: Collection[bytes]) -> bool:
        """Return whether a violation by a socket with one of these addresses may have ended
        for a moment."""
        return self.overflow or self.link_up or not self.addresses_added.isdisjoint(addresses)


class EventParser:
    """Parses events, one datagram each (rtnl_notify). Tracks which links are up."""

    def __init__(self) -> None:
        self._up: dict[int, bool] = {}

    def parse(self, datagram: bytes) -> EventBatch:
        """Parse one event. It may be truncated after its fixed part."""
        if len(datagram) < _HEADER.size:
            return EventBatch(1)
        (message_type,) = _HEADER.unpack_from(datagram)
        body = datagram[_HEADER.size :]
        if message_type == _RTM_NEWLINK and len(body) >= _LINK.size:
            return EventBatch(1, link_up=self._came_up(body))
        if message_type == _RTM_NEWADDR:
            return EventBatch(1, addresses_added=_addresses(body))
        return EventBatch(1)

    def _came_up(self, body: bytes) -> bool:
        index, flags = _LINK.unpack_from(body)
        up = flags & _UP == _UP
        before = self._up.get(index, False)
        if len(self._up) >= _MAX_LINKS:
            self._up.clear()
        self._up[index] = up
        return up and not before


def _addresses(body: bytes) -> frozenset[bytes]:
    try:
        found = attributes.parse(body[_ADDRESS_SIZE:])
    except MalformedMessage:
        return frozenset()
    return frozenset(found[each] for each in (_IFA_LOCAL, _IFA_ADDRESS) if each in found)


class RtnetlinkListener:
    """Becomes readable when one of the facts may have changed.

    facts: keys of RTNETLINK_GROUPS. all_namespaces: also receive events of the network namespaces
    that have an id in this one (ip-netns(8), set), and of mounts, which name and unname namespaces.
    Keeps nothing open in these namespaces. The agent reads the facts from the kernel and not from
    the events, so a lost event only costs time.
    Raises PackageMissing and OSError.
    """

    def __init__(self, facts: Collection[Need], *, all_namespaces: bool = False) -> None:
        self._buffer = bytearray(_RECEIVE_BUFFER)
        self._parser = EventParser()
        self._rare = self._frequent = None
        self._descriptors = _DescriptorSet()
        try:
            rare, frequent = set(facts) - _FREQUENT, _FREQUENT.intersection(facts)
            # With all_namespaces the facts may be empty and mounts the only source.
            if rare or not frequent:
                self._rare = _MulticastSocket(rare, all_namespaces=all_namespaces)
                self._descriptors.add(self._rare.raw, select.EPOLLIN)
            if frequent:
                self._frequent = _MulticastSocket(frequent, all_namespaces=all_namespaces)
                self._descriptors.add(self._frequent.raw, select.EPOLLIN)
            if all_namespaces:
                self._descriptors.add_mounts()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._descriptors.fileno()

    def drain(self) -> EventBatch:
        """Read all pending events. Raises OSError."""
        batch = EventBatch()
        if self._rare is not None:
            batch = self._read(self._rare)
        if self._frequent is not None:
            # A lost route event cannot hide that a violation ended.
            batch += self._read(self._frequent)._replace(overflow=False)
        return batch

    def _read(self, source: _MulticastSocket) -> EventBatch:
        batch = EventBatch()
        while True:
            try:
                size = source.raw.recv_into(self._buffer)
                batch += self._parser.parse(bytes(self._buffer[:size]))
            except BlockingIOError:
                return batch
            except OSError as error:
                # On ENOBUFS the events before the overflow are still readable.
                if error.errno != errno.ENOBUFS:
                    raise
                batch += EventBatch(1, overflow=True)

    def close(self) -> None:
        self._descriptors.close()
        for source in (self._rare, self._frequent):
            if source is not None:
                source.close()


class _MulticastSocket:
    """An rtnetlink socket in the groups of some facts. Raises PackageMissing and OSError."""

    def __init__(self, facts: Collection[Need], *, all_namespaces: bool) -> None:
        try:
            from pyroute2.netlink import rtnl
            from pyroute2.netlink.rtnl.iprsocket import IPRSocket
        except ImportError as error:
            raise PackageMissing(
                "pyroute2", "receives events of network changes", str(error)
            ) from None
        groups = 0
        for fact in facts:
            for name in RTNETLINK_GROUPS[fact]:
                groups |= getattr(rtnl, name)
        self._socket = IPRSocket(all_ns=all_namespaces)
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


class _DescriptorSet:
    """An epoll descriptor over several sources."""

    def __init__(self) -> None:
        self._mounts: Any = None
        self._epoll = select.epoll()

    def add(self, descriptor: Any, events: int) -> None:
        self._epoll.register(descriptor, events)

    def add_mounts(self) -> None:
        """Add changes of the mount table (proc_pid_mounts(5)), if it can be opened."""
        with suppress(OSError):
            self._mounts = open("/proc/self/mountinfo", "rb", buffering=0)  # noqa: SIM115 - closed below
            self.add(self._mounts, select.EPOLLPRI)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()
        if self._mounts is not None:
            self._mounts.close()
