# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event stream: slow and disconnected readers."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from linuxnet_sockets.agent.event_stream import MAX_BACKLOG_BYTES, EventStream

Connect = Callable[[], socket.socket]


@pytest.fixture
def stream() -> Iterator[EventStream]:
    stream = EventStream()
    yield stream
    stream.close()


@pytest.fixture
def connect(stream: EventStream) -> Iterator[Connect]:
    readers = []

    def connect() -> socket.socket:
        reader, writer = socket.socketpair()
        reader.settimeout(2)
        writer.setblocking(False)
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_BACKLOG_BYTES)
        stream.add(writer, uid=1000 + len(readers))
        readers.append(reader)
        return reader

    yield connect
    for reader in readers:
        reader.close()


def test_readers_get_the_events_after_connecting(stream: EventStream, connect: Connect) -> None:
    stream.send({"event": "before"})
    readers = [connect(), connect()]
    stream.send({"event": "destroyed", "cookie": "1f", "text": "a\nb"})
    for reader in readers:
        line = reader.recv(4096)
        assert line.count(b"\n") == 1
        assert json.loads(line) == {"event": "destroyed", "cookie": "1f", "text": "a\\x0ab"}


def test_slow_reader_is_disconnected(stream: EventStream, connect: Connect) -> None:
    slow, fast = connect(), connect()
    fast.settimeout(None)
    lines = fast.makefile()
    for number in range(3000):
        stream.send({"number": number, "filling": "x" * 500})
        assert json.loads(lines.readline())["number"] == number
    received = 0
    while chunk := slow.recv(1 << 20):
        received += len(chunk)
    assert 0 < received < 3000 * 500
    assert stream.users() == [1001]


def test_disconnected_reader_is_forgotten(stream: EventStream, connect: Connect) -> None:
    gone, talking = connect(), connect()
    gone.close()
    talking.send(b"ignored")
    stream.drop_disconnected()
    assert stream.users() == [1001]
    stream.send({"event": "two"})
    assert b"two" in talking.recv(4096)


def test_send_forgets_a_reader_that_is_gone(stream: EventStream, connect: Connect) -> None:
    connect().close()
    stream.send({"event": "one"})
    assert stream.users() == []
