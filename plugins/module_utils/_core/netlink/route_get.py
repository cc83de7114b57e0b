# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Route look-ups in bulk: how the kernel would route a packet.

A request is RTM_GETROUTE for one destination. inet_rtm_getroute (net/ipv4/route.c) and
inet6_rtm_getroute (net/ipv6/route.c) reply as they would route an outgoing packet.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import MalformedMessage
from . import attributes, routes
from .connection import Connection

_RTM_F_LOOKUP_TABLE = 0x1000
_RTM_F_FIB_MATCH = 0x2000

_DESTINATION = {4: struct.Struct("=HH4s"), 16: struct.Struct("=HH16s")}
_U32_ATTRIBUTE = struct.Struct("=HHI")
_U16_ATTRIBUTE = struct.Struct("=HH2s2x")
_U8_ATTRIBUTE = struct.Struct("=HHB3x")
_PORT = struct.Struct("!H")


class RouteQuery(NamedTuple):
    """A route look-up.

    destination: 4 or 16 bytes. source: as long as the destination, or empty for any. oif: the
    interface that the socket is bound to; 0: none. mark, uid: None stands for no mark and for the
    caller's uid. tos: the DS field. protocol: its number; 0: without protocol and ports.
    whole_route: return the matched route with all hops of a multipath route, instead of the one
    hop that a hash selects.
    """

    destination: bytes
    source: bytes = b""
    oif: int = 0
    mark: int | None = None
    uid: int | None = None
    tos: int = 0
    protocol: int = 0
    sport: int = 0
    dport: int = 0
    whole_route: bool = False


class RouteReply(NamedTuple):
    """The result of a route look-up.

    errno: why there is no route; 0: there is one. kind: UNICAST, LOCAL, ... of routes. oif: the
    outgoing interface; 0: not reported. table: 0: not reported. hops: the interfaces of all usable
    hops if the query set whole_route; empty if the kernel reported only the id of a nexthop object.
    """

    errno: int
    kind: int = 0
    oif: int = 0
    table: int = 0
    hops: tuple[int, ...] = ()


def encode(query: RouteQuery) -> bytes:
    """Encode the payload of a request: struct rtmsg and its attributes."""
    destination, source, oif, mark, uid, tos, protocol, sport, dport, whole_route = query
    size = len(destination)
    address = _DESTINATION[size]
    flags = _RTM_F_LOOKUP_TABLE | _RTM_F_FIB_MATCH if whole_route else _RTM_F_LOOKUP_TABLE
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    payload = routes.RTMSG.pack(
        family, 8 * size, 8 * len(source), tos, 0, 0, 0, 0, flags
    ) + address.pack(size + 4, routes.RTA_DST, destination)
    if source:
        payload += address.pack(size + 4, routes.RTA_SRC, source)
    if oif:
        payload += _U32_ATTRIBUTE.pack(8, routes.RTA_OIF, oif)
    if mark is not None:
        payload += _U32_ATTRIBUTE.pack(8, routes.RTA_MARK, mark)
    if uid is not None:
        payload += _U32_ATTRIBUTE.pack(8, routes.RTA_UID, uid)
    if protocol:
        payload += _U8_ATTRIBUTE.pack(5, routes.RTA_IP_PROTO, protocol)
        payload += _U16_ATTRIBUTE.pack(6, routes.RTA_SPORT, _PORT.pack(sport))
        payload += _U16_ATTRIBUTE.pack(6, routes.RTA_DPORT, _PORT.pack(dport))
    return payload


def _reply(datagram: bytes, offset: int, end: int) -> RouteReply:
    if end - offset < routes.RTMSG.size:
        raise MalformedMessage("a route message", f"{end - offset} bytes of {routes.RTMSG.size}")
    *_fields, table, _protocol, _scope, kind, flags = routes.RTMSG.unpack_from(datagram, offset)
    found = attributes.parse(datagram[offset + routes.RTMSG.size : end])
    hops = tuple(hop.oif for hop in routes.hops(found, flags) if not hop.dead)
    return RouteReply(
        0,
        kind,
        hops[0] if len(hops) == 1 else 0,
        routes.number(found.get(routes.RTA_TABLE)) or table,
        hops,
    )


def get(connection: Connection, queries: Sequence[RouteQuery]) -> list[RouteReply]:
    """Look up routes; the replies are in the order of the queries.

    A reply has an errno if the kernel refused the look-up, or if its reply was lost (ENOBUFS) or
    late (ETIMEDOUT). Raises what Connection.query raises.
    """
    replies = connection.query(
        "look up routes", routes.RTM_GETROUTE, [encode(query) for query in queries], _reply
    )
    return [RouteReply(reply) if isinstance(reply, int) else reply for reply in replies]
