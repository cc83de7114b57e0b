# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Columns of the table filter: title, text and alignment for each key of a socket record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ._formatting import duration_text, endpoint_text, size_text

Record = Mapping[str, Any]


class Column(NamedTuple):
    """A column of the table.

    text: cell of a record; None if the value is unknown. right: align to the right.
    cut: where a long cell loses characters, `end` or `middle`; None: never cut.
    """

    title: str
    text: Callable[[Record], str | None]
    right: bool = False
    cut: str | None = "end"


def _get(record: Record, path: str) -> Any:
    """Return the value at a dotted path, or None if a key is missing."""
    value: Any = record
    for key in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _value(path: str) -> Callable[[Record], str | None]:
    def text(record: Record) -> str | None:
        value = _get(record, path)
        if value is None:
            return None
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, Sequence) and not isinstance(value, str):
            return ", ".join(str(item) for item in value)
        return str(value)

    return text


def _endpoint(key: str) -> Callable[[Record], str | None]:
    def text(record: Record) -> str | None:
        address = record.get(key)
        return None if address is None else endpoint_text(str(address), record.get(f"{key}_port"))

    return text


def _queue(key: str) -> Callable[[Record], str | None]:
    def text(record: Record) -> str | None:
        value = record.get(key)
        if not isinstance(value, int):
            return None
        # The queues of a listening socket count connections, not bytes.
        return str(value) if record.get("state") == "listening" else size_text(value)

    return text


def _duration(path: str) -> Callable[[Record], str | None]:
    def text(record: Record) -> str | None:
        value = _get(record, path)
        return duration_text(value) if isinstance(value, int) else None

    return text


def _timer(record: Record) -> str | None:
    """Return the timer and its unanswered expirations. The kernel's `on` is `retransmit`."""
    timer, count = record.get("timer"), record.get("retransmits")
    if timer is None:
        return None
    name = "retransmit" if timer == "on" else str(timer)
    return f"{name} x{count}" if count else name


def _processes(record: Record) -> str | None:
    """Return comm[pid] of the first process and the number of other processes."""
    processes = record.get("processes")
    if not isinstance(processes, Sequence) or isinstance(processes, str) or not processes:
        return None
    first = processes[0]
    name = f"{first.get('comm')}[{first.get('pid')}]" if isinstance(first, Mapping) else str(first)
    return name if len(processes) == 1 else f"{name} +{len(processes) - 1}"


def _unit(record: Record) -> str | None:
    processes = record.get("processes")
    if not isinstance(processes, Sequence) or isinstance(processes, str):
        return None
    units = [process.get("unit") for process in processes if isinstance(process, Mapping)]
    return next((str(unit) for unit in units if unit), None)


def _user(record: Record) -> str | None:
    user = record.get("user")
    if user is not None:
        return str(user)
    uid = record.get("uid")
    return None if uid is None else f"uid {uid}"


def _owner(record: Record) -> str | None:
    known = [text for text in (_processes(record), _unit(record), _user(record)) if text]
    return " ".join(known) or None


# Columns that show more than the value of one key.
COLUMNS: dict[str, Column] = {
    "protocol": Column("PROTO", _value("protocol"), cut=None),
    "state": Column("STATE", _value("state"), cut=None),
    "local": Column("LOCAL", _endpoint("local"), cut="middle"),
    "remote": Column("REMOTE", _endpoint("remote"), cut="middle"),
    "send_queue": Column("SEND-Q", _queue("send_queue"), right=True, cut=None),
    "recv_queue": Column("RECV-Q", _queue("recv_queue"), right=True, cut=None),
    "timer": Column("TIMER", _timer, cut=None),
    "idle_ms": Column("IDLE", _duration("idle_ms"), right=True, cut=None),
    "processes": Column("PROCESSES", _processes),
    "unit": Column("UNIT", _unit),
    "user": Column("USER", _user),
    "owner": Column("OWNER", _owner),
}
DEFAULT_COLUMNS = (
    "namespace",
    "protocol",
    "state",
    "local",
    "remote",
    "send_queue",
    "recv_queue",
    "timer",
    "idle_ms",
    "owner",
    "outcome",
    "reason",
)
VIOLATION_COLUMNS = (
    "namespace",
    "rule",
    "status",
    "protocol",
    "local",
    "remote",
    "owner",
    "reason",
    "protected_by",
)


def column_for(records: Sequence[Record], name: str) -> Column:
    """Return the column of a name: one of COLUMNS, a key of the records or a dotted path."""
    if name in COLUMNS:
        return COLUMNS[name]
    title = name.replace("_", "-").upper()
    if name.endswith("_ms"):
        return Column(title[: -len("-MS")], _duration(name), right=True, cut=None)
    values = [_get(record, name) for record in records]
    numeric = all(value is None or _is_number(value) for value in values)
    return Column(title, _value(name), right=numeric, cut=None if numeric else "end")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
