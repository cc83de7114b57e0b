# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Rows of the page's table of connections: the text of each cell, without markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...module_utils._core.api.stuck import NO_VERDICT
from .._formatting import size_text
from .charts import colour_class
from .finding import Finding, program_name, unsent_bytes
from .sentences import (
    MAX_NUMBERS,
    age_text,
    count_text,
    endpoint,
    evidence_texts,
    owner_text,
    plural,
)
from .verdicts import describe

# A phone's browser still scrolls this many rows well. The page stays below 3 MB.
MAX_ROWS = 1000

_SOCKET_DETAILS = ("cookie", "inode", "device", "mark", "timer", "retransmits", "idle_ms")
# struct tcp_info counts round trips in microseconds and clocks in milliseconds
# (include/uapi/linux/tcp.h). The suffix selects the unit of the shown number.
_TCP_INFO_NAMES = {
    "rtt": "rtt_us",
    "rto": "rto_us",
    "snd_wnd": "snd_wnd_bytes",
    "bytes_acked": "acked_bytes",
    "bytes_received": "received_bytes",
    "last_data_sent": "last_data_sent_ms",
    "last_data_recv": "last_data_recv_ms",
    "last_ack_recv": "last_ack_recv_ms",
}
_FIN_RECEIVED = ("close-wait", "closing", "last-ack")

Numbers = list[tuple[str, str]]


class Chip(NamedTuple):
    """A verdict as a coloured label. short: what it means."""

    css_class: str
    title: str
    short: str


class Evidence(NamedTuple):
    """A verdict with its numbers. age: None if it is unknown."""

    chip: Chip
    age: str | None
    numbers: Numbers


class Row(NamedTuple):
    """A connection. no_program: text if program is None. change: new, still or None."""

    host: str
    namespace: str | None
    chips: list[Chip]
    evidence: list[Evidence]
    details: Numbers
    age: str | None
    local: str
    remote: str
    program: str | None
    no_program: str
    queued: list[str]
    change: str | None
    first_time: str | None


class GroupRow(NamedTuple):
    """Two or more equal connections: what they share, the longest age and the sum of bytes.

    local: None if they share no local address. new: how many are new.
    """

    rows: list[Row]
    age: str | None
    local: str | None
    remote: str
    program: str | None
    no_program: str
    queued: list[str]
    new: int


def make_group(group: Sequence[Finding]) -> GroupRow:
    """Return the cells of a group and of its connections. A group of one has no row of its own."""
    rows = [make_row(finding) for finding in group]
    ages = [finding["for_ms"] for finding in group if finding["for_ms"] is not None]
    return GroupRow(
        rows=rows,
        age=age_text(max(ages, default=None)),
        local=_shared_end(group, "local"),
        remote=_shared_end(group, "remote") or str(group[0]["remote"]),
        program=program_name(group[0]),
        no_program=rows[0].no_program,
        queued=_queued(sum(map(unsent_bytes, group)), sum(map(unread_bytes, group)), fin=False),
        new=sum(finding["change"] == "new" for finding in group),
    )


def make_row(finding: Finding) -> Row:
    """Return the cells of a connection."""
    verdicts = finding["verdicts"] or [{"verdict": NO_VERDICT, "for_ms": None, "evidence": {}}]
    evidence = [_evidence(verdict) for verdict in verdicts]
    return Row(
        host=finding["host"],
        namespace=None if finding["namespace"] == "current" else finding["namespace"],
        chips=[entry.chip for entry in evidence],
        evidence=evidence,
        details=_details(finding),
        age=age_text(finding["for_ms"]),
        local=endpoint(finding, "local"),
        remote=endpoint(finding, "remote"),
        program=owner_text(finding),
        no_program="no process" if finding["inode"] == 0 else "owner unknown",
        queued=_queued(unsent_bytes(finding), unread_bytes(finding), fin=_only_fin_unread(finding)),
        change=finding["change"] if finding["change"] in ("new", "still") else None,
        first_time=finding["first_time"],
    )


def caption(totals: Mapping[str, Any], shown: int) -> str:
    """Return how many connections the table shows, and where the others are."""
    if totals["found"] == shown == 1:
        return "1 connection."
    if totals["found"] == shown:
        return f"All {plural(shown, 'connection')}, certain ones first, then the longest."
    not_shown = totals["listed"] - shown
    whole = plural(totals["found"], "connection")
    parts = [f"{count_text(shown)} of {whole}, certain ones first, then the longest."]
    if not_shown:
        parts.append(f"{count_text(not_shown)} more are in the JSON document.")
    if totals["left_out"]:
        parts.append(f"{count_text(totals['left_out'])} were only counted (truncated).")
    return " ".join(parts)


def _evidence(verdict: Mapping[str, Any]) -> Evidence:
    return Evidence(
        chip=_chip(verdict["verdict"]),
        age=age_text(verdict["for_ms"]),
        numbers=evidence_texts(verdict["evidence"])[:MAX_NUMBERS],
    )


def _chip(verdict: str) -> Chip:
    return Chip(colour_class(verdict), describe(verdict).title, describe(verdict).short)


def _details(finding: Finding) -> Numbers:
    """Return the numbers that do not fit beside the verdicts."""
    details: dict[str, Any] = {}
    for verdict in finding["verdicts"]:
        known = [item for item in verdict["evidence"].items() if item[1] is not None]
        details.update(known[MAX_NUMBERS:])
    process = (finding["processes"] or [{}])[0]
    details["unit"] = process.get("unit")
    user = user_name(finding)
    details["user"] = None if user is None else str(user)
    details["protocol"] = finding["protocol"]
    details["state"] = finding["state"]
    details.update((name, finding[name]) for name in _SOCKET_DETAILS if finding[name] is not None)
    for name, value in (finding["tcp_info"] or {}).items():
        details.setdefault(_TCP_INFO_NAMES.get(name, name), value)
    return evidence_texts(details)


def user_name(finding: Finding) -> Any:
    """Return the name of the owner, its UID if it has no name, None if it is unknown."""
    return finding["user"] if finding["user"] is not None else finding["uid"]


def unread_bytes(finding: Finding) -> int:
    """Return the bytes that the application has not read, without the FIN of the peer.

    The kernel counts the FIN as one byte until the application reads it.
    """
    return max(0, (finding["recv_queue"] or 0) - (finding["state"] in _FIN_RECEIVED))


def _only_fin_unread(finding: Finding) -> bool:
    return bool(finding["recv_queue"]) and not unread_bytes(finding)


def _queued(unsent: int, unread: int, *, fin: bool) -> list[str]:
    parts = [f"{size_text(unsent)} to send"] if unsent else []
    if fin:
        parts.append("FIN to read")
    if unread:
        parts.append(f"{size_text(unread)} to read")
    return parts


def _shared_end(group: Sequence[Finding], end: str) -> str | None:
    """Return the endpoint that all connections share, or the address."""
    endpoints = {endpoint(finding, end) for finding in group}
    addresses = {finding[end] for finding in group}
    if len(endpoints) == 1:
        return endpoints.pop()
    return str(addresses.pop()) if len(addresses) == 1 else None
