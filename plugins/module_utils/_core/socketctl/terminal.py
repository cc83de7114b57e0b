# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Output for people: escaped text, colours, tables as wide as the terminal, and questions.

All text for a terminal passes through ``printable``: names of processes, users, interfaces
and namespaces may contain control characters that a terminal would obey.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TextIO

from ..text import printable

# SGR parameters (ECMA-48).
BOLD = "1"
DIM = "2"
RED = "31"
GREEN = "32"
YELLOW = "33"

_GAP = "  "
_CUT = "..."
# The narrowest width to which a column is cut.
_MIN_CUT = 14
_DEFAULT_WIDTH = 80


class Cell(NamedTuple):
    """A cell of a table. style: SGR parameters."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column of a table.

    optional: dropped if the terminal is too narrow, the highest number first; 0: never.
    flexible: cut if the terminal is still too narrow. An optional one is cut before it is dropped.
    """

    title: str
    right: bool = False
    optional: int = 0
    flexible: bool = False


class Terminal:
    """A stream that may be a terminal.

    environ: for NO_COLOR, TERM and COLUMNS.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.colours = (
            self.is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        )
        self._environ = environ

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None: no terminal, so no limit."""
        if not self.is_terminal:
            return None
        columns = self._environ.get("COLUMNS", "")
        if columns.isdigit() and int(columns):
            return int(columns)
        with suppress(OSError, ValueError):
            return os.get_terminal_size(self.stream.fileno()).columns or _DEFAULT_WIDTH
        return _DEFAULT_WIDTH

    def line(self, text: str = "", style: str = "") -> None:
        """Write one line."""
        self.stream.write(self._styled(printable(text), style) + "\n")

    def raw(self, text: str) -> None:
        """Write text as it is: JSON, in which control characters are escaped already."""
        self.stream.write(text)

    def ask(self, text: str) -> None:
        """Write a question, and leave the cursor behind it."""
        self.stream.write(printable(text))
        self.stream.flush()

    def replace_line(self, text: str) -> None:
        """Write over the current line, without ending it. Cut to the width of the terminal."""
        width = self.width or _DEFAULT_WIDTH
        # Carriage return, and EL: erase to the end of the line (ECMA-48).
        self.stream.write(f"\r{_cut(printable(text), width - 1)}\x1b[K")
        self.stream.flush()

    def clear_line(self) -> None:
        """Erase what replace_line wrote."""
        self.stream.write("\r\x1b[K")
        self.stream.flush()

    def table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, header: bool = True
    ) -> None:
        """Write a table. On a terminal it is as narrow as the terminal."""
        cells = [[Cell(printable(cell.text), cell.style) for cell in row] for row in rows]
        texts = [[cell.text for cell in row] for row in cells]
        titles = [column.title for column in columns]
        widths = [
            max(map(_columns, column)) for column in zip(*([titles] if header else []), *texts)
        ]
        if not widths:
            return
        shown = _fit(columns, widths, self.width)
        if header:
            self._row(columns, shown, [Cell(title, BOLD) for title in titles])
        for row in cells:
            self._row(columns, shown, row)

    def _row(
        self, columns: Sequence[Column], shown: Mapping[int, int], row: Sequence[Cell]
    ) -> None:
        words: list[str] = []
        last = max(shown)
        for index, width in shown.items():
            text, style = _cut(row[index].text, width), row[index].style
            padding = " " * (width - _columns(text))
            styled = self._styled(text, style)
            if columns[index].right:
                words.append(padding + styled)
            else:
                words.append(styled if index == last else styled + padding)
        self.stream.write(_GAP.join(words).rstrip(" ") + "\n")

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if style and text and self.colours else text


def _fit(columns: Sequence[Column], widths: Sequence[int], available: int | None) -> dict[int, int]:
    """The widths of the columns that fit, by index."""
    shown = dict(enumerate(widths))
    if available is None:
        return shown
    droppable = sorted(
        (index for index in shown if columns[index].optional),
        key=lambda index: -columns[index].optional,
    )
    for index in droppable:
        if _least(columns, shown) <= available:
            break
        del shown[index]
    for index in sorted(shown, key=lambda index: -shown[index]):
        excess = _total(shown) - available
        if excess > 0 and columns[index].flexible:
            shown[index] = max(_MIN_CUT, shown[index] - excess)
    return shown


def _least(columns: Sequence[Column], shown: Mapping[int, int]) -> int:
    """The total if optional columns that are flexible are cut."""
    return _total(
        {
            index: min(width, _MIN_CUT)
            if columns[index].flexible and columns[index].optional
            else width
            for index, width in shown.items()
        }
    )


def _total(shown: Mapping[int, int]) -> int:
    return sum(shown.values()) + len(_GAP) * (len(shown) - 1)


def _cut(text: str, width: int) -> str:
    if _columns(text) <= width:
        return text
    while text and _columns(text) > width - len(_CUT):
        text = text[:-1]
    return text + _CUT


def _columns(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text
    )
