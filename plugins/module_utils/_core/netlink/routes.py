# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Routes and routing rules over rtnetlink (include/uapi/linux/{rtnetlink,fib_rules}.h)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from typing import NamedTuple

from ..errors import MalformedMessage, NetlinkError
from . import attributes
from .connection import Connection

RTM_GETROUTE = 26
RTM_GETRULE = 34

TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL = 253, 254, 255

# rtm_type
UNICAST = 1
LOCAL = 2
BROADCAST = 3
ANYCAST = 4
MULTICAST = 5
BLACKHOLE = 6
UNREACHABLE = 7
PROHIBIT = 8
THROW = 9
KINDS = {
    UNICAST: "unicast",
    LOCAL: "local",
    BROADCAST: "broadcast",
    ANYCAST: "anycast",
    MULTICAST: "multicast",
    BLACKHOLE: "blackhole",
    UNREACHABLE: "unreachable",
    PROHIBIT: "prohibit",
    THROW: "throw",
}

RTA_DST = 1
RTA_SRC = 2
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PRIORITY = 6
RTA_MULTIPATH = 9
RTA_CACHEINFO = 12
RTA_TABLE = 15
RTA_MARK = 16
RTA_VIA = 18
RTA_PREF = 20
RTA_UID = 25
RTA_IP_PROTO = 27
RTA_SPORT = 28
RTA_DPORT = 29
RTA_NH_ID = 30

# Attributes of a rule.
FRA_DST = 1
FRA_SRC = 2
FRA_IIFNAME = 3
FRA_GOTO = 4
FRA_PRIORITY = 6
FRA_FWMARK = 10
FRA_SUPPRESS_PREFIXLEN = 14
FRA_TABLE = 15
FRA_FWMASK = 16
FRA_OIFNAME = 17
FRA_L3MDEV = 19
FRA_UID_RANGE = 20
FRA_IP_PROTO = 22
FRA_SPORT_RANGE = 23
FRA_DPORT_RANGE = 24
FRA_DSCP = 25
FRA_FLOWLABEL = 26
FRA_FLOWLABEL_MASK = 27
FRA_SPORT_MASK = 28
FRA_DPORT_MASK = 29
FRA_DSCP_MASK = 30

# action of struct fib_rule_hdr
ACTION_TABLE = 1
ACTION_GOTO = 2
ACTION_BLACKHOLE, ACTION_UNREACHABLE, ACTION_PROHIBIT = 6, 7, 8

RTMSG = struct.Struct("=BBBBBBBBI")
_RULE = struct.Struct("=BBBBBBBBI")
_NEXTHOP = struct.Struct("=HBBi")
_U32 = struct.Struct("=I")
# The first three fields of struct rta_cacheinfo; the third is rta_expires.
_CACHE_INFO = struct.Struct("=IIi")
# RTNH_F_DEAD: the kernel does not use the next hop. It sets the flag for a link that is down, and
# for one without a carrier if ignore_routes_with_linkdown is on (fib_nexthop_info,
# net/ipv4/fib_semantics.c).
_DEAD = 1
_NO_LIMIT = 0xFFFFFFFF
# ICMPV6_ROUTER_PREF_LOW, MEDIUM and HIGH, include/uapi/linux/icmpv6.h; in the order of RFC 4191.
_PREFERENCES = {3: -1, 0: 0, 1: 1}
_ADDRESS_SIZE = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
_FAMILIES = frozenset(_ADDRESS_SIZE)


class Hop(NamedTuple):
    """A next hop of a route.

    oif: the index of the interface. gateway: 4 or 16 bytes, of either family; empty: none, the
    destination is on the link. dead: the kernel does not use it (RTNH_F_DEAD).
    """

    oif: int
    gateway: bytes
    dead: bool = False


class Route(NamedTuple):
    """A route.

    destination: 4 or 16 bytes, all zero for a default route. source_length: the prefix length of
    the sources that an IPv6 route applies to; 0: all. kind: UNICAST, LOCAL, ... priority: the
    metric; the lowest wins. hops: several for a multipath route; none for a route without an
    interface, and if the kernel reports only the id of a nexthop object
    (net.ipv4.nexthop_compat_mode=0). tos: the DS field of the packets that an IPv4 route applies
    to; 0: all. preference: the router preference of an IPv6 route; of routes with equal metrics the
    highest wins: -1 low, 0 medium, 1 high. dead: the kernel does not use it, because all of its
    next hops are dead, or because its lifetime (IPv6) has ended.
    """

    family: int
    destination: bytes
    prefix_length: int
    source_length: int
    table: int
    kind: int
    priority: int
    hops: tuple[Hop, ...]
    nexthop_id: int
    tos: int = 0
    preference: int = 0
    dead: bool = False

    @property
    def oif(self) -> int:
        """The interface of a single hop; 0: no hop, or several."""
        return self.hops[0].oif if len(self.hops) == 1 else 0

    @property
    def gateway(self) -> bytes:
        """The gateway of a single hop; empty: no gateway, no hop, or several."""
        return self.hops[0].gateway if len(self.hops) == 1 else b""

    def covers(self, address: bytes) -> bool:
        """True if the destination prefix contains the address (4 or 16 bytes)."""
        if len(address) != len(self.destination):
            return False
        shift = 8 * len(address) - self.prefix_length
        prefix = int.from_bytes(self.destination, "big") >> shift
        return int.from_bytes(address, "big") >> shift == prefix


class Rule(NamedTuple):
    """A routing rule.

    action: ACTION_*. table: 0: none. destination_length, source_length, tos: 0 if the rule does not
    test them. kinds: the types of its attributes (FRA_*): all that it tests, and some others.
    suppressed_length: the look-up ignores routes with prefixes up to this length; -1: none.
    """

    family: int
    priority: int
    action: int
    table: int
    destination_length: int
    source_length: int
    tos: int
    kinds: frozenset[int]
    suppressed_length: int = -1


