# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers whose clients come again while an earlier connection of theirs is still there.

Each function makes what is there early, and gives the Scene that goes on from it after a while.
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
    """A connection: the client's descriptor, the server's, and the client's port."""

    client: socket.socket
    accepted: socket.socket
    remote_port: int

    def say(self) -> None:
        """The server hears from the client."""
        self.client.sendall(b"x")
        until(lambda: unread(self.accepted), "it has arrived")
        self.accepted.recv(1)

    def tell(self) -> None:
        """The client has nothing to say, and acknowledges what the server tells it."""
        self.accepted.sendall(b"x")
        self.client.recv(1)
        until(lambda: not unacknowledged(self.accepted), "it is acknowledged")

    def ask_each_second(self, *, server: bool) -> None:
        """Send keepalive probes."""
        sock = self.accepted if server else self.client
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            sock.setsockopt(socket.IPPROTO_TCP, option, 1)


class Servers:
    """Where servers listen and clients call. other_client: a second address of the client's;
    other_server: one of the server's."""

    def __init__(self, factory: ConnectionFactory) -> None:
        self.factory = factory
        self.other_server = factory.written(factory.add_server_address())
        self.other_client_address = (
            "2001:db8::9" if factory.kind == "inet6" else factory.written("192.0.2.9")
        )
        self._listeners: dict[int, socket.socket] = {}

    def listen(self) -> int:
        """A server on every address; its port."""
        factory, port = self.factory, next(_ports)
        family = socket.AF_INET if factory.kind == "inet" else socket.AF_INET6
        listens = factory.pair.server.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            listens.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, factory.kind == "inet6")
        listens.bind(("", port))
        listens.listen(16)
        self._listeners[port] = listens
        return port

    def call(self, port: int, *, to: str = "", source: str = "") -> ClientConnection:
        client = self.factory.socket()
        client.bind((source or self.factory.client_address, 0))
        client.connect((to or self.factory.server_address, port))
        accepted, _address = self._listeners[port].accept()
        return ClientConnection(
            client, self.factory.pair.server.close_at_end(accepted), client.getsockname()[1]
        )


class SupersededScenario(NamedTuple):
    """ports: the servers'. older: those whose place another has taken, once late has happened.

    newer: the one that has. turn: what then goes on.
    """

    ports: tuple[int, ...]
    older: tuple[ClientConnection, ...]
    late: Callable[[], ClientConnection]
    repeated: Callable[[], object] | None = None


def _speaks(
    desk: Servers, port: int, *, to: str = "", source: str = ""
) -> Callable[[], ClientConnection]:
    def late() -> ClientConnection:
        newer = desk.call(port, to=to, source=source)
        newer.say()
        return newer

    return late


def reconnected(desk: Servers) -> SupersededScenario:
    """The client has a new connection, and nothing comes on the old one."""
    port = desk.listen()
    older = desk.call(port)
    older.say()
    return SupersededScenario((port,), (older,), _speaks(desk, port))


def reconnected_twice(desk: Servers) -> SupersededScenario:
    """Two old ones, of which one never had anything to say."""
    port = desk.listen()
    older = desk.call(port), desk.call(port)
    older[0].say()
    return SupersededScenario((port,), older, _speaks(desk, port))


def client_rebooted(desk: Servers) -> SupersededScenario:
    """The client's host knows nothing of the old connection, and never said so.

    Raises OSError where sockets cannot be forgotten (CONFIG_CHECKPOINT_RESTORE).
    """
    scene = reconnected(desk)
    (older,) = scene.older
    older.client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    older.client.close()
    return scene


def half_closed(desk: Servers) -> SupersededScenario:
    """The client was done with the old one, the server is not."""
    scene = reconnected(desk)
    (older,) = scene.older
    older.client.shutdown(socket.SHUT_WR)
    until(lambda: state(older.accepted) == CLOSE_WAIT, "CLOSE_WAIT")
    return scene


def client_keepalive(desk: Servers) -> SupersededScenario:
    """The client's keepalive asks on the old one, which no clock of the server takes note of."""
    scene = reconnected(desk)
    scene.older[0].ask_each_second(server=False)
    return scene


def other_client_address(desk: Servers) -> SupersededScenario:
    """The new one comes from another address."""
    scene = reconnected(desk)
    return scene._replace(
        older=(), late=_speaks(desk, scene.ports[0], source=desk.other_client_address)
    )


def other_server_address(desk: Servers) -> SupersededScenario:
    """The new one goes to another address of the server."""
    scene = reconnected(desk)
    return scene._replace(older=(), late=_speaks(desk, scene.ports[0], to=desk.other_server))


def other_port(desk: Servers) -> SupersededScenario:
    """The new one goes to another port."""
    scene = reconnected(desk)
    port = desk.listen()
    return SupersededScenario((*scene.ports, port), (), _speaks(desk, port))


def newer_silent(desk: Servers) -> SupersededScenario:
    """The new one has nothing to say either."""
    scene = reconnected(desk)
    return scene._replace(older=(), late=lambda: desk.call(scene.ports[0]))


def newer_closes_at_once(desk: Servers) -> SupersededScenario:
    """The new one opens and closes, as a health check does."""
    scene = reconnected(desk)

    def late() -> ClientConnection:
        newer = desk.call(scene.ports[0])
        newer.client.shutdown(socket.SHUT_WR)
        until(lambda: state(newer.accepted) == CLOSE_WAIT, "CLOSE_WAIT")
        return newer

    return scene._replace(older=(), late=late)


def older_receives_too(desk: Servers) -> SupersededScenario:
    """The old one is heard of too."""
    scene = reconnected(desk)
    (older,) = scene.older
    return scene._replace(older=(), repeated=older.say)


def older_acknowledges(desk: Servers) -> SupersededScenario:
    """The old one acknowledges what it is told."""
    scene = reconnected(desk)
    (older,) = scene.older
    return scene._replace(older=(), repeated=older.tell)


def older_answers_keepalive(desk: Servers) -> SupersededScenario:
    """The old one answers keepalive probes of the server."""
    scene = reconnected(desk)
    scene.older[0].ask_each_second(server=True)
    return scene._replace(older=())
