# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request socket: permissions, limits, slow and silent clients."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.agent import protocol, request_server
from linuxnet_sockets.agent.event_stream import EventStream
from linuxnet_sockets.agent.protocol import Request
from linuxnet_sockets.agent.request_server import (
    CLIENT_TIMEOUT_S,
    MAX_CLIENTS,
    MAX_CLIENTS_PER_USER,
    RequestServer,
)
from linuxnet_sockets.host.peer import Peer
from tests.support.request_clients import serve_waiting

AGENT, GROUP, MEMBER, STRANGER = 950, 951, 1500, 1501


class Served:
    """A server whose clients have the identity that the test gives them."""

    def __init__(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.now = 100.0
        self.peer = Peer(1, 0, frozenset({0}))
        self.handled: list[tuple[int, Request]] = []
        self.stream = EventStream()
        monkeypatch.setattr(request_server, "peer_of", lambda _connection: self.peer)
        self.server = RequestServer(
            path, self.stream, uid=AGENT, gid=GROUP, monotonic=lambda: self.now
        )
        self.server.handler = self.handle

    def handle(self, peer: Peer, request: Request) -> bytes:
        self.handled.append((peer.uid, request))
        return protocol.answer(done=True)

    def be(self, uid: int, *groups: int) -> None:
        self.peer = Peer(1, uid, frozenset(groups))

    def connect(self, data: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(2)
        client.connect(self.path)
        client.sendall(data)
        return client

    def ask(self, request: object) -> dict[str, Any]:
        """Send one request and return the answer, in one call of the server."""
        data = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        with self.connect(data) as client:
            serve_waiting(self.server)
            return read(client)


def read(client: socket.socket) -> dict[str, Any]:
    found = json.loads(client.makefile("rb").readline())
    assert isinstance(found, dict)
    return found


def name_of(answer: dict[str, Any]) -> str:
    return str(answer["error"]["name"])


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    served = Served(str(tmp_path / "agent.sock"), monkeypatch)
    yield served
    served.server.close()


DONE = {"answer": {"done": True}}


@pytest.mark.parametrize(
    ("uid", "groups", "allowed"),
    [
        (0, (0,), True),
        (AGENT, (GROUP,), True),
        (AGENT, (1,), True),
        (MEMBER, (MEMBER, GROUP), True),
        (STRANGER, (STRANGER, 27), False),
        # The user of another user namespace, and the groups that the kernel shows for its own.
        (65534, (65534,), False),
    ],
)
def test_root_the_agent_and_members_of_its_group_may_ask(
    served: Served, uid: int, groups: tuple[int, ...], allowed: bool
) -> None:
    served.be(uid, *groups)
    answer = served.ask({"request": "pause"})
    if allowed:
        assert answer == DONE
        assert [(uid, request.name) for uid, request in served.handled] == [(uid, "pause")]
    else:
        assert name_of(answer) == "not_permitted"
        assert served.handled == []


@pytest.mark.parametrize("group", [0, 65534])
def test_group_of_root_or_of_nobody_gives_no_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    served = Served(str(tmp_path / "agent.sock"), monkeypatch)
    served.server._gid = group
    served.be(MEMBER, group)
    assert name_of(served.ask({"request": "status"})) == "not_permitted"
    served.server.close()


def test_trial_is_for_root_and_the_agent(served: Served) -> None:
    request = {"request": "trial", "digest": "0" * 64, "within_s": 60}
    served.be(MEMBER, GROUP)
    assert name_of(served.ask(request)) == "not_permitted"
    served.be(0, 0)
    assert served.ask(request) == DONE
    served.be(AGENT, GROUP)
    assert served.ask(request) == DONE
    assert len(served.handled) == 2


def test_request_arrives_in_pieces(served: Served) -> None:
    with served.connect(b'{"request":') as client:
        serve_waiting(served.server)
        client.sendall(b' "resume"}')
        serve_waiting(served.server)
        assert served.handled == []
        client.sendall(b"\n")
        serve_waiting(served.server)
        assert read(client) == DONE


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b"pause\n",
        b'"pause"\n',
        b"\xff\xfe\n",
        b'{"request": "shutdown"}\n',
        b'{"request": ["pause"]}\n',
        b'{"request": "pause", "request": "resume"}\n',
        b'{"request": "pause", "reason": 1}\n',
        b'{"request": "pause", "reason": "%s"}\n' % (b"x" * 201),
        b'{"request": "pause", "reason": "\\ud800"}\n',
        b'{"request": "pause", "for_s": 0}\n',
        b'{"request": "pause", "for_s": true}\n',
        b'{"request": "pause", "for_s": NaN}\n',
        b'{"request": "pause", "for_s": 1e300}\n',
        b'{"request": "pause", "for_s": "5m"}\n',
        b'{"request": "pause", "file": "/etc/shadow"}\n',
        b'{"request": "confirm", "digest": "../../etc/shadow"}\n',
        b'{"request": "trial", "digest": "%s"}\n' % (b"0" * 64),
        b'{"request": "status", "file": "x"}\n',
        b'{"request": "pause"}\n{"request": "resume"}\n',
        b"[" * 4000 + b"\n",
    ],
)
def test_invalid_request_is_refused_by_name(served: Served, line: bytes) -> None:
    answer = served.ask(line)
    assert name_of(answer) == "invalid_request"
    assert answer["error"]["message"].isascii()
    assert served.handled == []


def test_line_is_bounded(served: Served) -> None:
    assert name_of(served.ask(b"x" * 5000)) == "request_too_long"
    assert served.server._clients == []


