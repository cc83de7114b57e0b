# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Interfaces, their addresses and the ids of network namespaces, over rtnetlink.

include/uapi/linux/{rtnetlink,if_addr,if_link,net_namespace}.h
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

from .. import text
from ..errors import MalformedMessage, NetlinkError
from . import attributes
from .connection import Connection

RTM_GETLINK = 18
RTM_GETADDR = 22
_RTM_NEWNSID = 88
_RTM_GETNSID = 90

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

# The kind of an interface that the kernel reports without one: a driver made it.
PHYSICAL = "physical"

# IFA_F_*. The kernel uses one bit for temporary IPv6 and for secondary IPv4 addresses.
IFA_F_TEMPORARY = 0x01
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
# With the names of ip(8).
ADDRESS_STATES = {
    "deprecated": IFA_F_DEPRECATED,
    "temporary": IFA_F_TEMPORARY,
    "dadfailed": IFA_F_DADFAILED,
    "tentative": IFA_F_TENTATIVE,
}

_IFLA_IFNAME = 3
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_EXT_MASK = 29
_IFLA_PROP_LIST = 52
_IFLA_ALT_IFNAME = 53
_IFLA_INFO_KIND = 1
_RTEXT_FILTER_SKIP_STATS = 8
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_LABEL = 3
_IFA_FLAGS = 8
_NETNSA_NSID = 1
_NETNSA_FD = 3
_NETNSA_NSID_NOT_ASSIGNED = struct.pack("=i", -1)

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_RTGENMSG = bytes(4)  # struct rtgenmsg, padded
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")


class Link(NamedTuple):
    """A network interface.

    flags: IFF_*. master: the index of its bridge, bond or VRF; 0: none. kind: the type of a
    virtual interface (vrf, dummy, veth, ...); "": none. alternative_names: further names, which
    systemd gives to network cards (altname in ip-link(8)).
    """

    ifindex: int
    name: str
    flags: int
    master: int = 0
    kind: str = ""
    alternative_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the primary one first."""
        return (self.name, *self.alternative_names)

    @property
    def described_kind(self) -> str:
        """The kind, or "physical" or "loopback" for an interface that has none."""
        return self.kind or ("loopback" if self.flags & IFF_LOOPBACK else PHYSICAL)

    @property
    def up(self) -> bool:
        """IFF_UP and IFF_LOWER_UP are set. The operstate of tunnels is always unknown."""
        required = IFF_UP | IFF_LOWER_UP
        return self.flags & required == required


class Address(NamedTuple):
    """An address of an interface.

    address: 4 or 16 bytes. On a point-to-point link it is the local one (IFA_LOCAL), never the
    peer's. flags: IFA_F_*. label: of IPv4 addresses, such as eth0 or eth0:1.
    """

    family: int
    address: bytes
    prefix_length: int
    ifindex: int
    scope: int
    flags: int
    label: str = ""

    @property
    def states(self) -> frozenset[str]:
        """Which of ADDRESS_STATES apply to the address."""
        return frozenset(
            name
            for name, flag in ADDRESS_STATES.items()
            if self.flags & flag and (flag != IFA_F_TEMPORARY or self.family == socket.AF_INET6)
        )

    @property
    def is_duplicate(self) -> bool:
        """Whether duplicate address detection failed. The kernel then does not use the address."""
        return self.family == socket.AF_INET6 and bool(self.flags & IFA_F_DADFAILED)


def _link(datagram: bytes, offset: int, end: int) -> Link:
    if end - offset < _LINK.size:
        raise MalformedMessage("a link message", f"{end - offset} bytes of {_LINK.size}")
    _family, _kind, index, flags, _change = _LINK.unpack_from(datagram, offset)
    found = attributes.parse(datagram[offset + _LINK.size : end])
    name = found.get(_IFLA_IFNAME)
    if name is None:
        raise MalformedMessage("a link message", f"interface {index} has no name")
    master = found.get(_IFLA_MASTER, b"")
    kind = attributes.parse(found.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
    names = attributes.parse_list(found.get(_IFLA_PROP_LIST, b""), _IFLA_ALT_IFNAME)
    return Link(
        index,
        _text(name),
        flags,
        _U32.unpack(master)[0] if len(master) == _U32.size else 0,
        _text(kind),
        tuple(map(_text, names)),
    )


def _text(raw: bytes) -> str:
    return text.decode(raw.rstrip(b"\0"))


def links(connection: Connection) -> list[Link]:
    """List the interfaces of the connection's namespace. Raises what Connection.dump raises."""
    payload = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attributes.encode(
        _IFLA_EXT_MASK, _U32.pack(_RTEXT_FILTER_SKIP_STATS)
    )
    return connection.dump("list interfaces", RTM_GETLINK, payload, _link)


def _address(datagram: bytes, offset: int, end: int) -> Address | None:
    if end - offset < _ADDRESS.size:
        raise MalformedMessage("an address message", f"{end - offset} bytes of {_ADDRESS.size}")
    family, prefix_length, flags, scope, index = _ADDRESS.unpack_from(datagram, offset)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = attributes.parse(datagram[offset + _ADDRESS.size : end])
    address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if address is None or len(address) != (4 if family == socket.AF_INET else 16):
        raise MalformedMessage("an address message", f"no address of family {family}")
    wide = found.get(_IFA_FLAGS, b"")
    if len(wide) == _U32.size:
        (flags,) = _U32.unpack(wide)
    label = _text(found.get(_IFA_LABEL, b""))
    return Address(family, address, prefix_length, index, scope, flags, label)


def addresses(connection: Connection) -> list[Address]:
    """List the IPv4 and IPv6 addresses of interfaces. Raises what Connection.dump raises."""
    found = connection.dump(
        "list addresses", RTM_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _address
    )
    return [address for address in found if address is not None]


def assign_nsid(connection: Connection, descriptor: int) -> bool:
    """Assign an id to a network namespace, in the connection's namespace (ip-netns(8), set).

    A socket of one namespace receives the events of all others that have an id there
    (NETLINK_LISTEN_ALL_NSID), and keeps nothing open in them. The kernel chooses the id.

    descriptor: an open nsfs file of the namespace. Returns False if it has an id already. Raises
    NetlinkError, and what Connection.execute raises.
    """
    payload = (
        _RTGENMSG
        + attributes.encode(_NETNSA_NSID, _NETNSA_NSID_NOT_ASSIGNED)
        + attributes.encode(_NETNSA_FD, _U32.pack(descriptor))
    )
    operation = "give a network namespace an id"
    (result,) = connection.execute(operation, _RTM_NEWNSID, [payload])
    if result not in (0, errno.EEXIST):
        raise NetlinkError(operation, result)
    return result == 0


def get_nsid(connection: Connection, descriptor: int) -> int | None:
    """Return the id of a network namespace in the connection's namespace; None: it has none.

    descriptor: an open nsfs file of the namespace. Raises NetlinkError, and what Connection.query
    raises.
    """
    payload = _RTGENMSG + attributes.encode(_NETNSA_FD, _U32.pack(descriptor))
    operation = "read the id of a network namespace"
    (result,) = connection.query(operation, _RTM_GETNSID, [payload], _nsid)
    if isinstance(result, int):
        raise NetlinkError(operation, result)
    return result[0] if result[0] >= 0 else None


def _nsid(datagram: bytes, offset: int, end: int) -> tuple[int] | None:
    found = attributes.parse(datagram[offset + len(_RTGENMSG) : end]).get(_NETNSA_NSID, b"")
    if len(found) != _S32.size:
        return None
    (nsid,) = _S32.unpack(found)
    return (int(nsid),)
