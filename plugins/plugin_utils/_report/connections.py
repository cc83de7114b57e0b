# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Rows of the page's table of connections: the text of each cell, without markup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .._formatting import size_text
from .charts import colour_class
from .finding import Finding, unsent
from .sentences import MOST_NUMBERS, age_text, count_text, endpoint, numbers, owner_text, plural
from .verdicts import words

# A phone's browser still scrolls this many rows well. The page stays below 3 MB.
MAX_ROWS = 1000

NO_VERDICT = {"verdict": "none", "for_ms": None, "evidence": {}}

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


class Evidence(NamedTuple):
    """A verdict with its numbers. age: None where the row's own column shows it."""

    css_class: str
    title: str
    age: str | None
    numbers: Numbers


class Row(NamedTuple):
    """A connection. verdicts: names separated by spaces. no_program: text where program is None."""

    host: str
    namespace: str | None
    verdicts: str
    evidence: list[Evidence]
    details: Numbers
    age: str | None
    age_ms: int | None
    local: str
    remote: str
    state: str
    program: str | None
    no_program: str
    unit: str | None
    user: object
    unsent_bytes: int
    waiting: list[str]


def row(entry: Finding) -> Row:
    processes = entry["processes"] or [{}]
    return Row(
        host=entry["host"],
        namespace=None if entry["namespace"] == "current" else entry["namespace"],
        verdicts=" ".join(verdict["verdict"] for verdict in entry["verdicts"]) or "none",
        evidence=[_evidence(entry, verdict) for verdict in entry["verdicts"] or [NO_VERDICT]],
        details=_details(entry),
        age=age_text(entry["for_ms"]),
        age_ms=entry["for_ms"],
        local=endpoint(entry, "local"),
        remote=endpoint(entry, "remote"),
        state=" ".join(part for part in (entry["protocol"], entry["state"]) if part),
        program=owner_text(entry),
        no_program="none" if entry["inode"] == 0 else "not known",
        unit=processes[0].get("unit"),
        user=entry["user"] if entry["user"] is not None else entry["uid"],
        unsent_bytes=unsent(entry),
        waiting=_waiting(entry),
    )


def caption(totals: Mapping[str, Any], shown: int) -> str:
    """Return how many connections the table shows, and where the others are."""
    if totals["found"] == shown == 1:
        return "It is the only one."
    if totals["found"] == shown:
        return f"All {plural(shown, 'connection')}, those that wait longest first."
    beside = totals["listed"] - shown
    whole = plural(totals["found"], "connection")
    parts = [f"{count_text(shown)} of {whole}, those that wait longest first."]
    if beside:
        parts.append(f"{count_text(beside)} more are described in the JSON document.")
    if totals["left_out"]:
        parts.append(f"{count_text(totals['left_out'])} were only counted (truncated).")
    return " ".join(parts)


def _evidence(entry: Finding, verdict: Mapping[str, Any]) -> Evidence:
    return Evidence(
        css_class=colour_class(verdict["verdict"]),
        title=words(verdict["verdict"]).title,
        age=None if verdict["for_ms"] == entry["for_ms"] else age_text(verdict["for_ms"]),
        numbers=numbers(verdict["evidence"])[:MOST_NUMBERS],
    )


def _details(entry: Finding) -> Numbers:
    """Return the numbers that do not fit beside the verdicts."""
    details: dict[str, Any] = {}
    for verdict in entry["verdicts"]:
        known = [item for item in verdict["evidence"].items() if item[1] is not None]
        details.update(known[MOST_NUMBERS:])
    details.update((name, entry[name]) for name in _SOCKET_DETAILS if entry[name] is not None)
    for name, value in (entry["tcp_info"] or {}).items():
        details.setdefault(_TCP_INFO_NAMES.get(name, name), value)
    return numbers(details)


def _waiting(entry: Finding) -> list[str]:
    lines = []
    if unsent(entry):
        lines.append(f"{size_text(unsent(entry))} to send")
    unread = entry["recv_queue"] or 0
    if unread and entry["state"] in _FIN_RECEIVED:
        # The kernel counts the peer's FIN as one byte until the application has read up to it.
        unread -= 1
        if not unread:
            lines.append("the end to read")
    if unread:
        lines.append(f"{size_text(unread)} to read")
    return lines
