# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The request socket: one request and one answer for each client, never blocking.

The main loop polls ``sources()`` and ``writers()`` and calls ``serve()``. A client that sends
nothing wakes nobody up. It loses its place when a client that wants one finds its time over.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from ..errors import InputError
from ..host.peer import Peer, peer_of
from . import protocol
from .event_stream import MAX_BACKLOG_BYTES, EventStream
from .protocol import Request

# Connections of one user, readers of events included, and of all users but root.
MAX_CLIENTS_PER_USER = 8
MAX_CLIENTS = 64
# How long a client may take to send its request and to read the answer, in seconds.
CLIENT_TIMEOUT_S = 5.0
# Changes that a user other than root may make within that many seconds.
_MAX_CHANGES, _CHANGE_WINDOW_S = 10, 10.0
# The group of root, and the one that the kernel shows for a group of another user namespace.
_NOBODYS_GROUPS = frozenset({0, 65534})
# Connections that one call of serve() accepts.
_MAX_ACCEPTS = 64
_BACKLOG = 64


class Handler(Protocol):
    """Carries out a request that was checked, and returns the answer line. Does not raise."""

    def __call__(self, peer: Peer, request: Request) -> bytes: ...


class _Client:
    """A client. received: until the line feed. answer: what is still to be sent; None: reading."""

    def __init__(self, connection: socket.socket, peer: Peer, deadline: float) -> None:
        self.connection = connection
        self.peer = peer
        self.deadline = deadline
        self.received = b""
        self.answer: bytes | None = None
        self.follows = False

    def fileno(self) -> int:
        return self.connection.fileno()


