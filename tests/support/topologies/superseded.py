# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers whose clients reconnect while an earlier connection still exists.

Each function opens the earlier connections and returns a scenario with the later steps.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from typing import NamedTuple

from .connection_factory import ConnectionFactory, state, unacknowledged, unread
from .states import CLOSE_WAIT
from .waiting import until

_TCP_REPAIR = 19  # include/uapi/linux/tcp.h
_ports = itertools.count(10_001)


class ClientConnection(NamedTuple):
    """A connection: the sockets of the client and the server, and the port of the client."""

    client: socket.socket
    accepted: socket.socket
    remote_port: int

    def send_from_client(self) -> None:
        """Send data from the client and receive it on the server."""
        self.client.sendall(b"x")
        until(lambda: unread(self.accepted), "data received")
        self.accepted.recv(1)

    def send_from_server(self) -> None:
        """Send data from the server. The client only acknowledges it."""
        self.accepted.sendall(b"x")
        self.client.recv(1)
        until(lambda: not unacknowledged(self.accepted), "data acknowledged")

    def enable_keepalive(self, *, server: bool) -> None:
        """Send a keepalive probe each second, from the server or from the client."""
        sock = self.accepted if server else self.client
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            sock.setsockopt(socket.IPPROTO_TCP, option, 1)


class Servers:
    """Listeners of the server, and connections of the client to them.

    other_client_address, other_server: second addresses of the client and the server.
    """

    def __init__(self, factory: ConnectionFactory) -> None:
        self.factory = factory
        self.other_server = factory.socket_address(factory.add_server_address())
        self.other_client_address = (
            "2001:db8::9" if factory.kind == "inet6" else factory.socket_address("192.0.2.9")
        )
        self._listeners: dict[int, socket.socket] = {}

    def listen(self) -> int:
        """Listen on all addresses. Returns the port."""
        factory, port = self.factory, next(_ports)
        family = socket.AF_INET if factory.kind == "inet" else socket.AF_INET6
        listens = factory.pair.server.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            listens.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, factory.kind == "inet6")
        listens.bind(("", port))
        listens.listen(16)
        self._listeners[port] = listens
        return port

    def connect(self, port: int, *, to: str = "", source: str = "") -> ClientConnection:
        client = self.factory.socket()
        client.bind((source or self.factory.client_address, 0))
        client.connect((to or self.factory.server_address, port))
        accepted, _address = self._listeners[port].accept()
        return ClientConnection(
            client, self.factory.pair.server.close_at_end(accepted), client.getsockname()[1]
        )


class SupersededScenario(NamedTuple):
    """Connections that become superseded, and the steps that lead there.

    ports: ports of the servers. older: connections that are superseded after the late step. late:
    opens the newer connection and returns it. repeated: traffic after the late step, or None.
    """

    ports: tuple[int, ...]
    older: tuple[ClientConnection, ...]
    late: Callable[[], ClientConnection]
    repeated: Callable[[], object] | None = None


def _reconnect(
    servers: Servers, port: int, *, to: str = "", source: str = ""
) -> Callable[[], ClientConnection]:
    def late() -> ClientConnection:
        newer = servers.connect(port, to=to, source=source)
        newer.send_from_client()
        return newer

    return late


def reconnected(servers: Servers) -> SupersededScenario:
    """The client opens a new connection and sends nothing on the old one."""
    port = servers.listen()
    older = servers.connect(port)
    older.send_from_client()
    return SupersededScenario((port,), (older,), _reconnect(servers, port))


def reconnected_twice(servers: Servers) -> SupersededScenario:
    """There are two old connections. On one of them the client never sent data."""
    port = servers.listen()
    older = servers.connect(port), servers.connect(port)
    older[0].send_from_client()
    return SupersededScenario((port,), older, _reconnect(servers, port))


def client_rebooted(servers: Servers) -> SupersededScenario:
    """The client reboots: it drops the old connection without sending a packet (TCP_REPAIR).

    Raises OSError without CONFIG_CHECKPOINT_RESTORE.
    """
    scene = reconnected(servers)
    (older,) = scene.older
    older.client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    older.client.close()
    return scene


def half_closed(servers: Servers) -> SupersededScenario:
    """The client has shut down the old connection, the server has not."""
    scene = reconnected(servers)
    (older,) = scene.older
    older.client.shutdown(socket.SHUT_WR)
    until(lambda: state(older.accepted) == CLOSE_WAIT, "CLOSE_WAIT")
    return scene


def client_keepalive(servers: Servers) -> SupersededScenario:
    """The client sends keepalive probes on the old connection. TCP_INFO does not record them."""
    scene = reconnected(servers)
    scene.older[0].enable_keepalive(server=False)
    return scene


def other_client_address(servers: Servers) -> SupersededScenario:
    """The new connection comes from another address of the client."""
    scene = reconnected(servers)
    return scene._replace(
        older=(), late=_reconnect(servers, scene.ports[0], source=servers.other_client_address)
    )


def other_server_address(servers: Servers) -> SupersededScenario:
    """The new connection goes to another address of the server."""
    scene = reconnected(servers)
    return scene._replace(
        older=(), late=_reconnect(servers, scene.ports[0], to=servers.other_server)
    )


def other_port(servers: Servers) -> SupersededScenario:
    """The new connection goes to another port."""
    scene = reconnected(servers)
    port = servers.listen()
    return SupersededScenario((*scene.ports, port), (), _reconnect(servers, port))


def newer_silent(servers: Servers) -> SupersededScenario:
    """The client sends nothing on the new connection either."""
    scene = reconnected(servers)
    return scene._replace(older=(), late=lambda: servers.connect(scene.ports[0]))


def newer_closes_at_once(servers: Servers) -> SupersededScenario:
    """The new connection is closed at once, as by a health check."""
    scene = reconnected(servers)

    def late() -> ClientConnection:
        newer = servers.connect(scene.ports[0])
        newer.client.shutdown(socket.SHUT_WR)
        until(lambda: state(newer.accepted) == CLOSE_WAIT, "CLOSE_WAIT")
        return newer

    return scene._replace(older=(), late=late)


def older_receives_too(servers: Servers) -> SupersededScenario:
    """The client sends data on the old connection too."""
    scene = reconnected(servers)
    (older,) = scene.older
    return scene._replace(older=(), repeated=older.send_from_client)


def older_acknowledges(servers: Servers) -> SupersededScenario:
    """On the old connection, the client acknowledges data of the server."""
    scene = reconnected(servers)
    (older,) = scene.older
    return scene._replace(older=(), repeated=older.send_from_server)


def older_answers_keepalive(servers: Servers) -> SupersededScenario:
    """On the old connection, the client answers keepalive probes of the server."""
    scene = reconnected(servers)
    scene.older[0].enable_keepalive(server=True)
    return scene._replace(older=())
