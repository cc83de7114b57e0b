# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what lies under the sockets of one look, asked for in bulk."""

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
from .stranded import REROUTED, Path, is_link_local
from .verdict import Verdict, show_verdicts

# Dumped beside what a selector needs, so that rules by DS field can be followed.
EXTENSIONS = inet_diag.extension_bits((inet_diag.TOS, inet_diag.TCLASS))

_HERE = frozenset({routes.LOCAL, routes.BROADCAST, routes.ANYCAST, routes.MULTICAST})
_REFUSING = frozenset({routes.BLACKHOLE, routes.UNREACHABLE, routes.PROHIBIT})
_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENODEV})
# The routes that refuse a packet with these (fib_props, net/ipv4/fib_semantics.c; fib6_prop,
# net/ipv6/route.c). Other things can be refused with them too.
_REFUSED = {errno.EINVAL: routes.BLACKHOLE, errno.EACCES: routes.PROHIBIT}
_DSCP = 0xFC
# inet_diag_sockopt: bit fields, which lie the other way round in a big endian byte.
_FREEBIND, _HDRINCL, _TRANSPARENT = (
    (1 << 2, 1 << 3, 1 << 5) if sys.byteorder == "little" else (1 << 5, 1 << 4, 1 << 2)
)
_SPARED = _FREEBIND | _HDRINCL | _TRANSPARENT
_WITH_PORTS = {name: constants.PROTOCOLS[name] for name in ("tcp", "udp")}

_Key = tuple[Any, ...]
_Extras = tuple[Optional[int], Optional[int], int, int, int, int]
_NO_EXTRAS: _Extras = (None, None, 0, 0, 0, 0)
_PATH: Slot[Path] = Slot("path")


