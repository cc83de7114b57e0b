# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NETLINK_ROUTE of the fake kernel: dumps of links, addresses, routes and rules; route look-ups.

Layouts: include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h and fib_rules.h. Attributes:
inet_fill_ifaddr (net/ipv4/devinet.c), inet6_fill_ifaddr (net/ipv6/addrconf.c), rt_fill_info
(net/ipv4/route.c), rt6_fill_node (net/ipv6/route.c) and fib_nl_fill_rule (net/core/fib_rules.c).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator

from . import routing
from .model import FakeAddress, FakeLink, FakeNamespace
from .records import attribute

NEWLINK, GETLINK = 16, 18
NEWADDR, GETADDR = 20, 22
NEWROUTE, GETROUTE = 24, 26
NEWNEIGH, GETNEIGH = 28, 30
NEWRULE, GETRULE = 32, 34
_IFLA_IFNAME, _IFLA_MTU, _IFLA_OPERSTATE, _IFLA_CARRIER = 3, 4, 16, 33
_IFLA_PROP_LIST, _IFLA_ALT_IFNAME, _NESTED = 52, 53, 0x8000
_IFLA_MASTER, _IFLA_LINKINFO, _IFLA_INFO_KIND = 10, 18, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 3, 6, 8
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 2, 4, 5, 6
_RTA_MULTIPATH, _RTA_TABLE, _RTA_MARK, _RTA_VIA = 9, 15, 16, 18
_RTA_UID, _RTA_IP_PROTO, _RTA_SPORT, _RTA_DPORT, _RTA_NH_ID = 25, 27, 28, 29, 30
_RTM_F_LOOKUP_TABLE, _RTM_F_FIB_MATCH = 0x1000, 0x2000
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK = 1, 2, 3, 6, 10
_FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME = 14, 15, 16, 17
_FRA_L3MDEV, _FRA_UID_RANGE, _FRA_PROTOCOL, _FRA_IP_PROTO = 19, 20, 21, 22
_FRA_SPORT_RANGE, _FRA_DPORT_RANGE = 23, 24
# A look-up without RTA_UID uses the caller's uid: that of root.
_CALLER = 0


def dump(namespace: FakeNamespace, kind: int, payload: bytes) -> tuple[int, list[bytes]] | None:
    """Return (message type, payloads) of a dump; None: unsupported."""
    family = payload[0] if payload else socket.AF_UNSPEC
    if kind == GETLINK:
        return NEWLINK, [_link(link) for link in namespace.links]
    if kind == GETADDR:
        families = [socket.AF_INET, socket.AF_INET6] if family == socket.AF_UNSPEC else [family]
        return NEWADDR, [
            _address(address)
            for requested in families
            for address in namespace.addresses
            if _family(address) == requested
        ]
    if kind == GETROUTE:
        return NEWROUTE, [
            _route(route)
            for route in routing.all_routes(namespace)
            if family in (socket.AF_UNSPEC, route.family)
        ]
    if kind == GETRULE:
        ordered = sorted(namespace.rules, key=lambda rule: (rule.family, rule.priority))
        return NEWRULE, [
            _rule(rule) for rule in ordered if family in (socket.AF_UNSPEC, rule.family)
        ]
    if kind == GETNEIGH:
        return NEWNEIGH, []
    return None


