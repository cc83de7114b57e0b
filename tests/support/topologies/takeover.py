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

from .bed import Bed, state, unacknowledged, unread
from .states import CLOSE_WAIT
from .waiting import until

_TCP_REPAIR = 19  # include/uapi/linux/tcp.h
_ports = itertools.count(10_001)


class Call(NamedTuple):
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


class Desk:
    """Where servers listen and clients call. other_client: a second address of the client's;
    other_server: one of the server's."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.other_server = bed.written(bed.mortal())
        self.other_client = "2001:db8::9" if bed.kind == "inet6" else bed.written("192.0.2.9")
        self._listeners: dict[int, socket.socket] = {}

    def listen(self) -> int:
        """A server on every address; its port."""
        bed, port = self.bed, next(_ports)
        family = socket.AF_INET if bed.kind == "inet" else socket.AF_INET6
        listens = bed.pair.server.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            listens.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bed.kind == "inet6")
        listens.bind(("", port))
        listens.listen(16)
        self._listeners[port] = listens
        return port

    def call(self, port: int, *, to: str = "", source: str = "") -> Call:
        client = self.bed.socket()
        client.bind((source or self.bed.client_address, 0))
        client.connect((to or self.bed.server_address, port))
        accepted, _address = self._listeners[port].accept()
        return Call(client, self.bed.pair.server.keep(accepted), client.getsockname()[1])


class Scene(NamedTuple):
    """ports: the servers'. older: those whose place another has taken, once late has happened.

    newer: the one that has. turn: what then goes on.
    """

    ports: tuple[int, ...]
    older: tuple[Call, ...]
    late: Callable[[], Call]
    turn: Callable[[], object] | None = None


def _speaks(desk: Desk, port: int, *, to: str = "", source: str = "") -> Callable[[], Call]:
    def late() -> Call:
        newer = desk.call(port, to=to, source=source)
        newer.say()
        return newer

    return late


def come_again(desk: Desk) -> Scene:
    """The client has a new connection, and nothing comes on the old one."""
    port = desk.listen()
    older = desk.call(port)
    older.say()
    return Scene((port,), (older,), _speaks(desk, port))


def come_again_and_again(desk: Desk) -> Scene:
    """Two old ones, of which one never had anything to say."""
    port = desk.listen()
    older = desk.call(port), desk.call(port)
    older[0].say()
    return Scene((port,), older, _speaks(desk, port))


def rebooted(desk: Desk) -> Scene:
    """The client's host knows nothing of the old connection, and never said so.

    Raises OSError where sockets cannot be forgotten (CONFIG_CHECKPOINT_RESTORE).
    """
    scene = come_again(desk)
    (older,) = scene.older
    older.client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    older.client.close()
    return scene


def half_closed(desk: Desk) -> Scene:
    """The client was done with the old one, the server is not."""
    scene = come_again(desk)
    (older,) = scene.older
    older.client.shutdown(socket.SHUT_WR)
    until(lambda: state(older.accepted) == CLOSE_WAIT, "CLOSE_WAIT")
    return scene


def asked_by_the_client(desk: Desk) -> Scene:
    """The client's keepalive asks on the old one, which no clock of the server takes note of."""
    scene = come_again(desk)
    scene.older[0].ask_each_second(server=False)
    return scene


def other_client(desk: Desk) -> Scene:
    """The new one comes from another address."""
    scene = come_again(desk)
    return scene._replace(older=(), late=_speaks(desk, scene.ports[0], source=desk.other_client))


def other_server_address(desk: Desk) -> Scene:
    """The new one goes to another address of the server."""
    scene = come_again(desk)
    return scene._replace(older=(), late=_speaks(desk, scene.ports[0], to=desk.other_server))


def other_port(desk: Desk) -> Scene:
    """The new one goes to another port."""
    scene = come_again(desk)
    port = desk.listen()
    return Scene((*scene.ports, port), (), _speaks(desk, port))


def nobody_speaks(desk: Desk) -> Scene:
    """The new one has nothing to say either."""
    scene = come_again(desk)
    return scene._replace(older=(), late=lambda: desk.call(scene.ports[0]))


def only_a_look(desk: Desk) -> Scene:
    """The new one opens and closes, as a health check does."""
    scene = come_again(desk)

    def late() -> Call:
        newer = desk.call(scene.ports[0])
        newer.client.shutdown(socket.SHUT_WR)
        until(lambda: state(newer.accepted) == CLOSE_WAIT, "CLOSE_WAIT")
        return newer

    return scene._replace(older=(), late=late)


def both_speak(desk: Desk) -> Scene:
    """The old one is heard of too."""
    scene = come_again(desk)
    (older,) = scene.older
    return scene._replace(older=(), turn=older.say)


def old_one_listens(desk: Desk) -> Scene:
    """The old one acknowledges what it is told."""
    scene = come_again(desk)
    (older,) = scene.older
    return scene._replace(older=(), turn=older.tell)


def old_one_answers_keepalive(desk: Desk) -> Scene:
    """The old one answers keepalive probes of the server."""
    scene = come_again(desk)
    scene.older[0].ask_each_second(server=True)
    return scene._replace(older=())
