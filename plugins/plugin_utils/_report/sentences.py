# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Headline and remarks of a report, and the format of its counts, times and evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...module_utils._core.api.stuck import is_certain
from .._formatting import duration_text, endpoint_text, size_text
from .verdicts import describe

# Limits of every report, independent of its data.
NOT_SHOWN = (
    (
        "Forwarded connections (routers, NAT, containers behind a bridge): they have no socket on "
        "the host that forwards them. Run the report on their endpoints."
    ),
    "Sockets in network namespaces that you did not select.",
    (
        "Protection: the report does not evaluate the guard. It lists SSH sessions and connections "
        "of the kernel (NFS, iSCSI) like any other; socket_destroy and socket_drain protect them."
    ),
    (
        "Owners that could not be read: without root, or in a container, the process that holds a "
        "socket can be unknown."
    ),
    "The intent of the application: a verdict states only what the kernel measured.",
)

# Numbers of evidence shown with a verdict. The page shows the others on demand.
MAX_NUMBERS = 6
_MAX_CAUSES = 3


def count_text(count: int) -> str:
    return f"{count:,}"


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count_text(count)} {one if count == 1 else many or one + 's'}"


def time_text(time: str) -> str:
    """Format 2026-11-21T06:41:52Z as 2026-11-21 06:41:52 UTC; any other text stays as it is."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)Z$", r"\1 \2 UTC", time)


def age_text(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else duration_text(milliseconds)


def join_names(names: list[str], limit: int = 8) -> str:
    """Join at most `limit` names with commas, and count the others."""
    shown = ", ".join(names[:limit])
    more = len(names) - limit
    return f"{shown} and {count_text(more)} more" if more > 0 else shown


def headline(report: Mapping[str, Any]) -> str:
    """Return the result of the report in one sentence."""
    totals = report["totals"]
    answered, hosts = totals["answered"], totals["hosts"]
    if not answered:
        return "No host could be checked." if hosts else "The report contains no hosts."
    stuck = totals["certain"]
    if not stuck and not totals["found"]:
        return f"No connection is stuck on {_all_hosts(answered, hosts)}."
    if not stuck:
        return f"No connection is certainly stuck, but {count_text(totals['found'])} may be."
    at_least = "At least " if totals["left_out"] else ""
    verb = "makes" if stuck == 1 else "make"
    return (
        f"{at_least}{plural(stuck, 'connection')}{_affected_hosts(totals)} {verb} no progress"
        f"{_causes(totals)}."
    )


def _all_hosts(answered: int, hosts: int) -> str:
    if answered == hosts:
        return "this host" if hosts == 1 else f"any of {plural(hosts, 'host')}"
    return f"the {count_text(answered)} of {plural(hosts, 'host')} that answered"


def _affected_hosts(totals: Mapping[str, Any]) -> str:
    affected, answered, hosts = totals["affected"], totals["answered"], totals["hosts"]
    if hosts == 1:
        return ""
    if answered == 1:
        return " on the only host that answered"
    of_answered = "" if answered == hosts else " that answered"
    if affected == answered:
        return f" on all {plural(answered, 'host')}{of_answered}"
    the = "the " if of_answered else ""
    return f" on {count_text(affected)} of {the}{plural(answered, 'host')}{of_answered}"


def _causes(totals: Mapping[str, Any]) -> str:
    """Return the cause of more than half of the connections, all causes, or the two main ones."""
    counts = {name: count for name, count in totals["verdicts"].items() if is_certain(name)}
    names = sorted(counts, key=lambda name: -counts[name])
    first = describe(names[0]).cause
    if counts[names[0]] == totals["certain"]:
        return f" because {first}"
    if counts[names[0]] * 2 > totals["certain"]:
        return f", most of them ({count_text(counts[names[0]])}) because {first}"
    causes = [f"{describe(name).cause} ({count_text(counts[name])})" for name in names]
    if len(causes) <= _MAX_CAUSES:
        return f" because {', '.join(causes[:-1])} and {causes[-1]}"
    return f", mainly because {causes[0]} and {causes[1]}"


def comparison(compared: Mapping[str, Any]) -> str:
    """Return what changed since an earlier report. compared: `comparison` of the document."""
    counts = ", ".join(
        f"{count_text(compared[key])} {name}"
        for key, name in (("new", "new"), ("still", "still there"), ("gone", "gone"))
    )
    return f"Compared with the report of {time_text(compared['time']) or 'unknown time'}: {counts}."


def comparison_remarks(compared: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each limit of a comparison."""
    sentences = []
    if compared["unknown"]:
        sentences.append(
            f"{plural(compared['unknown'], 'connection')} could not be compared: one of the two "
            "reports has no complete list of the host."
        )
    if not compared["same_selection"]:
        sentences.append(
            "The earlier report selected connections by other variables. New and gone connections "
            "may result from this difference."
        )
    return sentences


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each gap in the data: missing hosts, truncated lists, owners."""
    totals = report["totals"]
    sentences = []
    for status, problem in (
        ("unreachable", "could not be reached"),
        ("failed", "could not be checked"),
        ("no_result", "returned no result"),
    ):
        names = [host["name"] for host in report["hosts"] if host["status"] == status]
        if names:
            sentences.append(f"{plural(len(names), 'host')} {problem}: {join_names(names)}.")
    left_out = totals["left_out"]
    if left_out:
        cut = [host["name"] for host in report["hosts"] if host["found"] > host["listed"]]
        sentences.append(
            f"The lists are truncated: {count_text(left_out)} of "
            f"{plural(totals['found'], 'connection')} {'is' if left_out == 1 else 'are'} counted "
            f"but not listed (on {join_names(cut)}). Increase the limit to list more."
        )
    if totals["owners_unknown"]:
        sentences.append(
            f"The owner of {plural(totals['owners_unknown'], 'connection')} is unknown: no process "
            "that the report could read holds the socket."
        )
    if report["comparison"]:
        sentences += comparison_remarks(report["comparison"])
    return sentences


def endpoint(finding: Mapping[str, Any], end: str) -> str:
    """Return the address and port of one end, `local` or `remote`."""
    address = finding[end]
    return "?" if address is None else endpoint_text(address, finding[f"{end}_port"])


def owner_text(finding: Mapping[str, Any]) -> str | None:
    """Return comm[pid] of the first process and the number of others, None if unknown."""
    processes = finding["processes"]
    if not processes:
        return None
    more = f" +{len(processes) - 1}" if len(processes) > 1 else ""
    return f"{processes[0]['comm']}[{processes[0]['pid']}]{more}"


def verdict_text(name: str, for_ms: int | None) -> str:
    """Return "CLOSE_WAIT for at least 9.5s: the application has not closed its end"."""
    described = describe(name)
    duration = "" if for_ms is None else f" for at least {duration_text(for_ms)}"
    return f"{described.title}{duration}: {described.short}"


def evidence_texts(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return label and text of each known value, in the order of the evidence."""
    return [_evidence_text(name, value) for name, value in evidence.items() if value is not None]


def _evidence_text(name: str, value: object) -> tuple[str, str]:
    """Return label and text of one value. The suffix of the name gives its unit."""
    if isinstance(value, bool):
        return _label(name), "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return _label(name), str(value)
    for suffix, format_value in _UNITS.items():
        if name.endswith(suffix):
            text = format_value(int(value))
            return _label(name[: -len(suffix)]), _relative(name, text)
    grouped = isinstance(value, int) and abs(value) >= 100_000
    return _label(name), f"{value:,}" if grouped else f"{value:g}"


def _relative(name: str, duration: str) -> str:
    """Mark a duration in the past (`last_*`, `*last_received_ms`) or in the future (`next_*`)."""
    if name.startswith("last_") or name.endswith("last_received_ms"):
        return f"{duration} ago"
    return f"in {duration}" if name.startswith("next_") else duration


_UNITS = {
    "_ms": duration_text,
    "_us": lambda value: f"{value / 1000:g}ms",
    "_bytes": size_text,
}


def _label(name: str) -> str:
    return name.replace("_", " ")
