# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's events as JSON lines: who may connect, who is too slow, what a killed agent left."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxnet_sockets.agent.event_socket import Stream


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "events.sock")


@pytest.fixture
def stream(path: str) -> Iterator[Stream]:
    stream = Stream(path)
    yield stream
    stream.close()


def _connect(path: str) -> socket.socket:
    reader = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    reader.settimeout(2)
    reader.connect(path)
    return reader


def test_each_reader_gets_each_line_from_then_on(stream: Stream, path: str) -> None:
    stream.send({"event": "before"})
    with _connect(path) as one, _connect(path) as two:
        stream.accept()
        stream.send({"event": "destroyed", "cookie": "1f", "said": "a\nb"})
        for reader in (one, two):
            line = reader.recv(4096)
            assert line.count(b"\n") == 1
            assert json.loads(line) == {"event": "destroyed", "cookie": "1f", "said": "a\nb"}


def test_who_may_connect(path: str) -> None:
    before = os.umask(0)
    try:
        stream = Stream(path, mode=0o640)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        stream.close()
    finally:
        os.umask(before)


def test_who_is_too_slow_is_dropped_and_the_agent_does_not_wait(stream: Stream, path: str) -> None:
    with _connect(path) as slow, _connect(path) as quick:
        stream.accept()
        quick.settimeout(None)
        for number in range(3000):
            stream.send({"number": number, "filling": "x" * 500})
            assert json.loads(quick.makefile().readline())["number"] == number
        got = 0
        while chunk := slow.recv(1 << 20):
            got += len(chunk)
        assert 0 < got < 3000 * 500


def test_a_reader_that_left(stream: Stream, path: str) -> None:
    _connect(path).close()
    stream.accept()
    stream.send({"event": "one"})
    with _connect(path) as reader:
        stream.accept()
        stream.send({"event": "two"})
        assert b"two" in reader.recv(4096)


def test_not_more_readers_than_the_agent_can_serve(stream: Stream, path: str) -> None:
    readers = []
    for _each in range(40):
        readers.append(_connect(path))
        stream.accept()
    stream.send({"event": "crowd"})
    served = 0
    for reader in readers:
        served += reader.recv(4096) != b""
        reader.close()
    assert served == 32


def test_what_a_killed_agent_left_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(path)
    Stream(path).close()
    assert not os.path.lexists(path)


def test_what_is_no_socket_is_not(path: str) -> None:
    Path(path).write_text("mine")
    with pytest.raises(FileExistsError):
        Stream(path)
    assert Path(path).read_text() == "mine"
