# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Tables of sockets, verdicts and outcomes: which columns, and the text of each cell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ..messages import endpoint_text
from .terminal import DIM, GREEN, RED, YELLOW, Cell, Column, Terminal

Record = Mapping[str, Any]
Identity = tuple[str, str]
_Made = tuple[Column, Callable[[Record], Cell]]

NOTHING = "-"
UNKNOWN = "?"

_OUTCOME_STYLES = {
    "destroyed": GREEN,
    "disconnected": GREEN,
    "protected": YELLOW,
    "already_gone": DIM,
}


def sockets_table(
    terminal: Terminal,
    records: Sequence[Record],
    *,
    details: Collection[str] = (),
    header: bool = True,
) -> None:
    """Write the table of `list`. details: as in api.find."""
    columns = [*_place(records), *_socket(), *_owner(details), *_IDLE]
    if "info" in details:
        columns += _INFO
    if "memory" in details:
        columns += _MEMORY
    if "process" in details:
        columns += _PROCESS
    if "verdicts" in details:
        columns += _VERDICTS
    _write(terminal, columns, records, header)


def stuck_table(terminal: Terminal, connections: Sequence[Record], *, header: bool = True) -> None:
    """Write the table of `stuck`: the entries of StuckReport.connections as mappings."""
    records = [connection["record"] for connection in connections]
    columns: list[_Made] = [
        (Column("VERDICT"), lambda each: _verdict_cell(each["leading"], each["certain"])),
        (Column("FOR", right=True), lambda each: Cell(duration_text(each["for_ms"]))),
    ]
    columns += _of_record([*_place(records), *_socket(queues=False), *_PROCESS])
    columns.append(
        (
            Column("EVIDENCE", flexible=True, optional=2),
            lambda each: Cell(_evidence(each["verdicts"])),
        )
    )
    _write(terminal, columns, connections, header)


def outcomes_table(
    terminal: Terminal, entries: Sequence[Record], *, forecast: bool = False
) -> None:
    """Write the sockets of a destroy or a drain with the outcome of each.

    Entries without ``outcome`` are connections that a drain left. forecast: nothing has been done.
    """
    columns: list[_Made] = [(Column("EXPECTED" if forecast else "OUTCOME"), _outcome)]
    columns += [*_place(entries), *_socket(queues=False), *_owner(())]
    if any("lost" in entry for entry in entries):
        columns.append((Column("LOST", right=True, optional=2), _lost))
    if any(entry.get("reason") for entry in entries):
        columns.append((Column("WHY", flexible=True), _reason))
    _write(terminal, columns, entries)


def violations_table(
    terminal: Terminal, violations: Sequence[Record], outcomes: Mapping[Identity, str] | None = None
) -> None:
    """Write the violations of a policy. outcomes: what happened to sockets; None: nothing yet."""
    records = [violation["record"] for violation in violations]
    columns: list[_Made] = [
        (Column("RULE"), lambda each: Cell(each["rule"])),
        (Column("STATUS"), lambda each: Cell(each["status"])),
    ]
    if outcomes is not None:
        columns.append((Column("OUTCOME"), _outcome_among(outcomes)))
    columns += _of_record([*_place(records), *_socket(queues=False), *_PROCESS])
    if any(_violation_reason(each).text for each in violations):
        columns.append((Column("WHY", flexible=True, optional=2), _violation_reason))
    _write(terminal, columns, violations)


def identity(record: Record) -> Identity:
    """What identifies a socket of this host: its namespace and its cookie."""
    return record["namespace"], record["cookie"]


def groups_table(
    terminal: Terminal, summary: Mapping[str, Any], key: str, *, header: bool = True
) -> None:
    """Write how many sockets have each value of a key."""
    rows = [[Cell(str(count)), Cell(str(value))] for value, count in summary[key].items()]
    if summary.get("other"):
        rows.append([Cell(str(summary["other"])), Cell("(others)", DIM)])
    columns = [Column("COUNT", right=True), Column(key.upper(), flexible=True)]
    terminal.table(columns, rows, header=header)


