# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Parses rtnetlink events into the changes of each network namespace.

An event triggers a new snapshot. In addition, the agent reads from it which addresses and links
appeared: a socket that violates a rule in two snapshots may have complied with it in between, and
only the events show that.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Optional

from .. import text
from ..errors import MalformedMessage
from ..netlink import attributes
from ..netlink.links import IFF_LOWER_UP, IFF_UP
from ..policy.doubt import NO_CHANGES, NetworkChanges

# include/uapi/linux/rtnetlink.h
_RTM_NEWLINK = 16
_RTM_NEWADDR = 20
_RTM_DELADDR = 21

_HEADER = struct.Struct("=4xH10x")  # nlmsg_type of struct nlmsghdr
_LINK = struct.Struct("=4xiI4x")  # ifi_index and ifi_flags of struct ifinfomsg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_ADDRESS_SIZE = 8  # struct ifaddrmsg
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFLA_IFNAME = 3
_IFLA_PROP_LIST = 52
_IFLA_ALT_IFNAME = 53
_UP = IFF_UP | IFF_LOWER_UP

# The id of a namespace in that of the agent (ip-netns(8)); None: the agent's own namespace.
Nsid = Optional[int]
OWN: Nsid = None


@dataclass
class EventBatch:
    """Events received between two reads.

    events: their number, at least. changes: by namespace, for each with an event. others_overflow:
    events of other namespaces were lost; others_lost: events of links or addresses among them.
    mounts: the mount table changed.
    """

    events: int = 0
    changes: dict[Nsid, NetworkChanges] = field(default_factory=dict)
    others_overflow: bool = False
    others_lost: bool = False
    mounts: bool = False

    def add(self, nsid: Nsid, changes: NetworkChanges = NO_CHANGES) -> None:
        """Add an event of a namespace."""
        self.events += 1
        before = self.changes.get(nsid)
        if before is None:
            self.changes[nsid] = changes
        elif changes is not NO_CHANGES:
            self.changes[nsid] = before + changes

    def merge(self, other: EventBatch) -> None:
        """Add the events of another batch."""
        events = self.events + other.events
        for nsid, changes in other.changes.items():
            self.add(nsid, changes)
        self.events = events
        self.others_overflow = self.others_overflow or other.others_overflow
        self.others_lost = self.others_lost or other.others_lost
        self.mounts = self.mounts or other.mounts


def parse_event(datagram: bytes) -> NetworkChanges:
    """Parse one event, one datagram each (rtnl_notify). It may be truncated."""
    if len(datagram) < _HEADER.size:
        return NO_CHANGES
    (message_type,) = _HEADER.unpack_from(datagram)
    body = datagram[_HEADER.size :]
    if message_type == _RTM_NEWLINK and len(body) >= _LINK.size:
        return _link(body)
    if message_type == _RTM_NEWADDR:
        return NetworkChanges(addresses_added=_addresses(body))
    if message_type == _RTM_DELADDR:
        return NetworkChanges(addresses_removed=_addresses(body))
    return NO_CHANGES


def _link(body: bytes) -> NetworkChanges:
    index, flags = _LINK.unpack_from(body)
    if flags & _UP != _UP:
        return NetworkChanges(links_down=frozenset({index}))
    names = frozenset((index, name) for name in _names(body[_LINK.size :]))
    return NetworkChanges(links_up=frozenset({index}), names=names)


def _names(raw: bytes) -> list[str]:
    """The names of a link. Of a truncated event the primary one, which is the first attribute
    (rtnl_fill_ifinfo)."""
    try:
        found = attributes.parse(raw)
        names = attributes.parse_list(found.get(_IFLA_PROP_LIST, b""), _IFLA_ALT_IFNAME)
        names.append(found.get(_IFLA_IFNAME, b""))
    except MalformedMessage:
        size, kind = _ATTRIBUTE.unpack_from(raw) if len(raw) >= _ATTRIBUTE.size else (0, 0)
        names = [raw[_ATTRIBUTE.size : size]] if kind == _IFLA_IFNAME else []
    return [text.decode(name.rstrip(b"\0")) for name in names if name]


def _addresses(body: bytes) -> frozenset[bytes]:
    try:
        found = attributes.parse(body[_ADDRESS_SIZE:])
    except MalformedMessage:
        return frozenset()
    return frozenset(found[each] for each in (_IFA_LOCAL, _IFA_ADDRESS) if each in found)