class RouteState:
    """What interfaces and routes say of sockets: first asked for many, then told of each.

    ask() asks the kernel; judge() and verdicts() only tell what it answered.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._environment = snapshot
        self._connection = snapshot.rtnetlink
        self._interfaces = Interfaces(snapshot.links, snapshot.addresses)
        rules = routes.rules(self._connection)
        self._needs = {
            4: rule_dependencies(rules, socket.AF_INET),
            16: rule_dependencies(rules, socket.AF_INET6),
        }
        self._only_addresses = all(each.only_addresses for each in self._needs.values())
        self._paths: dict[_Key, Path] = {}
        self._replies: dict[RouteQuery, RouteReply] = {}
        self._routes: dict[int, list[routes.Route]] = {}
        self._by_source: bool | None = None

    @classmethod
    def of(cls, snapshot: Snapshot) -> RouteState:
        """That of a look, made when it is first asked for. Raises what Connection.dump raises."""
        known = snapshot.get_or_create(ROUTES, lambda: cls(snapshot))
        show_verdicts(snapshot)
        return known

    def load(self, sockets: Iterable[Socket]) -> None:
        """Find out what is not known yet, each distinct question once.

        A look-up without a usable answer leaves its sockets unknown. Raises what Connection.query
        raises.
        """
        known = self._paths
        new: list[tuple[Path, _Extras | None]] = []
        for sock in sockets:
            key = self._key(sock)
            if key is None:
                continue
            path = known.get(key)
            if path is None:
                known[key] = path = Path(sock.local_address, sock.remote_address, sock.ifindex)
                path.meaningless = _is_meaningless(path.local)
                if not path.meaningless:
                    new.append((path, _NO_EXTRAS if len(key) == 4 else key[4]))
            sock.cache(_PATH, path)
        if new:
            self._find_locals([path for path, _extras in new])
            self._find_routes(new)
            self._look_again([path for path, _extras in new])

    def evaluate(self, sock: Socket, name: str, to: Collection[str] | None = None) -> bool | None:
        """Whether the verdict of that name (STRANDED) holds; None: not known, or not asked.

        to: names of interfaces; `rerouted` holds only where packets can leave by no other.
        """
        path = self._path(sock)
        held = None if path is None else path.evaluate(name, self._interfaces)
        if path is None or not held:
            return held
        if name == REROUTED and to is not None:
            ways = self._interfaces.names(path.ways or ())
            if not set(to).issuperset(ways):
                return False
        return _is_ordinary(sock)

    def verdicts(self, sock: Socket) -> list[Verdict] | None:
        """The verdicts that hold, with their evidence; None: not known, or not asked."""
        path = self._path(sock)
        held = None if path is None else path.verdicts(self._interfaces)
        if not held:
            return held
        ordinary = _is_ordinary(sock)
        return None if ordinary is None else held if ordinary else []

    def _path(self, sock: Socket) -> Path | None:
        path = sock.cached(_PATH)
        if path is None:
            # Another subject of the same socket may have been asked about.
            key = self._key(sock)
            path = None if key is None else self._paths.get(key)
            sock.cache(_PATH, path)
        return path

    def _key(self, sock: Socket) -> _Key | None:
        """What tells one path from another; None: a socket without a peer, or one that has other
        paths beside this (MPTCP)."""
        message = sock.message
        if message.protocol == "tcp":
            if not message.dport:
                return None
        elif message.protocol == "mptcp" or message.state == constants.CLOSED:
            return None
        if self._only_addresses:
            return message.family, message.src, message.dst, message.ifindex
        extras = self._extras(sock)
        return message.family, message.src, message.dst, message.ifindex, extras

    def _extras(self, sock: Socket) -> _Extras | None:
        """(mark, uid, DS field, protocol, ports) as far as rules look at them; None: the kernel
        did not tell one of those."""
        four = len(sock.remote_address) == 4
        asked = self._needs[4 if four else 16]
        mark = uid = None
        tos = protocol = sport = dport = 0
        if asked.unknowable:
            return None
        if asked.mark:
            mark = sock.mark
            if mark is None:
                return None
        if asked.uid:
            uid = sock.uid
            if uid is None:
                return None
        if asked.tos:
            raw = sock.attributes.get(inet_diag.TOS if four else inet_diag.TCLASS)
            if not raw:
                return None
            tos = raw[0] & _DSCP
        if asked.ports:
            # Others than these and ICMP are no question (rtm_getroute_parse_ip_proto).
            if sock.protocol not in _WITH_PORTS:
                return None
            protocol = _WITH_PORTS[sock.protocol]
            sport, dport = sock.local_port, sock.remote_port
        return mark, uid, tos, protocol, sport, dport

    def _get(self, queries: Iterable[RouteQuery]) -> None:
        new = list(dict.fromkeys(each for each in queries if each not in self._replies))
        if new:
            self._replies.update(zip(new, route_get.get(self._connection, new)))

    def _find_locals(self, paths: list[Path]) -> None:
        """Of addresses that no interface holds: whether the FIB calls them this host's (AnyIP)."""
        asked: list[tuple[Path, RouteQuery]] = []
        for path in paths:
            if path.holders(self._interfaces):
                path.is_local = True
            else:
                # An address is asked for in its VRF, or on its link; by any other interface the
                # kernel would look for a way out.
                scoped = is_link_local(path.local)
                oif = path.device if scoped else self._interfaces.vrf(path.device)
                asked.append((path, RouteQuery(path.local, oif=oif)))
        self._get(query for _path, query in asked)
        for path, query in asked:
            answer = self._replies[query]
            path.local_answer = answer
            path.is_local = self._is_local(path.local, answer)

    def _is_local(self, address: bytes, answer: RouteReply) -> bool | None:
        if not answer.errno:
            if answer.kind in _HERE:
                return True
        elif answer.errno not in _NO_ROUTE and answer.errno not in _REFUSED:
            return None
        if self._needs[len(address)].ordinary:
            return False
        # Rules may send what comes in to a table in which the address is local. A default route of
        # that kind is for transparent sockets (TPROXY), which are protected anyway.
        for each in self._routes_of(routes.LOCAL):
            if each.prefix_length and each.covers(address):
                return None
        return False

    def _routes_of(self, kind: int) -> list[routes.Route]:
        if kind not in self._routes:
            self._routes[kind] = routes.routes(self._connection, [kind])
        return self._routes[kind]

    def _find_routes(self, new: list[tuple[Path, _Extras | None]]) -> None:
        asked: list[tuple[Path, list[RouteQuery]]] = []
        for path, extras in new:
            queries = self._queries(path, extras)
            if queries:
                asked.append((path, queries))
        self._get(query for _path, queries in asked for query in queries)
        doubtful: list[tuple[Path, RouteQuery]] = []
        for path, queries in asked:
            self._take(path, [self._replies[each] for each in queries])
            if not path.whole and self._is_suspect(path):
                doubtful.append((path, queries[0]._replace(whole_route=True)))
        self._get(query for _path, query in doubtful)
        for path, query in doubtful:
            _take_whole(path, self._replies[query])

    def _queries(self, path: Path, extras: _Extras | None) -> list[RouteQuery]:
        """What tells where packets to the peer go; none where nothing can."""
        if extras is None or _is_meaningless(path.remote):
            return []
        local, remote, device = path.local, path.remote, path.device
        mark, uid, tos, protocol, sport, dport = extras
        if is_link_local(remote) and self._is_vrf(device):
            # By the VRF's device no link-local address is reached (vrf_link_scope_lookup), by which
            # of its links is not told.
            return []
        if len(remote) == 16:
            source = local
        elif self._needs[4].source:
            # IPv4 refuses a source that is not local, wherever the packet goes.
            if not path.is_local:
                return []
            source = local
        else:
            source = b""
        query = RouteQuery(remote, source, device, mark, uid, tos, protocol, sport, dport)
        if not device or len(remote) == 4 or is_link_local(remote) or self._is_vrf(device):
            return [query]
        # With a source IPv6 only prefers the device, without one it must be that one, as for a
        # socket that is bound to it (ip6_route_output_flags_noref).
        return [query, query._replace(source=b"")]

    def _is_vrf(self, device: int) -> bool:
        return self._interfaces.vrf(device) == device

    def _take(self, path: Path, answers: list[RouteReply]) -> None:
        """What the answers mean: one, or for IPv6 on a device the preferred and the strict one."""
        device = path.device
        if len(answers) == 2:
            preferred, strict = answers
            chosen = next((a for a in answers if not a.errno and a.oif == device), None)
            if chosen is not None:
                answer = chosen
            elif not preferred.errno and strict.errno:
                # By another interface there is a way, and by its own none, unless some route is for
                # certain sources only.
                if self._needs[16].source or self._has_routes_by_source():
                    return
                answer = strict
            else:
                answer = strict if strict.errno else preferred
        else:
            (answer,) = answers
        path.answer = answer
        refused = self._is_refused(path.remote, answer)
        path.unroutable = refused
        if refused:
            path.ways = ()
        elif refused is False:
            if answer.kind in (routes.LOCAL, routes.ANYCAST):
                path.ways = ()
            elif answer.oif:
                path.ways = (answer.oif,)
                path.whole = answer.oif == device

    def _is_refused(self, address: bytes, answer: RouteReply) -> bool | None:
        if not answer.errno:
            return answer.kind in _REFUSING
        if answer.errno in _NO_ROUTE:
            return True
        kind = _REFUSED.get(answer.errno)
        if kind is None:
            return None
        asked = self._needs[len(address)]
        by_rule = asked.blackhole if kind == routes.BLACKHOLE else asked.prohibit
        refused = by_rule or any(each.covers(address) for each in self._routes_of(kind))
        return True if refused else None

    def _has_routes_by_source(self) -> bool:
        if self._by_source is None:
            found = routes.routes(self._connection)
            self._by_source = any(each.source_length for each in found)
        return self._by_source

    def _is_suspect(self, path: Path) -> bool:
        """Whether the one way that the kernel named makes a verdict hold, if there is no other."""
        if not path.ways:
            return False
        holders = path.holders(self._interfaces)
        leaves_elsewhere = bool(holders) and holders.isdisjoint(path.ways)
        return leaves_elsewhere or not self._interfaces.has_carrier(path.ways[0])

    def _look_again(self, paths: list[Path]) -> None:
        """Where a verdict depends on the interfaces: look at them once more, so that an address or
        a carrier that moved since they were listed strands nobody."""
        if any(path.is_local is False or self._is_suspect(path) for path in paths):
            self._interfaces.add(links.links(self._connection), links.addresses(self._connection))
            for path in self._paths.values():
                path.forget()


ROUTES: Slot[RouteState] = Slot("routes")


def _take_whole(path: Path, answer: RouteReply) -> None:
    """All ways of the route: of several a hash picks one for each connection."""
    if answer.errno or not answer.hops or not set(path.ways or ()).issubset(answer.hops):
        path.ways = None
        return
    path.ways = answer.hops
    path.whole = True


def _is_meaningless(address: bytes) -> bool:
    """No address of one host: unspecified, multicast, or IPv4's limited broadcast."""
    if not any(address):
        return True
    if len(address) == 4:
        return address[0] & 0xF0 == 0xE0 or address == b"\xff\xff\xff\xff"
    return address[0] == 0xFF


def _is_ordinary(sock: Socket) -> bool | None:
    """Whether it may use only addresses of its host: neither transparent nor free-bound, nor
    writing its own headers. None: the kernel did not say: Linux before 5.10, and of TIME_WAIT and
    half-open connections all."""
    raw = sock.attributes.get(inet_diag.SOCKOPT)
    return None if not raw else not raw[0] & _SPARED
