# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of many kinds over a network that changes at random.

The expected verdicts come from sending datagrams and from ip(8), not from the core.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import socket
import subprocess
from typing import Any, NamedTuple

from tests.support.topologies.networks import UplinkConnection, Uplinks, ip
from tests.support.topologies.topology import LabNamespace
from tests.support.topologies.waiting import until

_NEAR_ENDS = {"f0": "eth0", "f1": "wlan0"}
_TO4, _TO6 = Uplinks.service4, Uplinks.service6


class Kind(NamedTuple):
    """The properties of a connection. how: arguments of Uplinks.socket."""

    remote: str
    local: str
    how: dict[str, Any]


_KINDS = [
    Kind(_TO4, Uplinks.eth4, {}),
    Kind(_TO4, Uplinks.wlan4, {}),
    Kind(_TO4, Uplinks.eth4, {"mark": 7}),
    Kind(_TO4, Uplinks.eth4, {"device": "eth0"}),
    Kind(_TO4, Uplinks.eth4, {"uid": 1000}),
    Kind(f"::ffff:{_TO4}", f"::ffff:{Uplinks.eth4}", {}),
    Kind(f"::ffff:{_TO4}", f"::ffff:{Uplinks.eth4}", {"mark": 7}),
    Kind(Uplinks.eth4_gateway, Uplinks.eth4, {}),
    Kind(_TO6, Uplinks.eth6, {}),
    Kind(_TO6, Uplinks.wlan6, {}),
    Kind(_TO6, Uplinks.eth6, {"mark": 7}),
    Kind(_TO6, Uplinks.eth6, {"device": "eth0"}),
    Kind(_TO6, Uplinks.eth6, {"uid": 1000}),
    Kind(Uplinks.eth6_gateway, Uplinks.eth6, {}),
]


def _turns(does: str, undoes: str, *things: str) -> list[tuple[str, str]]:
    return [(f"{does} {each}", f"{undoes} {each}") for each in things]


# Changes of the network with their inverse; either may have no effect.
_CHANGES = [
    *_turns(
        "addr del",
        "addr add",
        f"{Uplinks.eth4}/24 dev eth0",
        f"{Uplinks.wlan4}/24 dev wlan0",
        f"{Uplinks.eth6}/64 dev eth0 nodad",
        f"{Uplinks.wlan6}/64 dev wlan0 nodad",
    ),
    *_turns(
        "addr add",
        "addr del",
        f"{Uplinks.eth4}/32 dev wlan0",
        f"{Uplinks.eth6}/128 dev wlan0 nodad",
        f"{Uplinks.eth4}/32 dev lo",
        f"{Uplinks.eth6}/128 dev lo nodad",
    ),
    *((f"link set {link} down", f"link set {link} up") for link in ("eth0", "wlan0", "f0", "f1")),
    *_turns("route del", "route add", Uplinks.default4, Uplinks.default6),
    ("sysctl 1", "sysctl 0"),
    ("sysctl 0", "sysctl 1"),
    *_turns(
        "route add",
        "route del",
        f"{Uplinks.other4} metric 9000",
        f"{Uplinks.other6} metric 9000",
        f"{Uplinks.other6} metric 5",
        f"unreachable {_TO4}/32 metric 3",
        f"blackhole {_TO6}/128 metric 3",
        f"{_TO4}/32 dev tun0 metric 2",
        f"{_TO6}/128 dev tun0 metric 2",
        f"{_TO4}/32 nexthop via {Uplinks.eth4_gateway} nexthop via {Uplinks.wlan4_gateway}",
        f"{_TO6}/128 nexthop via {Uplinks.eth6_gateway} nexthop via {Uplinks.wlan6_gateway}",
        f"local {Uplinks.eth4}/32 dev lo",
        f"local {Uplinks.eth6}/128 dev lo",
    ),
    *(
        (f"{family} rule add {rule}", f"{family} rule del {rule}")
        for family in ("-4", "-6")
        for rule in (
            "pref 101 fwmark 7 table 77",
            "pref 102 not fwmark 7 table 78",
            "pref 103 uidrange 900-1100 table 77",
        )
    ),
]


class Expected(NamedTuple):
    """The required verdicts, and further possible ones that cannot be determined."""

    verdicts: frozenset[str]
    possible: frozenset[str] = frozenset()


class _Links:
    """The links of a namespace, from ip(8)."""

    def __init__(self, where: LabNamespace) -> None:
        shown = [link for link in json.loads(ip(where, "-j addr show")) if link]
        self.carriers = {link["ifname"] for link in shown if "LOWER_UP" in link["flags"]}
        self._held = {
            link["ifname"]: {each["local"] for each in link["addr_info"]} for link in shown
        }

    def with_address(self, address: str) -> set[str]:
        return {link for link, held in self._held.items() if address in held}


