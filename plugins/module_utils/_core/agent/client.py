# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The client's side of agent.sock: connect, send one line, receive one line."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..host.files import parse_json

# More than the longest status.
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_CHUNK = 1 << 16


def connect(path: str, timeout_s: float) -> socket.socket:
    """Connect to the agent. Raises OSError: ETIMEDOUT if its listen queue stays full."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A connect(2) that does not block fails as soon as the listen queue is full.
        seconds = int(timeout_s)
        timeout = struct.pack("ll", seconds, int((timeout_s - seconds) * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        connection.connect(path)
    except BlockingIOError as error:
        connection.close()
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def ask(path: str, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """Send a request and return the answer.

    Raises OSError: ETIMEDOUT if there is no complete answer in time, ECONNRESET if the agent closed
    the connection, EPROTO if the answer is no JSON object.
    """
    end = time.monotonic() + timeout_s
    with connect(path, timeout_s) as connection:
        send(connection, request)
        return _receive(connection, end)


def send(connection: socket.socket, request: Mapping[str, Any]) -> None:
    """Send a request. An agent that refuses the client may have closed the connection already."""
    line = json.dumps({key: value for key, value in request.items() if value is not None})
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(line.encode("ascii") + b"\n")


def _receive(connection: socket.socket, end: float) -> dict[str, Any]:
    """Receive one line. end: on time.monotonic()."""
    chunks: list[bytes] = []
    size = 0
    while not chunks or b"\n" not in chunks[-1]:
        remaining_s = end - time.monotonic()
        if remaining_s <= 0:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        connection.settimeout(remaining_s)
        try:
            chunk = connection.recv(_CHUNK)
        except socket.timeout:
            continue
        if not chunk:
            raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        chunks.append(chunk)
        size += len(chunk)
        if size > _MAX_ANSWER_BYTES:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    return parse(b"".join(chunks).partition(b"\n")[0])


def parse(line: bytes) -> dict[str, Any]:
    """Parse the line of an answer. Raises OSError with EPROTO."""
    try:
        answer = parse_json(line)
    except ValueError as error:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO)) from error
    if not isinstance(answer, dict):
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    return answer
