# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The event stream: JSON lines on a unix socket."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..text import printable_values

# A reader with a longer backlog is disconnected: the agent does not wait for readers.
_MAX_BACKLOG_BYTES = 256 * 1024
_MAX_READERS = 32


class EventSocket:
    """Sends each event to every connected reader, as one line of JSON.

    path: of the socket; replaces the one of a killed agent. mode: who may connect, since
    connect(2) needs write permission. Raises OSError, also if another agent listens there.
    """

    def __init__(self, path: str, *, mode: int = 0o660) -> None:
        self._path = path
        self._readers: list[socket.socket] = []
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise FileExistsError(errno.EEXIST, "exists and is not a socket", path)
            if _accepts_connections(path):
                raise OSError(errno.EADDRINUSE, "another agent is running", path)
            os.unlink(path)
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            # Closes the gap between bind and chmod.
            before = os.umask(0o777)
            try:
                self._listener.bind(path)
            finally:
                os.umask(before)
            os.chmod(path, mode)
            self._listener.listen(8)
        except BaseException:
            self._listener.close()
            raise

    def fileno(self) -> int:
        """The descriptor that is readable when a reader wants to connect."""
        return self._listener.fileno()

    def accept(self) -> bool:
        """Accept all pending readers; False: one is pending that cannot be accepted now."""
        self._readers = [reader for reader in self._readers if _is_connected(reader)]
        while True:
            try:
                reader, _address = self._listener.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                # On ECONNABORTED the reader is gone; otherwise the agent is out of descriptors.
                if error.errno != errno.ECONNABORTED:
                    return False
                continue
            if len(self._readers) >= _MAX_READERS:
                reader.close()
                continue
            reader.setblocking(False)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_BACKLOG_BYTES)
            self._readers.append(reader)

    def send(self, event: Mapping[str, Any]) -> None:
        """Send to all readers; disconnect those that cannot take the whole line."""
        if not self._readers:
            return
        line = (
            json.dumps(printable_values(event), separators=(",", ":"), default=str).encode() + b"\n"
        )
        self._readers = [reader for reader in self._readers if _send(reader, line)]

    def close(self) -> None:
        # The listener first: a disconnected reader can then tell that the agent has stopped.
        self._listener.close()
        with suppress(OSError):
            os.unlink(self._path)
        for reader in self._readers:
            reader.close()
        self._readers = []


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
