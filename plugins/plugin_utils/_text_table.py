# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: records as a text table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._socket_columns import COLUMNS, DEFAULT_COLUMNS, VIOLATION_COLUMNS, Column, Record, column_of

MIN_WIDTH = 20
NOTHING = "-"
_GAP = "  "
_ELLIPSIS = "…"
# A column is not cut narrower than its title or this: an IPv4 address and port stay whole.
_NARROWEST = {"end": 8, "middle": len("255.255.255.255:65535")}


class TableError(ValueError):
    """What was asked for cannot be shown; the message says why and what is allowed."""


def table(
    records: Sequence[Record],
    *,
    columns: Sequence[str] | None = None,
    width: int = 100,
    header: bool = True,
) -> str:
    """One line for each record, below a title row. Raises TableError.

    columns: names of COLUMNS, keys of the records, or paths into them with dots. Without it, those
    of DEFAULT_COLUMNS in which some record has something to say. What violates a policy has its
    socket under `record`: that is shown as one record with what is said of it, by
    VIOLATION_COLUMNS.
    """
    _check_records(records)
    violations = any(isinstance(each.get("record"), Mapping) for each in records)
    usual = VIOLATION_COLUMNS if violations else DEFAULT_COLUMNS
    records = [_flat(each) for each in records]
    if isinstance(width, bool) or not isinstance(width, int) or width < MIN_WIDTH:
        raise TableError(f"width: {width!r} is not a number of characters of {MIN_WIDTH} or more")
    chosen = _default(records, usual) if columns is None else _asked_for(records, columns)
    cells = [[_cell(column.text(record)) for column in chosen] for record in records]
    titles = [column.title for column in chosen]
    widths = _fit(chosen, cells, width)
    lines = [_line(chosen, row, widths, width) for row in cells]
    if header:
        rule = "─" * min(width, sum(widths) + len(_GAP) * (len(widths) - 1))
        lines[:0] = [_line(chosen, titles, widths, width), rule]
    return "\n".join(lines)


def _check_records(records: object) -> None:
    if isinstance(records, Mapping):
        hint = "; its key `sockets` is one" if "sockets" in records else ""
        raise TableError(f"a list of records is needed, not a mapping{hint}")
    if isinstance(records, str) or not isinstance(records, Sequence):
        raise TableError(f"a list of records is needed, not {type(records).__name__}")
    for index, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise TableError(f"record {index} is {type(record).__name__}, not a mapping")


def _flat(record: Record) -> Record:
    within = record.get("record")
    return {**within, **record} if isinstance(within, Mapping) else record


def _default(records: Sequence[Record], names: Sequence[str]) -> list[Column]:
    chosen = []
    for name in names:
        column = column_of(records, name)
        said = {column.text(record) for record in records}
        # Where all are in one namespace, its name says nothing.
        if not records or (len(said) > 1 if name == "namespace" else said != {None}):
            chosen.append(column)
    return chosen or [column_of(records, "protocol")]


def _asked_for(records: Sequence[Record], columns: object) -> list[Column]:
    if isinstance(columns, str) or not isinstance(columns, Sequence) or not columns:
        raise TableError(f"columns: {columns!r} is not a list of names with at least one in it")
    keys = sorted({key for record in records for key in record} | set(COLUMNS))
    for index, name in enumerate(columns):
        if not isinstance(name, str) or not name:
            raise TableError(f"columns[{index}]: {name!r} is not a name")
        if records and name.split(".")[0] not in keys:
            raise TableError(
                f"columns[{index}]: the records have no {name!r}; there is: {', '.join(keys)}"
            )
    return [column_of(records, name) for name in columns]


def _cell(text: str | None) -> str:
    """Commands and paths are others' text: nothing in them may reach the terminal's controls."""
    if not text:
        return NOTHING
    return "".join(each if each.isprintable() else "?" for each in str(text))


def _fit(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """How wide each column is: as its longest cell, but the widest give way until all fit."""
    widths = [
        max(len(column.title), *(len(row[index]) for row in cells), 0)
        for index, column in enumerate(columns)
    ]
    least = [max(len(column.title), _NARROWEST[column.cut or "end"]) for column in columns]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    for _step in range(max(0, excess)):
        able = [
            index
            for index, column in enumerate(columns)
            if column.cut and widths[index] > least[index]
        ]
        if not able:
            break
        widths[max(able, key=lambda index: widths[index])] -= 1
    return widths


def _line(
    columns: Sequence[Column], texts: Sequence[str], widths: Sequence[int], width: int
) -> str:
    padded = []
    for column, text, room in zip(columns, texts, widths):
        shown = _cut(text, room, column.cut)
        padded.append(shown.rjust(room) if column.right else shown.ljust(room))
    return _cut(_GAP.join(padded).rstrip(), width, "end")


def _cut(text: str, room: int, where: str | None) -> str:
    """In the middle, what stands at the end (a port) stays."""
    if len(text) <= room:
        return text
    if where == "middle":
        tail = (room - 1) // 2
        return text[: room - 1 - tail] + _ELLIPSIS + text[len(text) - tail :]
    return text[: room - 1] + _ELLIPSIS
