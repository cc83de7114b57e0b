# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections over two uplinks, and their stranded verdicts after a change of the network."""

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
from tests.support.topologies.networks import UplinkConnection, Uplinks
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


def selected(where: LabNamespace, **selector: Any) -> set[int]:
    """The cookies of the TCP and UDP sockets, in any state, for which the selector is true."""
    with view_of(where) as session:
        parsed = parse_selector({**_EVERY, **selector}, names=session.host)
        return {decoded.cookie for decoded in find.find(session, parsed)}


def recorded(where: LabNamespace, **selector: Any) -> dict[int, list[dict[str, Any]] | None]:
    """The `stranded` field of the records of TCP and UDP sockets in any state, by cookie."""
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
    """The verdicts of each socket by cookie, from the records; None: unknown.

    Asserts that selectors agree with the records, with and without not.
    """
    verdicts = {
        cookie: None if entry is None else frozenset(each["verdict"] for each in entry)
        for cookie, entry in recorded(where).items()
    }
    undecided = {cookie for cookie, entry in verdicts.items() if entry is None}
    undetermined: set[int] = set()
    for name in VERDICTS:
        true = {cookie for cookie, entry in verdicts.items() if name in (entry or ())}
        assert selected(where, stranded=name) == true
        false = selected(where, **{"not": {"stranded": name}})
        assert not true & false
        undetermined |= verdicts.keys() - true - false
    # A record with an unknown verdict exists only if another verdict is true.
    assert undecided <= undetermined
    assert not any(verdicts[cookie] == NOTHING for cookie in undetermined)
    assert selected(where, stranded=list(VERDICTS)) == {
        each for each, entry in verdicts.items() if entry
    }
    return verdicts


class Connections:
    """Connections of every kind, by a readable name.

    four, six: connections from an address of eth0. others: connections that eth0 does not affect.
    Sockets without a remote end exist too; their verdicts are unknown.
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
            "loopback": uplinks.connect_locally("127.0.0.1"),
            "loopback, any address of it": uplinks.connect_locally("127.3.2.1"),
            "loopback6": uplinks.connect_locally("::1"),
        }
        if over_wlan0:
            self.others |= {
                "wlan": uplinks.tcp(uplinks.wlan4_gateway),
                "wlan6": uplinks.tcp(uplinks.wlan6_gateway),
                "wlan, accepted": uplinks.accepted(uplinks.wlan4_gateway, uplinks.wlan4),
                "wlan, udp": uplinks.udp(uplinks.wlan4_gateway),
                "both ends local": uplinks.connect_locally(uplinks.wlan4),
                "both ends local6": uplinks.connect_locally(uplinks.wlan6),
            }
        self._without_peer = set()
        for address in (uplinks.eth4, uplinks.eth6):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                sock = uplinks.socket(uplinks.host, kind, address, address)
                if kind == socket.SOCK_STREAM:
                    sock.listen()
                self._without_peer.add(cookie_of(sock))

    def assert_verdicts(
        self,
        four: Iterable[str],
        six: Iterable[str],
        more: Mapping[str, tuple[UplinkConnection, Iterable[str]]] | None = None,
    ) -> None:
        """Assert the verdicts of connections from eth0, and of more; others must have none.

        more: further connections, or exceptions among those from eth0.
        """
        found_by_cookie = strandings(self.host)
        expected = {each.cookie: (name, frozenset(four)) for name, each in self.four.items()}
        expected.update((each.cookie, (name, frozenset(six))) for name, each in self.six.items())
        expected.update((each.cookie, (name, NOTHING)) for name, each in self.others.items())
        for name, (connection, verdicts) in (more or {}).items():
            expected[connection.cookie] = name, frozenset(verdicts)
        found = {name: found_by_cookie.pop(cookie) for cookie, (name, _said) in expected.items()}
        assert found == dict(expected.values())
        assert not any(found_by_cookie.values()), found_by_cookie
        assert all(found_by_cookie[cookie] is None for cookie in self._without_peer)