class RequestServer:
    """Listens on a unix socket for requests, and passes readers of events to a stream.

    path: of the socket; replaces the one of a killed agent. uid, gid: of the agent; its user, root
    and the members of its group may send requests. The group of root gives no permission. mode: who
    may connect, since connect(2) needs write permission. Raises OSError, also if another agent
    listens there.
    """

    def __init__(
        self,
        path: str,
        stream: EventStream,
        *,
        mode: int = 0o660,
        uid: int | None = None,
        gid: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._stream = stream
        self._uid = os.geteuid() if uid is None else uid
        self._gid = os.getegid() if gid is None else gid
        self._monotonic = monotonic
        self._clients: list[_Client] = []
        self._changes = _ChangeLimit()
        self._out_of_descriptors = False
        self.handler: Handler | None = None
        self._listener = _listen(path, mode)

    def sources(self) -> list[socket.socket | _Client]:
        """What to poll for input. Without the listener for one poll if no descriptor was left."""
        waiting: list[socket.socket | _Client] = [
            client for client in self._clients if client.answer is None
        ]
        if not self._out_of_descriptors:
            waiting.append(self._listener)
        self._out_of_descriptors = False
        return waiting

    def writers(self) -> list[_Client]:
        """What to poll for output: clients that have not read their whole answer."""
        return [client for client in self._clients if client.answer is not None]

    def serve(self, ready: set[int]) -> bool:
        """Continue with the clients whose descriptors are ready, and accept new ones.

        Returns whether one of the descriptors was of this server.
        """
        active = [client for client in self._clients if client.fileno() in ready]
        connecting = self._listener.fileno() in ready
        for client in active:
            self._continue(client)
        self._expire()
        if connecting:
            self._stream.drop_disconnected()
            for _number in range(_MAX_ACCEPTS):
                if not self._accept():
                    break
        return connecting or bool(active)

    def _accept(self) -> bool:
        """Accept a client; False: none is pending, or it cannot be accepted now."""
        try:
            connection, _address = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            # On ECONNABORTED the client is gone; otherwise the agent is out of descriptors.
            self._out_of_descriptors = error.errno != errno.ECONNABORTED
            return not self._out_of_descriptors
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_BACKLOG_BYTES)
            peer = peer_of(connection)
        except OSError:
            connection.close()
            return True
        client = _Client(connection, peer, self._monotonic() + CLIENT_TIMEOUT_S)
        refusal = self._refusal(peer)
        if refusal is not None:
            _refuse(client, refusal)
            return True
        self._clients.append(client)
        self._continue(client)
        return True

    def _refusal(self, peer: Peer) -> str | None:
        """The error for a client that may not send a request; None: it may."""
        member = self._gid not in _NOBODYS_GROUPS and self._gid in peer.groups
        if peer.uid not in (0, self._uid) and not member:
            return protocol.NOT_PERMITTED
        users = [client.peer.uid for client in self._clients] + self._stream.users()
        if users.count(peer.uid) >= MAX_CLIENTS_PER_USER:
            return protocol.TOO_MANY
        if peer.uid != 0 and len(users) - users.count(0) >= MAX_CLIENTS:
            return protocol.TOO_MANY
        return None

    def _expire(self) -> None:
        now = self._monotonic()
        for client in [each for each in self._clients if now >= each.deadline]:
            self._clients.remove(client)
            _refuse(client, protocol.TIMEOUT)

    def _continue(self, client: _Client) -> None:
        """Receive and send what is possible now. Forgets the client at its end."""
        try:
            if client.answer is None:
                client.answer = self._receive(client)
            if client.answer:
                client.answer = client.answer[client.connection.send(client.answer) :]
        except BlockingIOError:
            return
        except OSError:
            client.follows, client.answer = False, b""
        if client.answer == b"":
            self._clients.remove(client)
            if client.follows:
                self._stream.add(client.connection, client.peer.uid)
            else:
                client.connection.close()

    def _receive(self, client: _Client) -> bytes | None:
        """The answer to a request; b'': none, since the client is gone; None: not complete."""
        limit = protocol.MAX_REQUEST_BYTES + 1
        chunk = client.connection.recv(limit + 1 - len(client.received))
        client.received += chunk
        line, feed, rest = client.received.partition(b"\n")
        if len(line) >= limit:
            return protocol.error(protocol.TOO_LONG)
        if not feed:
            return None if chunk else b""
        if rest:
            return protocol.error(protocol.INVALID, message="more than one line")
        # A client that gave up has reported that the request failed.
        return b"" if _hung_up(client.connection) else self._answer(client, line)

    def _answer(self, client: _Client, line: bytes) -> bytes:
        peer = client.peer
        try:
            request = protocol.parse_request(line)
        except InputError as error:
            return protocol.invalid(error)
        if request.name in protocol.PRIVILEGED and peer.uid not in (0, self._uid):
            return protocol.error(protocol.NOT_PERMITTED)
        if request.name in protocol.CHANGES and not self._changes.allow(
            peer.uid, self._monotonic()
        ):
            return protocol.error(protocol.TOO_OFTEN)
        if request.name == protocol.EVENTS:
            client.follows = True
            return protocol.answer()
        if self.handler is None:
            return protocol.error(protocol.FAILED, errno=errno.EAGAIN)
        return self.handler(peer, request)

    def close(self) -> None:
        # The listener first: a disconnected reader can then tell that the agent has stopped.
        self._listener.close()
        with suppress(OSError):
            os.unlink(self._path)
        for client in self._clients:
            client.connection.close()
        self._clients = []
        self._stream.close()


class _ChangeLimit:
    """Limits how often a user may change the state of the agent: each change is a flush to disk."""

    def __init__(self) -> None:
        self._changes: dict[int, deque[float]] = {}

    def allow(self, uid: int, now: float) -> bool:
        """Count a change of a user. Returns False above the limit, which root does not have."""
        self._changes = {
            user: at for user, at in self._changes.items() if now - at[-1] < _CHANGE_WINDOW_S
        }
        if uid == 0:
            return True
        changes = self._changes.setdefault(uid, deque(maxlen=_MAX_CHANGES))
        if len(changes) == _MAX_CHANGES and now - changes[0] < _CHANGE_WINDOW_S:
            return False
        changes.append(now)
        return True


def _listen(path: str, mode: int) -> socket.socket:
    """Listen on a path. Raises OSError."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is not a socket", path)
        if _accepts_connections(path):
            raise OSError(errno.EADDRINUSE, "another agent is running", path)
        os.unlink(path)
    listener = socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    try:
        # Closes the gap between bind and chmod.
        before = os.umask(0o777)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        os.chmod(path, mode)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _accepts_connections(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            # EAGAIN: the listen queue is full, so somebody listens.
            pass
        return True


def _hung_up(connection: socket.socket) -> bool:
    poller = select.poll()
    poller.register(connection, 0)
    return bool(poller.poll(0))


def _refuse(client: _Client, name: str) -> None:
    with suppress(OSError):
        client.connection.send(protocol.error(name))
    client.connection.close()
