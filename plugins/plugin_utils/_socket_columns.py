# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what the columns of a table say of a record, in words for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ._formatting import address_text, duration_text, size_text

Record = Mapping[str, Any]


class Column(NamedTuple):
    """text gives None for what is unknown. cut: where a long text loses characters; None: never."""

    title: str
    text: Callable[[Record], str | None]
    right: bool = False
    cut: str | None = "end"


def _look_up(record: Record, path: str) -> Any:
    """The value at a path with dots; None where one of its keys is missing."""
    value: Any = record
    for key in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _plain(path: str) -> Callable[[Record], str | None]:
    def text(record: Record) -> str | None:
        value = _look_up(record, path)
        if value is None:
            return None
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, Sequence) and not isinstance(value, str):
            return ", ".join(str(each) for each in value)
        return str(value)

    return text


def _end(key: str) -> Callable[[Record], str | None]:
    def text(record: Record) -> str | None:
        address = record.get(key)
        return None if address is None else address_text(str(address), record.get(f"{key}_port"))

    return text


def _queue(key: str) -> Callable[[Record], str | None]:
    def text(record: Record) -> str | None:
        value = record.get(key)
        if not isinstance(value, int):
            return None
        # A listener's queues hold connections.
        return str(value) if record.get("state") == "listening" else size_text(value)

    return text


def _duration(path: str) -> Callable[[Record], str | None]:
    def text(record: Record) -> str | None:
        value = _look_up(record, path)
        return duration_text(value) if isinstance(value, int) else None

    return text


def _timer(record: Record) -> str | None:
    """The timer and how often it fired in vain. The kernel calls that of retransmission `on`."""
    timer, count = record.get("timer"), record.get("retransmits")
    if timer is None:
        return None
    name = "retransmit" if timer == "on" else str(timer)
    return f"{name} x{count}" if count else name


def _processes(record: Record) -> str | None:
    """comm[pid] of the first process, and how many more hold the socket."""
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
    units = [each.get("unit") for each in processes if isinstance(each, Mapping)]
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


# Columns that are not simply the value of a key.
COLUMNS: dict[str, Column] = {
    "protocol": Column("PROTO", _plain("protocol"), cut=None),
    "state": Column("STATE", _plain("state"), cut=None),
    "local": Column("LOCAL", _end("local"), cut="middle"),
    "remote": Column("REMOTE", _end("remote"), cut="middle"),
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
# Of what violates a policy: which rule, what is to become of it, and why.
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


def column_of(records: Sequence[Record], name: str) -> Column:
    if name in COLUMNS:
        return COLUMNS[name]
    title = name.replace("_", "-").upper()
    if name.endswith("_ms"):
        return Column(title[: -len("-MS")], _duration(name), right=True, cut=None)
    values = [_look_up(record, name) for record in records]
    numbers = all(value is None or _is_number(value) for value in values)
    return Column(title, _plain(name), right=numbers, cut=None if numbers else "end")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
