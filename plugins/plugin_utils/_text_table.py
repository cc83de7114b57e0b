# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Socket records as a text table with one line per record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..module_utils._core.text import printable
from ._socket_columns import (
    COLUMNS,
    DEFAULT_COLUMNS,
    VIOLATION_COLUMNS,
    Column,
    Record,
    column_for,
)

MIN_WIDTH = 20
UNKNOWN = "-"
_GAP = "  "
_ELLIPSIS = "…"
# A column is never cut below its title or this width: an IPv4 address with a port stays whole.
_MIN_COLUMN_WIDTH = {"end": 8, "middle": len("255.255.255.255:65535")}


class TableError(ValueError):
    """An invalid argument of format_table(). The message names the allowed values."""


# Without records.
NO_SOCKETS = "no sockets"
# The lists of a module's result, in the order of the table; of the first group that occurs.
_LISTS = (
    ("sockets",),
    ("violations",),
    ("connections",),
    ("destroyed", "protected", "survivors", "remaining"),
)


def format_table(
    records: Sequence[Record] | Record,
    *,
    columns: Sequence[str] | None = None,
    width: int = 100,
    header: bool = True,
) -> str:
    """Return one line per record below a title row and a rule; NO_SOCKETS without records.

    records: socket records, or policy violations with the socket under `record`; or a whole result
    of a module, which contains such lists.
    columns: names of COLUMNS, keys of the records or dotted paths into them. Default: those of
    DEFAULT_COLUMNS (for violations VIOLATION_COLUMNS) with a known value in some record.
    width: maximum characters per line. header: whether to include the title row and the rule.
    Raises TableError.
    """
    records = _records(records)
    violations = any(isinstance(record.get("record"), Mapping) for record in records)
    defaults = VIOLATION_COLUMNS if violations else DEFAULT_COLUMNS
    records = [_flatten(record) for record in records]
    if isinstance(width, bool) or not isinstance(width, int) or width < MIN_WIDTH:
        raise TableError(f"width: {width!r}; expected an integer of at least {MIN_WIDTH}")
    chosen = _known(records, defaults) if columns is None else _requested(records, columns)
    if not records:
        return NO_SOCKETS
    cells = [[_cell(column.text(record)) for column in chosen] for record in records]
    titles = [printable(column.title) for column in chosen]
    widths = _fit(chosen, cells, width)
    lines = [_line(chosen, row, widths, width) for row in cells]
    if header:
        rule = "─" * min(width, sum(widths) + len(_GAP) * (len(widths) - 1))
        lines[:0] = [_line(chosen, titles, widths, width), rule]
    return "\n".join(lines)


def _records(value: object) -> list[Record]:
    """The records of a list, or of a result of a module. Raises TableError."""
    if isinstance(value, Mapping):
        value = _records_of_result(value)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TableError(
            f"expected a list of records or a result of a module, got {type(value).__name__}"
        )
    for index, record in enumerate(value):
        if not isinstance(record, Mapping):
            raise TableError(f"record {index}: expected a mapping, got {type(record).__name__}")
    return list(value)


def _records_of_result(result: Record) -> list[object]:
    for names in _LISTS:
        lists = [result[name] for name in names if name in result]
        if lists:
            found: list[object] = []
            for records in lists:
                if isinstance(records, str) or not isinstance(records, Sequence):
                    raise TableError(f"expected lists of records in {', '.join(names)}")
                # A socket that a drain left may be in two lists.
                found += [record for record in records if record not in found]
            return found
    message = result.get("msg")
    failed = f"; the task failed: {message}" if result.get("failed") and message else ""
    raise TableError(f"expected a list of records or a result of a module, got a mapping{failed}")


def _flatten(record: Record) -> Record:
    """Merge the socket of a violation into it."""
    socket = record.get("record")
    return {**socket, **record} if isinstance(socket, Mapping) else record


def _known(records: Sequence[Record], names: Sequence[str]) -> list[Column]:
    """Return the columns in which a value is known; `namespace` only if the values differ."""
    chosen = []
    for name in names:
        column = column_for(records, name)
        cells = {column.text(record) for record in records}
        if not records or (len(cells) > 1 if name == "namespace" else cells != {None}):
            chosen.append(column)
    return chosen or [column_for(records, "protocol")]


def _requested(records: Sequence[Record], columns: object) -> list[Column]:
    if isinstance(columns, str) or not isinstance(columns, Sequence) or not columns:
        raise TableError(f"columns: {columns!r}; expected a list of at least one name")
    available = sorted({key for record in records for key in record} | set(COLUMNS))
    for index, name in enumerate(columns):
        if not isinstance(name, str) or not name:
            raise TableError(f"columns[{index}]: {name!r}; expected a name")
        if records and name.split(".")[0] not in available:
            raise TableError(
                f"columns[{index}]: unknown column {name!r}; available: "
                + printable(", ".join(available))
            )
    return [column_for(records, name) for name in columns]


def _cell(text: str | None) -> str:
    """Escape unprintable characters: names are untrusted and may contain terminal controls."""
    return printable(str(text)) if text else UNKNOWN


def _fit(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return column widths: the longest cell each, then shorten the widest columns to fit."""
    widths = [
        max(len(column.title), *(len(row[index]) for row in cells), 0)
        for index, column in enumerate(columns)
    ]
    minimums = [
        max(len(column.title), _MIN_COLUMN_WIDTH[column.cut or "end"]) for column in columns
    ]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    for _step in range(max(0, excess)):
        shrinkable = [
            index
            for index, column in enumerate(columns)
            if column.cut and widths[index] > minimums[index]
        ]
        if not shrinkable:
            break
        widths[max(shrinkable, key=lambda index: widths[index])] -= 1
    return widths


def _line(
    columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], width: int
) -> str:
    padded = []
    for column, cell, column_width in zip(columns, cells, widths):
        shown = _cut(cell, column_width, column.cut)
        padded.append(shown.rjust(column_width) if column.right else shown.ljust(column_width))
    return _cut(_GAP.join(padded).rstrip(), width, "end")


def _cut(text: str, width: int, where: str | None) -> str:
    """Shorten text to a width. A cut in the middle keeps the end, where the port is."""
    if len(text) <= width:
        return text
    if where == "middle":
        tail = (width - 1) // 2
        return text[: width - 1 - tail] + _ELLIPSIS + text[len(text) - tail :]
    return text[: width - 1] + _ELLIPSIS