def route_get(namespace: FakeNamespace, payload: bytes) -> bytes:
    """Return the payload of the reply to an RTM_GETROUTE. Raises routing.Refused."""
    if len(payload) < _RTMSG.size:
        raise routing.Refused(errno.EINVAL)
    family, length, source_length, tos, *_rest, flags = _RTMSG.unpack_from(payload)
    size = 4 if family == socket.AF_INET else 16
    found = dict(_attributes(payload[_RTMSG.size :]))
    destination, source = found.get(_RTA_DST, b""), found.get(_RTA_SRC, b"")
    expected = (8 * size, 8 * size if source else 0)
    if len(destination) != size or (length, source_length) != expected:
        raise routing.Refused(errno.EINVAL)
    protocol = found.get(_RTA_IP_PROTO, b"\0")[0]
    if protocol not in (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        raise routing.Refused(errno.EOPNOTSUPP)
    flow = routing.Flow(
        family,
        ipaddress.ip_address(destination),
        ipaddress.ip_address(source) if source else None,
        _u32(found, _RTA_OIF, 0),
        _u32(found, _RTA_MARK, 0),
        _u32(found, _RTA_UID, _CALLER),
        tos,
        protocol,
        int.from_bytes(found.get(_RTA_SPORT, b""), "big"),
        int.from_bytes(found.get(_RTA_DPORT, b""), "big"),
    )
    code = namespace.route_errors.get(str(flow.destination))
    if code:
        raise routing.Refused(code)
    whole = bool(flags & _RTM_F_FIB_MATCH)
    result = routing.route_get(namespace, flow, whole_route=whole)
    if whole and result.route is not None:
        return _route(result.route)
    # Without RTM_F_LOOKUP_TABLE, IPv4 reports the main table.
    actual = flags & _RTM_F_LOOKUP_TABLE or family == socket.AF_INET6
    table = result.table if actual else routing.MAIN_TABLE
    message = _RTMSG.pack(
        family,
        8 * size,
        8 * len(source),
        tos,
        min(table, 252) if table > 255 else table,
        0,
        0,
        result.kind,
        flags & _RTM_F_LOOKUP_TABLE,
    )
    message += attribute(_RTA_DST, destination)
    message += attribute(_RTA_TABLE, struct.pack("=I", table))
    message += attribute(_RTA_OIF, struct.pack("=I", result.oif))
    return message + _gateway(family, result.gateway)


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(raw):
        length, kind = struct.unpack_from("=HH", raw, offset)
        if length < 4 or offset + length > len(raw):
            raise routing.Refused(errno.EINVAL)
        yield kind, raw[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _u32(found: dict[int, bytes], kind: int, missing: int) -> int:
    return int(struct.unpack("=I", found[kind])[0]) if kind in found else missing


def _gateway(family: int, text: str | None) -> bytes:
    if text is None:
        return b""
    address = ipaddress.ip_address(text)
    other = socket.AF_INET if address.version == 4 else socket.AF_INET6
    if other == family:
        return attribute(_RTA_GATEWAY, address.packed)
    return attribute(_RTA_VIA, struct.pack("=H", other) + address.packed)


def _route(route: routing.FakeRoute) -> bytes:
    length = route.network.prefixlen
    source = route.source_network
    message = _RTMSG.pack(
        route.family,
        length,
        source.prefixlen if source else 0,
        0,
        252 if route.table > 255 else route.table,
        0,
        0,
        route.kind,
        0,
    )
    if length:
        message += attribute(_RTA_DST, route.network.network_address.packed)
    if source:
        message += attribute(_RTA_SRC, source.network_address.packed)
    message += attribute(_RTA_TABLE, struct.pack("=I", route.table))
    if route.metric:
        message += attribute(_RTA_PRIORITY, struct.pack("=I", route.metric))
    if route.nexthop_id:
        return message + attribute(_RTA_NH_ID, struct.pack("=I", route.nexthop_id))
    if len(route.hops) == 1:
        ((oif, gateway),) = route.hops
        return (
            message + attribute(_RTA_OIF, struct.pack("=I", oif)) + _gateway(route.family, gateway)
        )
    encoded = b""
    for oif, gateway in route.hops:
        inside = _gateway(route.family, gateway)
        encoded += struct.pack("=HBBi", 8 + len(inside), 0, 0, oif) + inside
    return message + (attribute(_RTA_MULTIPATH, encoded) if encoded else b"")


def _rule(rule: routing.FakeRule) -> bytes:
    def length(prefix: str | None) -> int:
        return ipaddress.ip_network(prefix).prefixlen if prefix else 0

    table = rule.table if rule.action == routing.TO_TABLE and not rule.l3mdev else 0
    message = _RTMSG.pack(
        rule.family,
        length(rule.destination),
        length(rule.source),
        rule.tos,
        252 if table > 255 else table,
        0,
        0,
        rule.action,
        0,
    )
    message += attribute(_FRA_TABLE, struct.pack("=I", table))
    message += attribute(_FRA_SUPPRESS_PREFIXLEN, struct.pack("=I", 0xFFFFFFFF))
    message += attribute(_FRA_PROTOCOL, b"\2")
    if rule.priority:
        message += attribute(_FRA_PRIORITY, struct.pack("=I", rule.priority))
    for kind, prefix in ((_FRA_DST, rule.destination), (_FRA_SRC, rule.source)):
        if prefix:
            message += attribute(kind, ipaddress.ip_network(prefix).network_address.packed)
    for kind, name in ((_FRA_IIFNAME, rule.iif), (_FRA_OIFNAME, rule.oif)):
        if name:
            message += attribute(kind, name.encode() + b"\0")
    if rule.mark is not None:
        message += attribute(_FRA_FWMARK, struct.pack("=I", rule.mark[0]))
        message += attribute(_FRA_FWMASK, struct.pack("=I", rule.mark[1]))
    if rule.uids is not None:
        message += attribute(_FRA_UID_RANGE, struct.pack("=II", *rule.uids))
    if rule.protocol is not None:
        message += attribute(_FRA_IP_PROTO, bytes([rule.protocol]))
    for kind, ports in ((_FRA_SPORT_RANGE, rule.sports), (_FRA_DPORT_RANGE, rule.dports)):
        if ports is not None:
            message += attribute(kind, struct.pack("=HH", *ports))
    if rule.l3mdev:
        message += attribute(_FRA_L3MDEV, b"\1")
    for kind, value in rule.further:
        message += attribute(kind, value)
    return message


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
        + (attribute(_IFLA_MASTER, struct.pack("=I", link.master)) if link.master else b"")
        + (_alternative_names(link) if link.alternative_names else b"")
        + (attribute(_IFLA_LINKINFO, _info(link)) if link.link_kind or link.vrf_table else b"")
    )


def _alternative_names(link: FakeLink) -> bytes:
    names = (name.encode() + b"\0" for name in link.alternative_names)
    return attribute(
        _IFLA_PROP_LIST | _NESTED, b"".join(attribute(_IFLA_ALT_IFNAME, name) for name in names)
    )


def _info(link: FakeLink) -> bytes:
    return attribute(_IFLA_INFO_KIND, (link.link_kind or "vrf").encode() + b"\0")


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
