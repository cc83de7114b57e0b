# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The event stream: JSON lines to every client that asked for events."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..text import printable_values

# A reader with a longer backlog is disconnected: the agent does not wait for readers.
MAX_BACKLOG_BYTES = 256 * 1024


class _Reader(NamedTuple):
    socket: socket.socket
    uid: int


class EventStream:
    """Sends each event to every reader, as one line of JSON."""

    def __init__(self) -> None:
        self._readers: list[_Reader] = []

    def add(self, reader: socket.socket, uid: int) -> None:
        """Take over a connected socket that does not block. uid: of the peer."""
        self._readers.append(_Reader(reader, uid))

    def users(self) -> list[int]:
        """The uid of each reader."""
        return [reader.uid for reader in self._readers]

    def drop_disconnected(self) -> None:
        """Close the readers whose peer is gone, and discard what the others sent."""
        self._readers = [reader for reader in self._readers if _is_connected(reader.socket)]

    def send(self, event: Mapping[str, Any]) -> None:
        """Send to all readers; disconnect those that cannot take the whole line."""
        if not self._readers:
            return
        line = (
            json.dumps(printable_values(event), separators=(",", ":"), default=str).encode() + b"\n"
        )
        self._readers = [reader for reader in self._readers if _send(reader.socket, line)]

    def close(self) -> None:
        for reader in self._readers:
            reader.socket.close()
        self._readers = []


def _is_connected(reader: socket.socket) -> bool:
    """Return whether the peer is connected; discard its data, close it if it is gone."""
    try:
        if reader.recv(4096, socket.MSG_DONTWAIT):
            return True
    except BlockingIOError:
        return True
    except OSError:
        pass
    reader.close()
    return False


def _send(reader: socket.socket, line: bytes) -> bool:
    try:
        if reader.send(line, socket.MSG_NOSIGNAL) == len(line):
            return True
    except OSError:
        pass
    reader.close()
    return False