def duration_text(milliseconds: int | None) -> str:
    """A duration in its largest unit: ``350ms``, ``12s``, ``5m``, ``2h``, ``3d``."""
    if milliseconds is None:
        return NOTHING
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = milliseconds // 1000
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def size_text(count: int) -> str:
    """A number of bytes in binary units: ``512``, ``1.5K``, ``20M``."""
    size = float(count)
    for unit in ("", "K", "M"):
        if size < 1024:
            return f"{size:.0f}{unit}" if unit == "" or size >= 10 else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}G"


def _write(
    terminal: Terminal, columns: Sequence[_Made], entries: Iterable[Record], header: bool = True
) -> None:
    rows = [[make(entry) for _column, make in columns] for entry in entries]
    if rows:
        terminal.table([column for column, _make in columns], rows, header=header)


def _of_record(columns: Iterable[_Made]) -> list[_Made]:
    """The same columns, of entries that have the record under the key ``record``."""

    def inside(make: Callable[[Record], Cell]) -> Callable[[Record], Cell]:
        return lambda entry: make(entry["record"])

    return [(column, inside(make)) for column, make in columns]


def _place(records: Iterable[Record]) -> list[_Made]:
    """The namespace, if it is not only the current one."""
    names = {record["namespace"] for record in records}
    if names <= {"current"}:
        return []
    # The user named a single one, and knows it.
    column = Column("NAMESPACE", optional=8 if len(names) == 1 else 0)
    return [(column, lambda record: Cell(record["namespace"]))]


def _socket(*, queues: bool = True) -> list[_Made]:
    counts: list[_Made] = [
        (Column("RECV-Q", right=True, optional=1), lambda record: _number(record["recv_queue"])),
        (Column("SEND-Q", right=True, optional=1), lambda record: _number(record["send_queue"])),
    ]
    return [
        (Column("PROTO"), lambda record: Cell(record["protocol"])),
        (Column("STATE"), lambda record: Cell(record["state"])),
        *(counts if queues else []),
        (Column("LOCAL"), lambda record: _end(record, "local")),
        (Column("REMOTE"), lambda record: _end(record, "remote")),
    ]


def _owner(details: Collection[str]) -> list[_Made]:
    # The process is more specific than the user.
    optional = 5 if "process" in details else 3
    return [(Column("USER", optional=optional), _user)]


def _end(record: Record, end: str) -> Cell:
    port = record[f"{end}_port"]
    return Cell(endpoint_text(record[end], port or "*"))


def _user(record: Record) -> Cell:
    if record["uid"] is None:
        return Cell(UNKNOWN, DIM)
    return Cell(record["user"] or str(record["uid"]))


def _number(value: int | None) -> Cell:
    return Cell(NOTHING if value is None else str(value), "" if value else DIM)


_IDLE: list[_Made] = [
    (
        Column("IDLE", right=True, optional=4),
        lambda record: Cell(duration_text(record["idle_ms"])),
    )
]


def _processes(record: Record) -> Cell:
    held = record["processes"]
    if held is None:
        return Cell(UNKNOWN, DIM)
    return Cell(", ".join(f"{each['comm']}[{each['pid']}]" for each in held) or NOTHING)


_PROCESS: list[_Made] = [(Column("PROCESS", flexible=True), _processes)]


def _info(key: str, *, microseconds: bool = False) -> Callable[[Record], Cell]:
    def make(record: Record) -> Cell:
        value = (record["tcp_info"] or {}).get(key)
        if value is None:
            return Cell(NOTHING, DIM)
        return Cell(f"{value / 1000:g}ms" if microseconds else str(value))

    return make


