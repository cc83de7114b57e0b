# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Rows of the page's table of connections: the text of each cell, without markup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...module_utils._core.api.stuck import NO_VERDICT
from .._formatting import size_text
from .charts import colour_class
from .finding import Finding, unsent_bytes
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
    queued: list[str]


def make_row(finding: Finding) -> Row:
    """Return the cells of a connection."""
    verdicts = finding["verdicts"] or [{"verdict": NO_VERDICT, "for_ms": None, "evidence": {}}]
    processes = finding["processes"] or [{}]
    return Row(
        host=finding["host"],
        namespace=None if finding["namespace"] == "current" else finding["namespace"],
        verdicts=" ".join(verdict["verdict"] for verdict in verdicts),
        evidence=[_evidence(finding, verdict) for verdict in verdicts],
        details=_details(finding),
        age=age_text(finding["for_ms"]),
        age_ms=finding["for_ms"],
        local=endpoint(finding, "local"),
        remote=endpoint(finding, "remote"),
        state=" ".join(part for part in (finding["protocol"], finding["state"]) if part),
        program=owner_text(finding),
        no_program="none" if finding["inode"] == 0 else "unknown",
        unit=processes[0].get("unit"),
        user=finding["user"] if finding["user"] is not None else finding["uid"],
        unsent_bytes=unsent_bytes(finding),
        queued=_queued(finding),
    )


def caption(totals: Mapping[str, Any], shown: int) -> str:
    """Return how many connections the table shows, and where the others are."""
    if totals["found"] == shown == 1:
        return "1 connection."
    if totals["found"] == shown:
        return f"All {plural(shown, 'connection')}, longest first."
    not_shown = totals["listed"] - shown
    whole = plural(totals["found"], "connection")
    parts = [f"{count_text(shown)} of {whole}, longest first."]
    if not_shown:
        parts.append(f"{count_text(not_shown)} more are in the JSON document.")
    if totals["left_out"]:
        parts.append(f"{count_text(totals['left_out'])} were only counted (truncated).")
    return " ".join(parts)


def _evidence(finding: Finding, verdict: Mapping[str, Any]) -> Evidence:
    return Evidence(
        css_class=colour_class(verdict["verdict"]),
        title=describe(verdict["verdict"]).title,
        age=None if verdict["for_ms"] == finding["for_ms"] else age_text(verdict["for_ms"]),
        numbers=evidence_texts(verdict["evidence"])[:MAX_NUMBERS],
    )


def _details(finding: Finding) -> Numbers:
    """Return the numbers that do not fit beside the verdicts."""
    details: dict[str, Any] = {}
    for verdict in finding["verdicts"]:
        known = [item for item in verdict["evidence"].items() if item[1] is not None]
        details.update(known[MAX_NUMBERS:])
    details.update((name, finding[name]) for name in _SOCKET_DETAILS if finding[name] is not None)
    for name, value in (finding["tcp_info"] or {}).items():
        details.setdefault(_TCP_INFO_NAMES.get(name, name), value)
    return evidence_texts(details)


def _queued(finding: Finding) -> list[str]:
    lines = []
    if unsent_bytes(finding):
        lines.append(f"{size_text(unsent_bytes(finding))} to send")
    unread = finding["recv_queue"] or 0
    if unread and finding["state"] in _FIN_RECEIVED:
        # The kernel counts the peer's FIN as one byte until the application reads it.
        unread -= 1
        if not unread:
            lines.append("FIN to read")
    if unread:
        lines.append(f"{size_text(unread)} to read")
    return lines
