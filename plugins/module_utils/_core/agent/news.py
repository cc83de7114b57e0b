# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what events say beyond "look again": that something came back.

Between two looks that both show a violation it may have been in order for a moment. Only the events
can tell; so it is read from them which addresses and links came, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import NamedTuple

from ..errors import MalformedMessage
from ..netlink import attributes
from ..netlink.links import IFF_LOWER_UP, IFF_UP

# include/uapi/linux/rtnetlink.h
_RTM_NEWLINK = 16
_RTM_NEWADDR = 20

_KIND = struct.Struct("=4xH10x")  # nlmsg_type of struct nlmsghdr
_LINK = struct.Struct("=4xiI4x")  # ifi_index and ifi_flags of struct ifinfomsg
_ADDRESS_SIZE = 8  # struct ifaddrmsg
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_UP = IFF_UP | IFF_LOWER_UP
# Which links are up is remembered of so many; beyond that each counts as new.
_MOST_LINKS = 4_096


class News(NamedTuple):
    """events: so many, at least. addresses: those that came, 4 or 16 bytes each. links: whether one
    came up. lost: whether there were more of those, of which nothing is known."""

    events: int = 0
    addresses: frozenset[bytes] = frozenset()
    links: bool = False
    lost: bool = False

    def __add__(self, other: object) -> News:
        if not isinstance(other, News):
            return NotImplemented
        return News(
            self.events + other.events,
            self.addresses | other.addresses,
            self.links or other.links,
            self.lost or other.lost,
        )

    def may_end(self, addresses: Collection[bytes]) -> bool:
        """Whether a violation may have been over for a moment of sockets with these addresses."""
        return self.lost or self.links or not self.addresses.isdisjoint(addresses)


class Reader:
    """Reads events as they come, one datagram each (rtnl_notify); keeps which links were up."""

    def __init__(self) -> None:
        self._up: dict[int, bool] = {}

    def read(self, datagram: bytes) -> News:
        """What one event says. It may be cut off behind its fixed part."""
        if len(datagram) < _KIND.size:
            return News(1)
        (kind,) = _KIND.unpack_from(datagram)
        body = datagram[_KIND.size :]
        if kind == _RTM_NEWLINK and len(body) >= _LINK.size:
            return News(1, links=self._came_up(body))
        if kind == _RTM_NEWADDR:
            return News(1, addresses=_addresses(body))
        return News(1)

    def _came_up(self, body: bytes) -> bool:
        index, flags = _LINK.unpack_from(body)
        up = flags & _UP == _UP
        before = self._up.get(index, False)
        if len(self._up) >= _MOST_LINKS:
            self._up.clear()
        self._up[index] = up
        return up and not before


def _addresses(body: bytes) -> frozenset[bytes]:
    try:
        found = attributes.parse(body[_ADDRESS_SIZE:])
    except MalformedMessage:
        return frozenset()
    return frozenset(found[each] for each in (_IFA_LOCAL, _IFA_ADDRESS) if each in found)
