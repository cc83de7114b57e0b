# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Route state of a snapshot: batched route look-ups, and the `stranded` verdicts from them.

route_state = RouteState.of(snapshot)
route_state.load(sockets)                       # asks the kernel
route_state.evaluate(sock, "unroutable")        # True, False, or None for unknown
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Collection, Iterable
from typing import Any, Optional

from ..netlink import constants, inet_diag, links, route_get, routes
from ..netlink.route_get import RouteQuery, RouteReply
from ..sockets.slots import Slot
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from .interfaces import Interfaces
from .rule_dependencies import rule_dependencies
from .stranded import REROUTED, NetworkPath, is_link_local
from .verdict import Verdict, show_verdicts

# Dumped in addition to the extensions of a selector, for routing rules that match the DS field.
EXTENSIONS = inet_diag.extension_bits((inet_diag.TOS, inet_diag.TCLASS))

_LOCAL_KINDS = frozenset({routes.LOCAL, routes.BROADCAST, routes.ANYCAST, routes.MULTICAST})
_REJECTING_KINDS = frozenset({routes.BLACKHOLE, routes.UNREACHABLE, routes.PROHIBIT})
_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENODEV})
# The route types that reject a packet with these errnos (fib_props, net/ipv4/fib_semantics.c;
# fib6_prop, net/ipv6/route.c). The kernel uses both errnos for other reasons too.
_REJECTED_BY = {errno.EINVAL: routes.BLACKHOLE, errno.EACCES: routes.PROHIBIT}
_DSCP = 0xFC
# struct inet_diag_sockopt, include/uapi/linux/inet_diag.h: bit fields, in the opposite order on
# big-endian machines.
_FREEBIND, _HDRINCL, _TRANSPARENT = (
    (1 << 2, 1 << 3, 1 << 5) if sys.byteorder == "little" else (1 << 5, 1 << 4, 1 << 2)
)
_ANY_SOURCE = _FREEBIND | _HDRINCL | _TRANSPARENT
_WITH_PORTS = {name: constants.PROTOCOLS[name] for name in ("tcp", "udp")}

_Key = tuple[Any, ...]
# mark, uid, DS field, protocol, local port, remote port
_FlowFields = tuple[Optional[int], Optional[int], int, int, int, int]
_NO_FLOW_FIELDS: _FlowFields = (None, None, 0, 0, 0, 0)
_PATH: Slot[NetworkPath] = Slot("path")


