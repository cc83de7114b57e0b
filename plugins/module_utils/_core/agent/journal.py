# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the agent's log: one line of text for each thing that happened."""

from __future__ import annotations

import re
import select
from collections.abc import Mapping
from typing import Any, TextIO

# sd-daemon(3): what journald takes for the priority of a line.
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6

# So long the agent waits for who reads its lines.
_PATIENCE_MS = 500

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_PLAIN = re.compile(r"[\w.:/@%+\[\]*<>=,-]+", re.ASCII)


class Log:
    """Writes to a stream that journald reads, or to a terminal.

    prefixed: begin each line with its priority. A stream that cannot be written to any more, or
    that nobody reads, does not stop the agent: lines are lost then, and counted.
    """

    def __init__(self, stream: TextIO, *, prefixed: bool) -> None:
        self._stream = stream
        self._prefixed = prefixed
        self._patience_ms = _PATIENCE_MS
        self._lost = 0

    def line(self, priority: int, text: str, fields: Mapping[str, Any] | None = None) -> None:
        """text, then key=value for each field that is not None."""
        if not self._is_read():
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self._write(WARNING, f"nobody read this for a while: lines were lost: {lost}", None)
        self._write(priority, text, fields)

    def _is_read(self) -> bool:
        """Whether a line can be written without waiting; it is waited for once, and not again
        before there was room."""
        try:
            poller = select.poll()
            poller.register(self._stream, select.POLLOUT)
            ready = bool(poller.poll(self._patience_ms))
        except (OSError, ValueError, TypeError):
            # It is no file, or a closed one.
            return True
        self._patience_ms = _PATIENCE_MS if ready else 0
        return ready

    def _write(self, priority: int, text: str, fields: Mapping[str, Any] | None) -> None:
        shown = [_UNPRINTABLE.sub(_escape, " ".join(text.split()))]
        shown += [
            f"{key}={_value(value)}" for key, value in (fields or {}).items() if value is not None
        ]
        start = f"<{priority}>" if self._prefixed else ""
        try:
            self._stream.write(start + " ".join(shown) + "\n")
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


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def _value(value: object) -> str:
    """As it is where it is one plain word, else quoted, so that a name cannot pose as a field."""
    text = str(value)
    if _PLAIN.fullmatch(text) and "=" not in text:
        return text
    escaped = text.encode("unicode_escape", "backslashreplace").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'
