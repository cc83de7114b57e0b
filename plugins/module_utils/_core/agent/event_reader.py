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
from types import TracebackType
from typing import Any

from . import client, protocol
from .paths import SOCKET
from .requests import unpack, unreachable

# How long an agent with a full listen queue may take, in seconds. It does not accept during a pass.
_CONNECT_TIMEOUT_S = 10.0
_OPERATION = "follow the events"


class EventReader:
    """A connection to the agent that asked for events.

    runtime: the agent's runtime directory. Raises AgentUnreachable, with the errno of connect(2):
    ENOENT or ECONNREFUSED if no agent runs.
    """

    def __init__(self, runtime: str) -> None:
        self._runtime = runtime
        self._rest = b""
        self._answered = False
        try:
            self._socket = client.connect(os.path.join(runtime, SOCKET), _CONNECT_TIMEOUT_S)
        except OSError as error:
            raise unreachable(_OPERATION, runtime, error) from error
        try:
            client.send(self._socket, {"request": protocol.EVENTS})
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor that is readable when events have arrived."""
        return self._socket.fileno()

    def read(self) -> list[dict[str, Any]] | None:
        """Return the events that have arrived, without waiting.

        None: the agent closed the connection. It stopped, or this reader was too slow. Ignores
        lines that are not a JSON object. Raises AgentUnreachable or AgentRefused if the agent
        refused the request.
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
        if lines and not self._answered:
            self._check_answer(lines.pop(0))
        events = [event for event in map(_decode, lines) if event is not None]
        return None if closed and not events else events

    def _check_answer(self, line: bytes) -> None:
        try:
            unpack(client.parse(line), _OPERATION, self._runtime)
        except OSError as error:
            raise unreachable(_OPERATION, self._runtime, error) from error
        self._answered = True

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
