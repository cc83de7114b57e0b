# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel answers on NETLINK_ROUTE to dumps of links and addresses.

Layouts of include/uapi/linux/rtnetlink.h, if_link.h and if_addr.h; what comes in which attribute
is that of inet_fill_ifaddr (net/ipv4/devinet.c) and inet6_fill_ifaddr (net/ipv6/addrconf.c).
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from .model import FakeAddress, FakeLink, FakeNamespace
from .records import attribute

NEWLINK, GETLINK = 16, 18
NEWADDR, GETADDR = 20, 22
_IFLA_IFNAME, _IFLA_MTU, _IFLA_OPERSTATE, _IFLA_CARRIER = 3, 4, 16, 33
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 3, 6, 8


def dump(namespace: FakeNamespace, kind: int, payload: bytes) -> tuple[int, list[bytes]] | None:
    """(message type, payloads); None: no such dump here."""
    family = payload[0] if payload else socket.AF_UNSPEC
    if kind == GETLINK:
        return NEWLINK, [_link(each) for each in namespace.links]
    if kind == GETADDR:
        families = [socket.AF_INET, socket.AF_INET6] if family == socket.AF_UNSPEC else [family]
        return NEWADDR, [
            _address(each)
            for wanted in families
            for each in namespace.addresses
            if _family(each) == wanted
        ]
    return None


def _family(address: FakeAddress) -> int:
    version = ipaddress.ip_address(address.local).version
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _link(link: FakeLink) -> bytes:
    header = struct.pack("=BxHiII", socket.AF_UNSPEC, link.kind, link.index, link.flags, 0)
    return (
        header
        + attribute(_IFLA_IFNAME, link.name.encode() + b"\0")
        + attribute(_IFLA_OPERSTATE, bytes([link.operstate]))
        + attribute(_IFLA_MTU, struct.pack("=I", link.mtu))
        + attribute(_IFLA_CARRIER, bytes([link.carrier]))
    )


def _address(address: FakeAddress) -> bytes:
    family = _family(address)
    local = ipaddress.ip_address(address.local).packed
    far = ipaddress.ip_address(address.peer).packed if address.peer else local
    message = struct.pack(
        "=BBBBI",
        family,
        address.prefix_length,
        address.flags & 0xFF,
        address.scope,
        address.index,
    )
    if family == socket.AF_INET:
        message += attribute(_IFA_ADDRESS, far) + attribute(_IFA_LOCAL, local)
        if address.label is not None:
            message += attribute(_IFA_LABEL, address.label.encode() + b"\0")
    elif address.peer:
        message += attribute(_IFA_LOCAL, local) + attribute(_IFA_ADDRESS, far)
    else:
        message += attribute(_IFA_ADDRESS, local)
    message += attribute(_IFA_CACHEINFO, struct.pack("=4I", 0xFFFFFFFF, 0xFFFFFFFF, 0, 0))
    return message + attribute(_IFA_FLAGS, struct.pack("=I", address.flags))
