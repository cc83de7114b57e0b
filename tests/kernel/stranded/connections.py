# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections over two uplinks, and what is told of each when something happens to the network."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import Any

from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.query import find, record
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.needs import Need
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.support.topologies.networks import Talk, Uplinks
from tests.support.topologies.states import cookie_of
from tests.support.topologies.topology import LabNamespace

GONE, UNROUTABLE = frozenset({"address_gone"}), frozenset({"unroutable"})
CARRIER, REROUTED = frozenset({"no_carrier"}), frozenset({"rerouted"})
NOTHING: frozenset[str] = frozenset()
VERDICTS = ("address_gone", "unroutable", "no_carrier", "rerouted")
_EVERY: Mapping[str, Any] = {"protocol": ["tcp", "udp"], "state": "all"}


def view_of(where: LabNamespace) -> NamespaceSession:
    (namespace,) = namespaces.resolve([where.name])
    return NamespaceSession(Host(), namespace)


def chosen(where: LabNamespace, **selector: Any) -> set[int]:
    """The cookies of the TCP and UDP sockets, in any state, for which the selector is true."""
    with view_of(where) as session:
        parsed = parse_selector({**_EVERY, **selector}, names=session.host)
        return {decoded.cookie for decoded in find.find(session, parsed)}


def recorded(where: LabNamespace, **selector: Any) -> dict[int, list[dict[str, Any]] | None]:
    """By cookie: what the records of TCP and UDP sockets, in any state, say of `stranded`."""
    with view_of(where) as session:
        parsed = parse_selector({**_EVERY, **selector}, names=session.host)
        snapshot = session.snapshot()
        found = find.find(
            session,
            parsed,
            extensions=record.extensions(["verdicts"]),
            needs={Need.ROUTES},
            snapshot=snapshot,
        )
        return {each.cookie: record.record(each, ["verdicts"])["stranded"] for each in found}


def strandings(where: LabNamespace) -> dict[int, frozenset[str] | None]:
    """By cookie: the verdicts of each socket, as the records have them; None: unknown.

    The selectors say the same: of whom a verdict holds, and of whom it does not.
    """
    told = {
        cookie: None if said is None else frozenset(each["verdict"] for each in said)
        for cookie, said in recorded(where).items()
    }
    undecided = {cookie for cookie, said in told.items() if said is None}
    unlike: set[int] = set()
    for name in VERDICTS:
        true = {cookie for cookie, said in told.items() if name in (said or ())}
        assert chosen(where, stranded=name) == true
        false = chosen(where, **{"not": {"stranded": name}})
        assert not true & false
        unlike |= told.keys() - true - false
    # In doubt of one verdict only those of whom another is true are told of.
    assert undecided <= unlike
    assert not any(told[cookie] == NOTHING for cookie in unlike)
    assert chosen(where, stranded=list(VERDICTS)) == {each for each, said in told.items() if said}
    return told


class Connections:
    """Connections of every kind, by a name for people.

    four, six: those that hold an address of eth0. others: those that nothing that happens to eth0
    concerns. There are also some without a remote, of which nothing is known.
    """

    def __init__(self, uplinks: Uplinks, *, over_wlan0: bool = True) -> None:
        four, six = uplinks.service4, uplinks.service6
        self.host = uplinks.host
        self.four = {
            "tcp": uplinks.tcp(four),
            "tcp, mapped": uplinks.tcp(f"::ffff:{four}"),
            "tcp, accepted": uplinks.accepted(four, uplinks.eth4),
            "udp": uplinks.udp(four),
            "udp, mapped": uplinks.udp(f"::ffff:{four}"),
            "tcp, bound": uplinks.tcp(four, uplinks.eth4),
        }
        self.six = {
            "tcp6": uplinks.tcp(six),
            "tcp6, accepted": uplinks.accepted(six, uplinks.eth6),
            "udp6": uplinks.udp(six),
            "tcp6, bound": uplinks.tcp(six, uplinks.eth6),
        }
        self.others = {
            "loopback": uplinks.within("127.0.0.1"),
            "loopback, any address of it": uplinks.within("127.3.2.1"),
            "loopback6": uplinks.within("::1"),
        }
        if over_wlan0:
            self.others |= {
                "wlan": uplinks.tcp(uplinks.wlan4_gateway),
                "wlan6": uplinks.tcp(uplinks.wlan6_gateway),
                "wlan, accepted": uplinks.accepted(uplinks.wlan4_gateway, uplinks.wlan4),
                "wlan, udp": uplinks.udp(uplinks.wlan4_gateway),
                "both ends local": uplinks.within(uplinks.wlan4),
                "both ends local6": uplinks.within(uplinks.wlan6),
            }
        self._without_peer = set()
        for address in (uplinks.eth4, uplinks.eth6):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                sock = uplinks.socket(uplinks.host, kind, address, address)
                if kind == socket.SOCK_STREAM:
                    sock.listen()
                self._without_peer.add(cookie_of(sock))

    def are(
        self,
        four: Iterable[str],
        six: Iterable[str],
        more: Mapping[str, tuple[Talk, Iterable[str]]] | None = None,
    ) -> None:
        """The verdicts of those that hold an address of eth0, and of more, which may be some of
        them. Nobody else has any.
        """
        told = strandings(self.host)
        expected = {each.cookie: (name, frozenset(four)) for name, each in self.four.items()}
        expected.update((each.cookie, (name, frozenset(six))) for name, each in self.six.items())
        expected.update((each.cookie, (name, NOTHING)) for name, each in self.others.items())
        for name, (talk, said) in (more or {}).items():
            expected[talk.cookie] = name, frozenset(said)
        found = {name: told.pop(cookie) for cookie, (name, _said) in expected.items()}
        assert found == dict(expected.values())
        assert not any(told.values()), told
        assert all(told[cookie] is None for cookie in self._without_peer)
