# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the agent's events as JSON lines on a unix socket."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

# A reader that lets so many bytes wait is too slow, and is dropped: the agent waits for nobody.
_MOST_WAITING = 256 * 1024
_MOST_READERS = 32


class Stream:
    """Everybody who connects is sent each event from then on, one JSON object a line.

    path: of the socket; one that a killed agent left is replaced. mode: who may connect (connect(2)
    asks for the right to write). Raises OSError, also where another agent listens there.
    """

    def __init__(self, path: str, *, mode: int = 0o660) -> None:
        self._path = path
        self._readers: list[socket.socket] = []
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise FileExistsError(errno.EEXIST, "there is something else than a socket", path)
            if _somebody_listens(path):
                raise OSError(errno.EADDRINUSE, "another agent runs", path)
            os.unlink(path)
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            # Nobody gets in between bind and chmod.
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
        """Readable when somebody wants to connect."""
        return self._listener.fileno()

    def accept(self) -> bool:
        """Take those who wait to connect; False: somebody waits, and cannot be taken now."""
        self._readers = [reader for reader in self._readers if _is_there(reader)]
        while True:
            try:
                reader, _address = self._listener.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                # Whoever it was has hung up; else there is no room for one more descriptor.
                if error.errno != errno.ECONNABORTED:
                    return False
                continue
            if len(self._readers) >= _MOST_READERS:
                reader.close()
                continue
            reader.setblocking(False)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_WAITING)
            self._readers.append(reader)

    def send(self, event: Mapping[str, Any]) -> None:
        """To all who are connected; who cannot take the whole line is disconnected."""
        if not self._readers:
            return
        line = json.dumps(event, separators=(",", ":"), default=str).encode() + b"\n"
        self._readers = [reader for reader in self._readers if _takes(reader, line)]

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers = []
        self._listener.close()
        with suppress(OSError):
            os.unlink(self._path)


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.setblocking(False)
        try:
            knock.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            # Too many knock already: somebody has to open to them.
            pass
        return True


def _is_there(reader: socket.socket) -> bool:
    """Whether the other side has not hung up; what it says is not listened to."""
    try:
        if reader.recv(4096, socket.MSG_DONTWAIT):
            return True
    except BlockingIOError:
        return True
    except OSError:
        pass
    reader.close()
    return False


def _takes(reader: socket.socket, line: bytes) -> bool:
    try:
        if reader.send(line, socket.MSG_NOSIGNAL) == len(line):
            return True
    except OSError:
        pass
    reader.close()
    return False