_INFO: list[_Made] = [
    (Column("RTT", right=True), _info("rtt", microseconds=True)),
    (Column("CWND", right=True), _info("snd_cwnd")),
    (Column("RETRANS", right=True), _info("total_retrans")),
    (Column("SENT", right=True, optional=6), _info("bytes_acked")),
    (Column("RECEIVED", right=True, optional=6), _info("bytes_received")),
    (Column("CONGESTION", optional=7), lambda record: Cell(record["congestion"] or NOTHING)),
]


def _memory(key: str) -> Callable[[Record], Cell]:
    return lambda record: _number((record["memory"] or {}).get(key))


_MEMORY: list[_Made] = [
    (Column("RMEM", right=True), _memory("rmem_alloc")),
    (Column("RCVBUF", right=True, optional=6), _memory("rcvbuf")),
    (Column("WMEM", right=True), _memory("wmem_alloc")),
    (Column("SNDBUF", right=True, optional=6), _memory("sndbuf")),
    (Column("DROPS", right=True, optional=6), _memory("drops")),
]


def _verdicts(record: Record) -> Cell:
    if record["stuck"] is None and record["stranded"] is None:
        return Cell(UNKNOWN, DIM)
    found = [*(record["stuck"] or ()), *(record["stranded"] or ())]
    names = [
        f"{each['verdict']} {duration_text(each['for_ms'])}"
        if each["for_ms"] is not None
        else each["verdict"]
        for each in found
    ]
    if record["superseded"]:
        names.append("superseded")
    return Cell(", ".join(names) or NOTHING, RED if names else DIM)


_VERDICTS: list[_Made] = [(Column("VERDICTS", flexible=True), _verdicts)]


def _verdict_cell(name: str, certain: bool) -> Cell:
    return Cell(name if certain else f"{name} (?)", RED if certain else YELLOW)


def _evidence(verdicts: Iterable[Record]) -> str:
    """The numbers behind the verdicts; the name of the first has a column of its own."""
    parts: list[str] = []
    for index, verdict in enumerate(verdicts):
        numbers = [
            _named_value(key, value)
            for key, value in (verdict["evidence"] or {}).items()
            if value is not None
        ]
        parts.append(" ".join([*([verdict["verdict"]] if index else []), *numbers]))
    return "; ".join(part for part in parts if part)


def _named_value(key: str, value: object) -> str:
    """``idle_ms`` and 90000 as ``idle=1m``."""
    name, _underscore, unit = key.rpartition("_")
    if isinstance(value, int) and unit == "ms":
        return f"{name}={duration_text(value)}"
    if isinstance(value, int) and unit == "bytes":
        return f"{name}={size_text(value)}"
    return f"{key}={value}"


def _outcome(entry: Record) -> Cell:
    return _outcome_cell(entry.get("outcome", "left"))


def _outcome_cell(name: str) -> Cell:
    return Cell(name, _OUTCOME_STYLES.get(name, RED))


def _outcome_among(outcomes: Mapping[Identity, str]) -> Callable[[Record], Cell]:
    def make(violation: Record) -> Cell:
        found = outcomes.get(identity(violation["record"]))
        return Cell(NOTHING, DIM) if found is None else _outcome_cell(found)

    return make


def _lost(entry: Record) -> Cell:
    lost = entry.get("lost")
    if lost is None:
        return Cell(UNKNOWN, DIM)
    total = sum(lost.values())
    return Cell(size_text(total), "" if total else DIM)


def _reason(entry: Record) -> Cell:
    return Cell(_reason_text(entry.get("reason"), entry.get("reason_detail")))


def _reason_text(rule: str | None, detail: str | None) -> str:
    if rule is None:
        return detail or ""
    return f"{rule}: {detail}" if detail else rule


def _violation_reason(violation: Record) -> Cell:
    protected = _reason_text(violation["protected_by"], violation["protected_detail"])
    return Cell("; ".join(part for part in (protected, *violation["reason"]) if part))
