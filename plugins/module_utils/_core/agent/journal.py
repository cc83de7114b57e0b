# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the agent's log: one line of text for each thing that happened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TextIO

# sd-daemon(3): what journald takes for the priority of a line.
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_PLAIN = re.compile(r"[\w.:/@%+\[\]*<>=,-]+", re.ASCII)


class Log:
    """Writes to a stream that journald reads, or to a terminal.

    prefixed: begin each line with its priority. A stream that cannot be written to any more does
    not stop the agent.
    """

    def __init__(self, stream: TextIO, *, prefixed: bool) -> None:
        self._stream = stream
        self._prefixed = prefixed

    def line(self, priority: int, text: str, fields: Mapping[str, Any] | None = None) -> None:
        """text, then key=value for each field that is not None."""
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
