# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The agent's log: one line of text per event, with key=value fields."""

from __future__ import annotations

import re
import select
from collections.abc import Mapping
from typing import Any, TextIO

from ..text import printable

# Priorities of sd-daemon(3), which journald parses.
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6

_WRITE_TIMEOUT_MS = 500

_UNQUOTED = re.compile(r"[\w.:/@%+\[\]*<>=,-]+", re.ASCII)


class Log:
    """Writes lines to journald or to a terminal.

    prefixed: begin each line with its priority. A closed or blocked stream does not stop the
    agent: it drops lines and counts them.
    """

    def __init__(self, stream: TextIO, *, prefixed: bool) -> None:
        self._stream = stream
        self._prefixed = prefixed
        self._timeout_ms = _WRITE_TIMEOUT_MS
        self._dropped = 0

    def line(self, priority: int, text: str, fields: Mapping[str, Any] | None = None) -> None:
        """Write the text, then key=value for each field that is not None."""
        if not self._is_writable():
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._write(WARNING, f"dropped {dropped} log lines: the log reader was blocked", None)
        self._write(priority, text, fields)

    def _is_writable(self) -> bool:
        """Return whether a line can be written now.

        Waits for a blocked reader once, and then not again until the stream was writable.
        """
        try:
            poller = select.poll()
            poller.register(self._stream, select.POLLOUT)
            ready = bool(poller.poll(self._timeout_ms))
        except (OSError, ValueError, TypeError):
            # The stream is closed, or not a file.
            return True
        self._timeout_ms = _WRITE_TIMEOUT_MS if ready else 0
        return ready

    def _write(self, priority: int, text: str, fields: Mapping[str, Any] | None) -> None:
        parts = [_ascii(printable(" ".join(text.split())))]
        parts += [
            f"{key}={_value(value)}" for key, value in (fields or {}).items() if value is not None
        ]
        prefix = f"<{priority}>" if self._prefixed else ""
        try:
            self._stream.write(prefix + " ".join(parts) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    def error(self, text: str, fields: Mapping[str, Any] | None = None) -> None:
        self.line(ERROR, text, fields)

    def warning(self, text: str, fields: Mapping[str, Any] | None = None) -> None:
        self.line(WARNING, text, fields)

    def notice(self, text: str, fields: Mapping[str, Any] | None = None) -> None:
        self.line(NOTICE, text, fields)

    def info(self, text: str, fields: Mapping[str, Any] | None = None) -> None:
        self.line(INFO, text, fields)


def _ascii(text: str) -> str:
    """The stream may have the encoding of the locale C."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _value(value: object) -> str:
    """Quote anything but a plain word, so that a value cannot imitate another field."""
    text = str(value)
    if _UNQUOTED.fullmatch(text) and "=" not in text:
        return text
    escaped = text.encode("unicode_escape", "backslashreplace").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'