def test_silent_client_is_disconnected_and_delays_nobody(served: Served) -> None:
    served.be(MEMBER, GROUP)
    silent = served.connect()
    serve_waiting(served.server)
    # The main loop gets no descriptor of it that is ready.
    assert not serve_waiting(served.server)
    assert served.ask({"request": "pause"}) == DONE
    served.now += CLIENT_TIMEOUT_S
    serve_waiting(served.server)
    assert name_of(read(silent)) == "request_timeout"
    assert served.server._clients == []
    silent.close()


def test_client_that_sends_one_byte_after_the_other_has_the_same_time(served: Served) -> None:
    with served.connect() as client:
        for _byte in range(int(CLIENT_TIMEOUT_S)):
            client.sendall(b"{")
            serve_waiting(served.server)
            served.now += 1
        serve_waiting(served.server)
        assert name_of(read(client)) == "request_timeout"


def test_request_whose_client_is_gone_is_not_carried_out(served: Served) -> None:
    served.connect(b'{"request": "pause"}\n').close()
    serve_waiting(served.server)
    assert served.handled == []
    assert served.server._clients == []


def test_clients_are_limited_per_user_and_root_gets_in(served: Served) -> None:
    clients = []
    for user in range(MAX_CLIENTS // MAX_CLIENTS_PER_USER + 2):
        served.be(MEMBER + user, GROUP)
        for _number in range(MAX_CLIENTS_PER_USER + 1):
            clients.append(served.connect())
            serve_waiting(served.server)
    assert len(served.server._clients) == MAX_CLIENTS
    assert name_of(served.ask({"request": "pause"})) == "too_many_clients"
    served.be(0, 0)
    assert served.ask({"request": "pause"}) == DONE
    for client in clients:
        client.close()


def test_readers_of_events_count_as_clients(served: Served) -> None:
    served.be(MEMBER, GROUP)
    clients = [served.connect(b'{"request": "events"}\n') for _each in range(MAX_CLIENTS_PER_USER)]
    serve_waiting(served.server)
    assert [read(client) for client in clients] == [{"answer": {}}] * len(clients)
    assert name_of(served.ask({"request": "events"})) == "too_many_clients"
    served.stream.send({"event": "one"})
    assert read(clients[0]) == {"event": "one"}
    clients.pop().close()
    assert served.ask({"request": "pause"}) == DONE
    for client in clients:
        client.close()


def test_changes_of_a_user_are_limited_and_those_of_root_are_not(served: Served) -> None:
    served.be(MEMBER, GROUP)
    answers = [served.ask({"request": "pause"}) for _number in range(11)]
    assert answers[:10] == [DONE] * 10
    assert name_of(answers[10]) == "too_many_requests"
    assert served.ask({"request": "status"}) == DONE
    served.be(0, 0)
    assert served.ask({"request": "resume"}) == DONE
    served.now += 10
    served.be(MEMBER, GROUP)
    assert served.ask({"request": "pause"}) == DONE


def test_long_answer_is_sent_in_parts(served: Served) -> None:
    text = "x" * 2_000_000
    served.server.handler = lambda _peer, _request: protocol.answer(text=text)
    with served.connect(b'{"request": "status"}\n') as client:
        serve_waiting(served.server)
        assert [each.peer.uid for each in served.server.writers()] == [0]
        received = b""
        while not received.endswith(b"\n"):
            received += client.recv(1 << 16)
            serve_waiting(served.server)
        assert json.loads(received) == {"answer": {"text": text}}
        assert served.server.writers() == []


def test_client_that_does_not_read_is_disconnected(served: Served) -> None:
    served.server.handler = lambda _peer, _request: b"x" * 2_000_000
    with served.connect(b'{"request": "status"}\n'):
        serve_waiting(served.server)
        assert not serve_waiting(served.server)
        served.now += CLIENT_TIMEOUT_S
        serve_waiting(served.server)
        assert served.server._clients == []


def test_without_descriptors_the_listener_rests_for_one_poll(served: Served) -> None:
    with served.connect(b'{"request": "pause"}\n') as client:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        try:
            assert served.server.serve({served.server._listener.fileno()})
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert served.server.sources() == []
        serve_waiting(served.server)
        assert read(client) == DONE


def test_mode_of_the_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")
    before = os.umask(0)
    try:
        server = RequestServer(path, EventStream())
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        server.close()
    finally:
        os.umask(before)


def test_socket_of_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as leftover:
        leftover.bind(path)
    RequestServer(path, EventStream()).close()
    assert not os.path.lexists(path)


def test_other_file_and_other_agent_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        RequestServer(str(path), EventStream())
    assert path.read_text() == "mine"
    path.unlink()
    first = RequestServer(str(path), EventStream())
    with pytest.raises(OSError, match="another agent") as caught:
        RequestServer(str(path), EventStream())
    assert caught.value.errno == errno.EADDRINUSE
    first.close()


def test_peer_of_this_process(tmp_path: Path) -> None:
    handled: list[Peer] = []

    def handle(peer: Peer, _request: Request) -> bytes:
        handled.append(peer)
        return protocol.answer(done=True)

    path = str(tmp_path / "agent.sock")
    server = RequestServer(path, EventStream())
    server.handler = handle
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b'{"request": "pause"}\n')
        serve_waiting(server)
        assert read(client) == DONE
    (peer,) = handled
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert peer.groups == frozenset({os.getgid(), *os.getgroups()})
    server.close()