class Walk:
    """A sequence of random changes.

    tunnel: the program's end of tun0. opened_connections: a datagram socket
    and a connection of each kind.
    done: the changes so far.
    """

    def __init__(self, uplinks: Uplinks, tunnel: io.FileIO, seed: int) -> None:
        self.done: list[str] = []
        self._uplinks = uplinks
        self._host, self._far = uplinks.host, uplinks.far
        self._tunnel = tunnel
        self._random = random.Random(seed)
        self._several = False
        # Static neighbours and kept addresses make the result independent of timing.
        self._far.sysctl("ipv6/conf/all/keep_addr_on_down", 1)
        ip(self._far, f"addr add {uplinks.eth6_gateway}/128 dev lo nodad")
        self._neighbours = [
            f"neigh replace {address} lladdr {self._hardware(far)} dev {link} nud permanent"
            for far, link, gateways in (
                ("f0", "eth0", (uplinks.eth4_gateway, uplinks.eth6_gateway)),
                ("f1", "wlan0", (uplinks.wlan4_gateway, uplinks.wlan6_gateway)),
            )
            for address in (*gateways, _TO4, _TO6)
        ]
        ip(
            self._host,
            f"route add {uplinks.other4} table 77",
            f"route add {uplinks.other6} table 77",
            "-4 route add default dev tun0 table 78",
            "-6 route add default dev tun0 table 78",
        )
        self.opened_connections: list[tuple[Kind, UplinkConnection, UplinkConnection]] = []
        for kind in _KINDS:
            # A user namespace may have no other users.
            with contextlib.suppress(OSError):
                ends = kind.remote, kind.local
                created = uplinks.udp(*ends, **kind.how), uplinks.tcp(*ends, **kind.how)
                self.opened_connections.append((kind, *created))

    def _hardware(self, far: str) -> str:
        (link,) = json.loads(ip(self._far, f"-j link show {far}"))
        return str(link["address"])

    def step(self) -> None:
        """Apply one random change, or its inverse if it is already in effect."""
        for change in self._random.choice(_CHANGES):
            try:
                self._apply(change)
            except subprocess.CalledProcessError:
                continue
            self.done.append(change)
            break
        # A link that is down has no neighbours.
        with contextlib.suppress(subprocess.CalledProcessError):
            self._host.output("ip", "-force", "-batch", "-", stdin="\n".join(self._neighbours))

    def _apply(self, change: str) -> None:
        if change.startswith("sysctl"):
            for family in ("ipv4", "ipv6"):
                for link in ("all", "eth0", "wlan0"):
                    self._host.sysctl(
                        f"{family}/conf/{link}/ignore_routes_with_linkdown", int(change[-1])
                    )
        else:
            ip(self._far if change.startswith("link set f") else self._host, change)

    def expected(self) -> list[Expected]:
        """The expected verdicts of each connection."""
        links = _Links(self._host)
        self._several = any("nexthop" in ip(self._host, f"{each} route") for each in ("-4", "-6"))
        egress = self._send(links.carriers)
        return [
            self._of(connection[0], by, links)
            for connection, by in zip(self.opened_connections, egress)
        ]

    def _of(self, kind: Kind, egress: set[str], links: _Links) -> Expected:
        local = _plain(kind.local)
        owners = links.with_address(local)
        found = set()
        if not owners and "local" not in self._route(local)[:1]:
            found.add("address_gone")
            if ":" not in local:
                assert not egress
                return Expected(frozenset(found), frozenset({"unroutable", "no_carrier"}))
        if not egress:
            found.add("unroutable")
        elif not egress & links.carriers:
            found.add("no_carrier")
        # Addresses on lo belong to no link, and a bound device is the choice of the socket.
        chosen = egress == {kind.how.get("device")}
        if egress and owners and not chosen and "lo" not in owners and not owners & egress:
            found.add("rerouted")
        return Expected(frozenset(found))

    def _send(self, carriers: set[str]) -> list[set[str]]:
        """For each connection, the links through which its datagrams may leave; empty: they cannot.

        If all these links have a carrier, the datagram must arrive over one of them.
        """
        egress: list[set[str]] = []
        due: dict[bytes, set[str]] = {}
        for number, (kind, datagrams, _connection) in enumerate(self.opened_connections):
            payload = b"%d after %d" % (number, len(self.done))
            datagrams.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            try:
                datagrams.sock.send(payload)
            except OSError:
                egress.append(set())
                continue
            egress.append(self._ways(kind))
            if egress[-1] <= carriers:
                due[payload] = egress[-1]
        came: dict[bytes, str] = {}

        def arrived() -> bool:
            came.update(self._arrivals())
            return due.keys() <= came.keys()

        until(arrived, f"these arrive: {due}")
        assert all(came[payload] in links for payload, links in due.items())
        return egress

    def _ways(self, kind: Kind) -> set[str]:
        """The links of the route for packets of that kind."""
        if "device" in kind.how:
            return {kind.how["device"]}
        arguments = [_plain(kind.remote), "from", _plain(kind.local)]
        for name, value in kind.how.items():
            arguments += [name, str(value)]
        # The exact route matters only with several next hops.
        return _devices(self._route(*(["fibmatch"] if self._several else []), *arguments))

    def _route(self, *question: str) -> list[str]:
        """The words of `ip route get`; none: there is no route."""
        with contextlib.suppress(subprocess.CalledProcessError):
            return self._host.output("ip", "route", "get", *question).split()
        return []

    def _arrivals(self) -> list[tuple[bytes, str]]:
        """Received payloads, each with the link of the host through which it left."""
        found = [(data, _NEAR_ENDS[link]) for data, link in self._uplinks.received_datagrams()]
        while packet := self._tunnel.read(2048):
            found.append((packet[28 if packet[0] >> 4 == 4 else 48 :], "tun0"))
        return found


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def _devices(words: list[str]) -> set[str]:
    return {after for word, after in zip(words, words[1:]) if word == "dev"}
