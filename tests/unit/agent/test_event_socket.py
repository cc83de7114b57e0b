# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event socket: permissions, slow readers, leftover sockets."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxnet_sockets.agent.event_socket import EventSocket


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "events.sock")


@pytest.fixture
def event_socket(path: str) -> Iterator[EventSocket]:
    event_socket = EventSocket(path)
    yield event_socket
    event_socket.close()


def _connect(path: str) -> socket.socket:
    reader = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    reader.settimeout(2)
    reader.connect(path)
    return reader


def test_readers_get_the_events_after_connecting(event_socket: EventSocket, path: str) -> None:
    event_socket.send({"event": "before"})
    with _connect(path) as first, _connect(path) as second:
        event_socket.accept()
        event_socket.send({"event": "destroyed", "cookie": "1f", "text": "a\nb"})
        for reader in (first, second):
            line = reader.recv(4096)
            assert line.count(b"\n") == 1
            assert json.loads(line) == {"event": "destroyed", "cookie": "1f", "text": "a\nb"}


def test_mode_of_the_socket(path: str) -> None:
    before = os.umask(0)
    try:
        event_socket = EventSocket(path, mode=0o640)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        event_socket.close()
    finally:
        os.umask(before)


def test_slow_reader_is_disconnected(event_socket: EventSocket, path: str) -> None:
    with _connect(path) as slow, _connect(path) as fast:
        event_socket.accept()
        fast.settimeout(None)
        for number in range(3000):
            event_socket.send({"number": number, "filling": "x" * 500})
            assert json.loads(fast.makefile().readline())["number"] == number
        received = 0
        while chunk := slow.recv(1 << 20):
            received += len(chunk)
        assert 0 < received < 3000 * 500


def test_disconnected_reader_is_ignored(event_socket: EventSocket, path: str) -> None:
    _connect(path).close()
    event_socket.accept()
    event_socket.send({"event": "one"})
    with _connect(path) as reader:
        event_socket.accept()
        event_socket.send({"event": "two"})
        assert b"two" in reader.recv(4096)


def test_number_of_readers_is_limited(event_socket: EventSocket, path: str) -> None:
    readers = []
    for _number in range(40):
        readers.append(_connect(path))
        event_socket.accept()
    event_socket.send({"event": "policy"})
    served = 0
    for reader in readers:
        served += reader.recv(4096) != b""
        reader.close()
    assert served == 32


def test_socket_of_a_killed_agent_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as leftover:
        leftover.bind(path)
    EventSocket(path).close()
    assert not os.path.lexists(path)


def test_other_file_is_not_replaced(path: str) -> None:
    Path(path).write_text("mine")
    with pytest.raises(FileExistsError):
        EventSocket(path)
    assert Path(path).read_text() == "mine"