class RouteState:
    """The interfaces and routes of a snapshot, and the verdicts for its sockets.

    load() asks the kernel; evaluate() and verdicts() use only its answers.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._connection = snapshot.rtnetlink
        self._interfaces = Interfaces(snapshot.links, snapshot.addresses)
        rules = routes.rules(self._connection)
        self._dependencies = {
            4: rule_dependencies(rules, socket.AF_INET),
            16: rule_dependencies(rules, socket.AF_INET6),
        }
        by_mark = {size for size, family in self._dependencies.items() if family.mark}
        # A look-up with the mark of a socket misses marks of its packets.
        self._marked_later = by_mark and by_mark & snapshot.sizes_with_packet_marks
        self._only_addresses = all(family.only_addresses for family in self._dependencies.values())
        self._paths: dict[_Key, NetworkPath] = {}
        self._replies: dict[RouteQuery, RouteReply] = {}
        self._routes: dict[int, list[routes.Route]] = {}
        self._by_source: bool | None = None

    @classmethod
    def of(cls, snapshot: Snapshot) -> RouteState:
        """Return the route state of a snapshot, created on first use.

        Raises the errors of Connection.dump.
        """
        route_state = snapshot.get_or_create(ROUTES, lambda: cls(snapshot))
        show_verdicts(snapshot)
        return route_state

    @property
    def ignores_packet_marks(self) -> bool:
        """Whether rules match marks, and the packet filter may set others than the sockets have."""
        return bool(self._marked_later)

    def load(self, sockets: Iterable[Socket]) -> None:
        """Look up the routes of sockets; each distinct query is sent once per snapshot.

        If a look-up has no usable answer, the verdicts of its sockets stay unknown. Raises the
        errors of Connection.query.
        """
        known = self._paths
        new: list[tuple[NetworkPath, _FlowFields | None]] = []
        for sock in sockets:
            key = self._key(sock)
            if key is None:
                continue
            path = known.get(key)
            if path is None:
                path = NetworkPath(sock.local_address, sock.remote_address, sock.ifindex)
                known[key] = path
                path.marked_later = len(path.remote) in self._marked_later
                path.not_applicable = _is_no_host_address(path.local)
                if not path.not_applicable:
                    new.append((path, _NO_FLOW_FIELDS if len(key) == 4 else key[4]))
            sock.cache(_PATH, path)
        if new:
            self._resolve_local_addresses([path for path, _flow in new])
            self._resolve_routes(new)
            self._recheck_interfaces([path for path, _flow in new])

    def evaluate(self, sock: Socket, name: str, to: Collection[str] | None = None) -> bool | None:
        """Evaluate one verdict (a key of STRANDED). None: unknown, or not loaded.

        to: names of interfaces. `rerouted` is true only if packets can leave through no other.
        """
        return self.evaluate_any(sock, ((name, to),))

    def evaluate_any(
        self, sock: Socket, requested: Iterable[tuple[str, Collection[str] | None]]
    ) -> bool | None:
        """Evaluate whether any of several verdicts is true, in Kleene's logic.

        requested: pairs of a name and interfaces, as evaluate takes them.
        """
        path = self._path(sock)
        if path is None:
            return None
        interfaces = self._interfaces
        result: bool | None = False
        for name, to in requested:
            value = path.evaluate(name, interfaces)
            if value and name == REROUTED and to is not None:
                value = interfaces.all_within(path.egress or (), to)
            if value:
                value = _needs_local_source(sock)
                if value:
                    return True
            if value is None:
                result = None
        return result

    def verdicts(self, sock: Socket) -> list[Verdict] | None:
        """Return the verdicts that are true, with evidence. None: unknown, or not loaded."""
        path = self._path(sock)
        found = None if path is None else path.verdicts(self._interfaces)
        if not found:
            return found
        needs_local_source = _needs_local_source(sock)
        return None if needs_local_source is None else found if needs_local_source else []

    def _path(self, sock: Socket) -> NetworkPath | None:
        path = sock.cached(_PATH)
        if path is None:
            # load() may have seen the same socket as another Socket object.
            key = self._key(sock)
            path = None if key is None else self._paths.get(key)
            sock.cache(_PATH, path)
        return path

    def _key(self, sock: Socket) -> _Key | None:
        """The fields that distinguish one path from another.

        None: the socket has no peer, or has several paths (MPTCP).
        """
        message = sock.message
        if message.protocol == "tcp":
            if not message.dport:
                return None
        elif message.protocol == "mptcp" or message.state == constants.CLOSED:
            return None
        if self._only_addresses:
            return message.family, message.src, message.dst, message.ifindex
        flow = self._flow_fields(sock)
        return message.family, message.src, message.dst, message.ifindex, flow

    def _flow_fields(self, sock: Socket) -> _FlowFields | None:
        """The fields that routing rules match. None: the kernel did not report one of them."""
        four = len(sock.remote_address) == 4
        matched = self._dependencies[4 if four else 16]
        mark = uid = None
        tos = protocol = sport = dport = 0
        if matched.unknowable:
            return None
        if matched.mark:
            mark = sock.mark
            if mark is None:
                return None
        if matched.uid:
            uid = sock.uid
            if uid is None:
                return None
        if matched.tos:
            raw = sock.attributes.get(inet_diag.TOS if four else inet_diag.TCLASS)
            if not raw:
                return None
            tos = raw[0] & _DSCP
        if matched.ports:
            # Besides ICMP the kernel accepts only these (rtm_getroute_parse_ip_proto).
            if sock.protocol not in _WITH_PORTS:
                return None
            protocol = _WITH_PORTS[sock.protocol]
            sport, dport = sock.local_port, sock.remote_port
        return mark, uid, tos, protocol, sport, dport

    def _query(self, queries: Iterable[RouteQuery]) -> None:
        new = list(dict.fromkeys(query for query in queries if query not in self._replies))
        if new:
            self._replies.update(zip(new, route_get.get(self._connection, new)))

    def _resolve_local_addresses(self, paths: list[NetworkPath]) -> None:
        """Set is_local: an interface has the address, or a local route covers it (AnyIP)."""
        pending: list[tuple[NetworkPath, RouteQuery]] = []
        for path in paths:
            if path.local_interfaces(self._interfaces):
                path.is_local = True
            else:
                # With the VRF or the link as oif the kernel looks for a local route. With any other
                # interface it looks for a route that leaves through it.
                scoped = is_link_local(path.local)
                oif = path.device if scoped else self._interfaces.vrf(path.device)
                pending.append((path, RouteQuery(path.local, oif=oif)))
        self._query(query for _path, query in pending)
        for path, query in pending:
            reply = self._replies[query]
            path.local_reply = reply
            path.is_local = self._is_local(path.local, reply)

    def _is_local(self, address: bytes, reply: RouteReply) -> bool | None:
        if not reply.errno:
            if reply.kind in _LOCAL_KINDS:
                return True
        elif reply.errno not in _NO_ROUTE and reply.errno not in _REJECTED_BY:
            return None
        if self._dependencies[len(address)].ordinary:
            return False
        # Rules may direct received packets to a table with a local route for the address. A default
        # route of this type serves transparent sockets (TPROXY), which are never stranded.
        for route in self._routes_of(routes.LOCAL):
            if route.prefix_length and route.covers(address):
                return None
        return False

    def _routes_of(self, kind: int) -> list[routes.Route]:
        if kind not in self._routes:
            self._routes[kind] = routes.routes(self._connection, [kind])
        return self._routes[kind]

    def _resolve_routes(self, new: list[tuple[NetworkPath, _FlowFields | None]]) -> None:
        pending: list[tuple[NetworkPath, list[RouteQuery]]] = []
        for path, flow in new:
            queries = self._queries(path, flow)
            if queries:
                pending.append((path, queries))
        self._query(query for _path, queries in pending for query in queries)
        unconfirmed: list[tuple[NetworkPath, RouteQuery]] = []
        for path, queries in pending:
            self._apply_replies(path, [self._replies[query] for query in queries])
            if not path.egress_complete and self._depends_on_interfaces(path):
                unconfirmed.append((path, queries[0]._replace(whole_route=True)))
        self._query(query for _path, query in unconfirmed)
        for path, query in unconfirmed:
            _apply_whole_route(path, self._replies[query])

    def _queries(self, path: NetworkPath, flow: _FlowFields | None) -> list[RouteQuery]:
        """The look-ups that determine the route to the peer; empty: none can."""
        if flow is None or _is_no_host_address(path.remote):
            return []
        local, remote, device = path.local, path.remote, path.device
        mark, uid, tos, protocol, sport, dport = flow
        if is_link_local(remote) and self._is_vrf(device):
            # The VRF's own device reaches no link-local address (vrf_link_scope_lookup), and the
            # socket does not name the member link.
            return []
        if len(remote) == 16:
            source = local
        elif self._dependencies[4].source:
            # IPv4 rejects a query with a source that is not local, whatever the route.
            if not path.is_local:
                return []
            source = local
        else:
            source = b""
        query = RouteQuery(remote, source, device, mark, uid, tos, protocol, sport, dport)
        if not device or len(remote) == 4 or is_link_local(remote) or self._is_vrf(device):
            return [query]
        # With a source, IPv6 only prefers the device. Without one it requires the device, as for a
        # bound socket (ip6_route_output_flags_noref).
        return [query, query._replace(source=b"")]

    def _is_vrf(self, device: int) -> bool:
        return self._interfaces.vrf(device) == device

    def _apply_replies(self, path: NetworkPath, replies: list[RouteReply]) -> None:
        """Set the route of a path from one reply, or for IPv6 on a device from two.

        The first of two replies prefers the device, the second requires it.
        """
        device = path.device
        if len(replies) == 2:
            preferred, strict = replies
            on_device = (r for r in replies if not r.errno and r.oif == device)
            chosen = next(on_device, None)
            if chosen is not None:
                reply = chosen
            elif not preferred.errno and strict.errno:
                # Only another interface has a route, unless some routes depend on the source.
                if self._dependencies[16].source or self._has_routes_by_source():
                    return
                reply = strict
            else:
                reply = strict if strict.errno else preferred
        else:
            (reply,) = replies
        path.reply = reply
        rejected = self._is_rejected(path.remote, reply)
        path.unroutable = rejected
        if rejected:
            path.egress = ()
        elif rejected is False:
            if reply.kind in (routes.LOCAL, routes.ANYCAST):
                path.egress = ()
            elif reply.oif:
                path.egress = (reply.oif,)
                path.egress_complete = reply.oif == device

    def _is_rejected(self, address: bytes, reply: RouteReply) -> bool | None:
        if not reply.errno:
            return reply.kind in _REJECTING_KINDS
        if reply.errno in _NO_ROUTE:
            return True
        kind = _REJECTED_BY.get(reply.errno)
        if kind is None:
            return None
        rules = self._dependencies[len(address)]
        by_rule = rules.blackhole if kind == routes.BLACKHOLE else rules.prohibit
        rejected = by_rule or any(route.covers(address) for route in self._routes_of(kind))
        return True if rejected else None

    def _has_routes_by_source(self) -> bool:
        if self._by_source is None:
            found = routes.routes(self._connection)
            self._by_source = any(route.source_length for route in found)
        return self._by_source

    def _depends_on_interfaces(self, path: NetworkPath) -> bool:
        """Whether `no_carrier` or `rerouted` is true if the path has no further interface."""
        if not path.egress:
            return False
        owners = path.local_interfaces(self._interfaces)
        leaves_elsewhere = bool(owners) and owners.isdisjoint(path.egress)
        return leaves_elsewhere or not self._interfaces.has_carrier(path.egress[0])

    def _recheck_interfaces(self, paths: list[NetworkPath]) -> None:
        """Dump links and addresses a second time if a verdict depends on them.

        An address or a carrier that moved after the first dump then makes no verdict true.
        """
        if any(path.is_local is False or self._depends_on_interfaces(path) for path in paths):
            self._interfaces.add(links.links(self._connection), links.addresses(self._connection))
            for path in self._paths.values():
                path.invalidate()


ROUTES: Slot[RouteState] = Slot("routes")


def _apply_whole_route(path: NetworkPath, reply: RouteReply) -> None:
    """Set egress to all next hops of the route; a hash selects one of them per connection."""
    if reply.errno or not reply.hops or not set(path.egress or ()).issubset(reply.hops):
        path.egress = None
        return
    path.egress = reply.hops
    path.egress_complete = True


def _is_no_host_address(address: bytes) -> bool:
    """Whether an address is unspecified, multicast, or IPv4's limited broadcast."""
    if not any(address):
        return True
    if len(address) == 4:
        return address[0] & 0xF0 == 0xE0 or address == b"\xff\xff\xff\xff"
    return address[0] == 0xFF


def _needs_local_source(sock: Socket) -> bool | None:
    """Whether the socket may send only from addresses of its host.

    False for transparent and free-bound sockets, and for those that write their own headers. None:
    the kernel does not report it (before Linux 5.10, and for TIME_WAIT and half-open connections).
    """
    raw = sock.attributes.get(inet_diag.SOCKOPT)
    return None if not raw else not raw[0] & _ANY_SOURCE
