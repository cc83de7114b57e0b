# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with two links on the fake kernel, and the verdicts for its sockets."""

from __future__ import annotations

import socket

from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.netlink import inet_diag, routes
from linuxnet_sockets.netlink.connection import NETLINK_ROUTE, NETLINK_SOCK_DIAG, Connection
from linuxnet_sockets.sockets.snapshot import Snapshot
from linuxnet_sockets.sockets.socket import Socket
from linuxnet_sockets.verdicts.route_state import EXTENSIONS, RouteState
from linuxnet_sockets.verdicts.stranded import STRANDED
from tests.support.fake_kernel import FakeKernel, FakeLink, FakeRoute, FakeSocket, model

LO, ETH0, WG0 = 1, 2, 3
NO_CARRIER = 0x1003
DOWN = 0x1002
LOCAL, LOCAL6 = "192.0.2.1", "2001:db8::1"
WG_LOCAL, WG_LOCAL6 = "10.0.0.1", "2001:db8:a::1"
LINK_LOCAL = "fe80::1"
REMOTE, REMOTE6 = "203.0.113.7", "2001:db8:f::7"
MAPPED, MAPPED_REMOTE = f"::ffff:{LOCAL}", f"::ffff:{REMOTE}"

# Ends of a connection over eth0, in each family.
ENDS = [(LOCAL, REMOTE), (LOCAL6, REMOTE6), (MAPPED, MAPPED_REMOTE)]

TRANSPARENT, FREEBIND = b"\x72\0", b"\x56\0"
SOCKOPT = 22


class Networked:
    """A host with default routes over eth0, and a second link wg0."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.here = self.kernel.current
        self.eth0 = self.here.link(ETH0, "eth0", f"{LOCAL}/24", f"{LOCAL6}/64", f"{LINK_LOCAL}/64")
        self.wg0 = self.here.link(WG0, "wg0", f"{WG_LOCAL}/24", f"{WG_LOCAL6}/64")
        self.defaults = [
            FakeRoute("0.0.0.0/0", ((ETH0, "192.0.2.254"),)),
            FakeRoute("::/0", ((ETH0, "2001:db8::254"),)),
        ]
        self.here.routes += self.defaults

    def vpn(self, *, table: int = 254) -> None:
        """Route all traffic over wg0."""
        for prefix in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "2000::/3"):
            self.here.routes.append(FakeRoute(prefix, ((WG0, None),), table=table))

    def drop(self, *addresses: str) -> None:
        """Delete addresses from their interfaces."""
        self.here.addresses = [each for each in self.here.addresses if each.local not in addresses]

    def unroute(self) -> None:
        for route in self.defaults:
            self.here.routes.remove(route)

    def snapshot(self) -> Snapshot:
        host = Host(open_netlink=self.kernel.open)
        namespace = Namespace("current", None, self.here.identity)
        return Snapshot(
            host,
            namespace,
            lambda: Connection(self.kernel.open("current", NETLINK_ROUTE)),
            lambda: Connection(self.kernel.open("current", NETLINK_SOCK_DIAG)),
        )

    def sockets(self, snapshot: Snapshot) -> list[Socket]:
        diag = Connection(self.kernel.open("current", NETLINK_SOCK_DIAG))
        return [
            Socket(sock, snapshot)
            for protocol in ("tcp", "udp", "udplite", "mptcp")
            for family in (socket.AF_INET, socket.AF_INET6)
            for sock in inet_diag.dump(diag, protocol, family, extensions=EXTENSIONS)
        ]

    def route_state(self) -> tuple[RouteState, list[Socket]]:
        """Load the route state of all added sockets."""
        snapshot = self.snapshot()
        sockets = self.sockets(snapshot)
        route_state = RouteState.of(snapshot)
        route_state.load(sockets)
        return route_state, sockets

    def evaluate(self, *added: FakeSocket) -> set[str]:
        """Add sockets and return the true verdicts of the last one; unknown ones end with `?`."""
        self.here.add(*added)
        route_state, sockets = self.route_state()
        decoded = next(each for each in sockets if each.cookie == added[-1].cookie)
        values = {name: route_state.evaluate(decoded, name) for name in STRANDED}
        verdicts = route_state.verdicts(decoded)
        true = {name for name, value in values.items() if value}
        unknown = {f"{name}?" for name, value in values.items() if value is None}
        assert (verdicts is None) == (not true and bool(unknown))
        assert {each.verdict for each in verdicts or []} == true
        return true | unknown

    def evidence(self, sock: FakeSocket) -> dict[str, dict[str, object]]:
        self.here.add(sock)
        route_state, (decoded,) = self.route_state()
        found = route_state.verdicts(decoded)
        assert found is not None
        assert {each.for_ms for each in found} <= {None}
        return {each.verdict: each.evidence for each in found}

    @property
    def looked_up(self) -> list[bytes]:
        """The payloads of route look-ups for a single destination."""
        return [
            payload
            for kind, payload in self.here.requests
            if kind == routes.RTM_GETROUTE and payload[1]
        ]


def connection(local: str = LOCAL, remote: str = REMOTE, **fields: object) -> FakeSocket:
    given = {"local_port": 40_000, "remote_port": 443, **fields}
    return FakeSocket(local=local, remote=remote, **given)  # type: ignore[arg-type]


def datagrams(local: str = LOCAL, remote: str = REMOTE, **fields: object) -> FakeSocket:
    return connection(local, remote, protocol=model.UDP, **fields)


def link(index: int, name: str, **fields: object) -> FakeLink:
    return FakeLink(index, name, **fields)  # type: ignore[arg-type]