def number(raw: bytes | None) -> int:
    """Decode a u32 attribute; 0 if it is missing."""
    if raw is None or len(raw) != _U32.size:
        return 0
    (value,) = _U32.unpack(raw)
    return int(value)


def hops(found: dict[int, bytes], flags: int) -> tuple[Hop, ...]:
    """Decode the next hops of a route from its attributes, and rtm_flags. Raises MalformedMessage.

    Of a multipath route each hop has its own flags.
    """
    raw = found.get(RTA_MULTIPATH)
    if raw is None:
        oif = number(found.get(RTA_OIF))
        return (Hop(oif, _gateway(found), bool(flags & _DEAD)),) if oif else ()
    next_hops: list[Hop] = []
    offset = 0
    while offset + _NEXTHOP.size <= len(raw):
        length, hop_flags, _weight, oif = _NEXTHOP.unpack_from(raw, offset)
        if length < _NEXTHOP.size or offset + length > len(raw):
            raise MalformedMessage(
                "a multipath route", f"length {length} at offset {offset} of {len(raw)} bytes"
            )
        nested = attributes.parse(raw[offset + _NEXTHOP.size : offset + length])
        next_hops.append(Hop(oif, _gateway(nested), bool(hop_flags & _DEAD)))
        offset += (length + 3) & ~3
    return tuple(next_hops)


def _gateway(found: dict[int, bytes]) -> bytes:
    """RTA_VIA is a gateway of another family: struct rtvia, a u16 and the address."""
    return found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]


def _route(datagram: bytes, offset: int, end: int) -> Route | None:
    if end - offset < RTMSG.size:
        raise MalformedMessage("a route message", f"{end - offset} bytes of {RTMSG.size}")
    family, length, source_length, tos, table, _protocol, _scope, kind, flags = RTMSG.unpack_from(
        datagram, offset
    )
    if family not in _FAMILIES:
        return None
    found = attributes.parse(datagram[offset + RTMSG.size : end])
    size = _ADDRESS_SIZE[family]
    destination = found.get(RTA_DST, bytes(size))
    if len(destination) != size or max(length, source_length) > 8 * size:
        raise MalformedMessage("a route message", f"no destination of family {family}")
    next_hops = hops(found, flags)
    all_dead = all(hop.dead for hop in next_hops) if next_hops else bool(flags & _DEAD)
    return Route(
        family,
        destination,
        length,
        source_length,
        number(found.get(RTA_TABLE)) or table,
        kind,
        number(found.get(RTA_PRIORITY)),
        next_hops,
        number(found.get(RTA_NH_ID)),
        tos,
        _PREFERENCES.get(found.get(RTA_PREF, b"\0")[0], 0),
        all_dead or _expired(found.get(RTA_CACHEINFO, b"")),
    )


def _expired(cache_info: bytes) -> bool:
    """The kernel reports the time to the end of the lifetime, negative after it; 0: no end."""
    return len(cache_info) >= _CACHE_INFO.size and _CACHE_INFO.unpack_from(cache_info)[2] < 0


def routes(
    connection: Connection, kinds: Collection[int] = (), lengths: Collection[int] = ()
) -> list[Route]:
    """List the routes of all tables, IPv4 first, without cached ones (RTM_F_CLONED).

    kinds: only routes of these kinds; empty: all. lengths: only routes with these prefix lengths;
    empty: all. Raises what Connection.dump raises.
    """
    kind_filter = frozenset(kinds)
    length_filter = frozenset(lengths)

    def decode(datagram: bytes, offset: int, end: int) -> Route | None:
        # Tests rtm_type (eighth byte) and rtm_dst_len (second) before decoding, for large tables.
        if end - offset >= RTMSG.size and (
            (kind_filter and datagram[offset + 7] not in kind_filter)
            or (length_filter and datagram[offset + 1] not in length_filter)
        ):
            return None
        return _route(datagram, offset, end)

    found: list[Route] = []
    for family in sorted(_FAMILIES):
        payload = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        try:
            found += connection.dump("list routes", RTM_GETROUTE, payload, decode)
        except NetlinkError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                raise
    return found


def _rule(datagram: bytes, offset: int, end: int) -> Rule | None:
    if end - offset < _RULE.size:
        raise MalformedMessage("a rule message", f"{end - offset} bytes of {_RULE.size}")
    (family, to_length, from_length, tos, table, _reserved, _reserved_too, action, _flags) = (
        _RULE.unpack_from(datagram, offset)
    )
    if family not in _FAMILIES:
        return None
    found = attributes.parse(datagram[offset + _RULE.size : end])
    return Rule(
        family,
        number(found.get(FRA_PRIORITY)),
        action,
        number(found.get(FRA_TABLE)) or table,
        to_length,
        from_length,
        tos,
        frozenset(found),
        _signed(found.get(FRA_SUPPRESS_PREFIXLEN)),
    )


def _signed(raw: bytes | None) -> int:
    """The kernel reports a missing limit as the largest u32."""
    value = number(raw) if raw is not None else _NO_LIMIT
    return -1 if value == _NO_LIMIT else value


def rules(connection: Connection) -> list[Rule]:
    """List the routing rules of IPv4 and IPv6, each in the order in which the kernel applies them.

    Returns an empty list if the kernel has no policy routing. Raises what Connection.dump raises.
    """
    payload = _RULE.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)
    try:
        return connection.dump("list routing rules", RTM_GETRULE, payload, _rule)
    except NetlinkError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
            return []
        raise
