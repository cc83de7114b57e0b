# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Reads the event stream of a running agent.

with EventReader(RUNTIME_DIRECTORY) as reader:
    for event in reader.read():  # at once: the events that have arrived
        ...
"""

from __future__ import annotations

import json
import os
import socket
import struct
from types import TracebackType
from typing import Any

from .paths import EVENTS
from .requests import unreachable

# How long an agent that accepts no readers may take, in seconds. It does not accept during a pass.
_CONNECT_TIMEOUT_S = 10


class EventReader:
    """A connection to the event socket.

    runtime: the agent's runtime directory. Raises AgentUnreachable, with the errno of connect(2):
    ENOENT or ECONNREFUSED if no agent runs.
    """

    def __init__(self, runtime: str) -> None:
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A connect(2) that does not block fails as soon as the listen queue is full.
            timeout = struct.pack("ll", _CONNECT_TIMEOUT_S, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
            self._socket.connect(os.path.join(runtime, EVENTS))
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise unreachable("follow the events", runtime, error) from error
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor that is readable when events have arrived."""
        return self._socket.fileno()

    def read(self) -> list[dict[str, Any]] | None:
        """Return the events that have arrived, without waiting.

        None: the agent closed the connection. It stopped, has too many readers, or this reader
        was too slow. Ignores lines that are not a JSON object.
        """
        chunks = [self._rest]
        closed = False
        while True:
            try:
                chunk = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except ConnectionError:
                chunk = b""
            if not chunk:
                closed = True
                break
            chunks.append(chunk)
        *lines, self._rest = b"".join(chunks).split(b"\n")
        events = [event for event in map(_decode, lines) if event is not None]
        return None if closed and not events else events

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> EventReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"event", "at"} <= found.keys() else None
