# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The results of all hosts as one document, which is also the JSON report."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...module_utils._core.api.stuck import count_by_leading, is_certain, rank
from . import sentences
from .compare import PreviousReportError, compare, parse_report
from .finding import (
    Finding,
    has_verdicts,
    integer,
    make_finding,
    program_name,
    sanitize,
    unsent_bytes,
)
from .steps import finding_selector

VERSION = 1
# Limits between the bars of the age histogram, in milliseconds.
AGE_STEPS_MS = (1_000, 10_000, 60_000, 600_000, 3_600_000, 21_600_000, 86_400_000)
MAX_RANKED = 10
# States that are no open connection.
_NOT_OPEN = ("listening", "closed", "bound-inactive", "time-wait", "syn-recv")


class ReportError(ValueError):
    """Invalid input of a report. The message names the expected input."""


def build_report(
    results: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
    *,
    time: str,
    previous: Any = None,
    selection: Any = None,
) -> dict[str, Any]:
    """Return the report of several hosts. The same input gives the same document.

    results: for each host the result of socket_diag_info, or of a failed or unreachable task.
    facts: for each host the result of socket_diag_facts, where there is one. time: time of the
    report as shown. previous: an earlier report or its JSON, to compare with. selection: what the
    report asked the hosts for; two reports compare well only if it is equal. Raises ReportError.
    """
    if not isinstance(results, Mapping):
        raise ReportError(f"expected a mapping of host names to results, got {_type_name(results)}")
    earlier = None if previous is None else _previous(previous)
    known = facts if isinstance(facts, Mapping) else {}
    hosts, findings = [], []
    for name in sorted(results, key=natural):
        host, host_findings = _host(sanitize(name, 253), results[name], known.get(name))
        hosts.append(host)
        findings += host_findings
    findings.sort(key=_severity)
    for finding in findings:
        finding["selector"] = finding_selector(finding)
    report: dict[str, Any] = {
        "version": VERSION,
        "time": sanitize(time, 60),
        "selection": None if selection is None else _plain(selection),
        "headline": "",
        "remarks": [],
        "totals": _totals(hosts, findings),
        "ages": _ages(findings),
        "peers": _ranking(findings, lambda finding: finding["remote"]),
        "programs": _ranking(findings, program_name),
        "hosts": hosts,
        "findings": findings,
        "comparison": None,
        "gone": [],
        "not_shown": list(sentences.NOT_SHOWN),
    }
    if earlier is not None:
        compare(report, earlier)
        report["comparison"]["sentence"] = sentences.comparison(report["comparison"])
    report["headline"] = sentences.headline(report)
    report["remarks"] = sentences.remarks(report)
    return report


def _previous(value: Any) -> Mapping[str, Any]:
    try:
        return parse_report(value, VERSION)
    except PreviousReportError as error:
        raise ReportError(f"previous: {error}") from error


def _plain(value: Any) -> Any:
    """Return a value as its JSON has it, with sanitized text."""
    if isinstance(value, Mapping):
        return {sanitize(key, 60): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return sanitize(value)


def build_host_report(data: Any) -> dict[str, Any]:
    """Return the report of one unnamed host.

    data: socket records with verdicts, or a result of socket_diag_info. Raises ReportError.
    """
    result = data if isinstance(data, Mapping) else {"sockets": data, "matched": 0}
    records = result.get("sockets")
    if isinstance(records, str) or not isinstance(records, Sequence):
        raise ReportError(
            f"expected socket records or a socket_diag_info result, got {_type_name(data)}"
        )
    for index, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise ReportError(f"record {index}: expected a mapping, got {_type_name(record)}")
        if not has_verdicts(record):
            raise ReportError(
                f"record {index} has no verdicts; set details: [verdicts] in socket_diag_info"
            )
    return build_report({"": result}, time="")


def count_verdicts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return the number of connections by leading verdict, in order of precedence."""
    return count_by_leading([finding["leading"] for finding in findings])


def _host(name: str, result: Any, facts_result: Any) -> tuple[dict[str, Any], list[Finding]]:
    result = result if isinstance(result, Mapping) else {}
    facts = _facts(facts_result)
    may_destroy = facts.get("may_destroy")
    host: dict[str, Any] = {
        "name": name,
        "status": _status(result),
        "message": None,
        "found": 0,
        "listed": 0,
        "certain": 0,
        "verdicts": {},
        "longest_ms": None,
        "owners_unknown": 0,
        "waiting_bytes": 0,
        "connections": _open_connections(facts),
        "kernel": None if facts.get("kernel") is None else sanitize(facts["kernel"], 80),
        "may_destroy": may_destroy if may_destroy in (True, False) else None,
    }
    if host["status"] != "answered":
        host["message"] = _failure_message(result)
        return host, []
    records = result.get("sockets") or ()
    findings = [make_finding(name, record) for record in records if isinstance(record, Mapping)]
    host["listed"] = len(findings)
    host["found"] = max(integer(result.get("matched")) or 0, len(findings))
    host["certain"] = sum(is_certain(finding["leading"]) for finding in findings)
    host["verdicts"] = count_verdicts(findings)
    host["longest_ms"] = _longest(finding["for_ms"] for finding in findings)
    host["owners_unknown"] = sum(
        not finding["processes"] and finding["inode"] != 0 for finding in findings
    )
    host["waiting_bytes"] = sum(map(unsent_bytes, findings))
    return host, findings


def _longest(durations: Iterable[int | None]) -> int | None:
    return max((duration for duration in durations if duration is not None), default=None)


def _status(result: Mapping[str, Any]) -> str:
    if result.get("unreachable"):
        return "unreachable"
    if result.get("failed"):
        return "failed"
    sockets = result.get("sockets")
    return (
        "answered"
        if isinstance(sockets, Sequence) and not isinstance(sockets, str)
        else "no_result"
    )


def _failure_message(result: Mapping[str, Any]) -> str | None:
    """Return the message and the standard error of a failed module on one line."""
    parts = [str(result[key]) for key in ("msg", "module_stderr") if result.get(key)]
    return sanitize(" ".join(" ".join(parts).split())) if parts else None


def _facts(result: Any) -> Mapping[str, Any]:
    """Return the facts in a result of socket_diag_facts; empty if there are none."""
    for key in ("ansible_facts", "socket_diag"):
        result = result.get(key) if isinstance(result, Mapping) else None
    return result if isinstance(result, Mapping) else {}


def _open_connections(facts: Mapping[str, Any]) -> int | None:
    totals = facts.get("totals")
    if not isinstance(totals, Mapping):
        return None
    tcp = totals.get("tcp")
    states = tcp if isinstance(tcp, Mapping) else {}
    return sum(integer(count) or 0 for state, count in states.items() if state not in _NOT_OPEN)


def _totals(hosts: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> dict[str, Any]:
    answered = [host for host in hosts if host["status"] == "answered"]
    open_connections = [host["connections"] for host in answered if host["connections"] is not None]
    return {
        "hosts": len(hosts),
        "answered": len(answered),
        "unreachable": sum(host["status"] == "unreachable" for host in hosts),
        "failed": sum(host["status"] == "failed" for host in hosts),
        "no_result": sum(host["status"] == "no_result" for host in hosts),
        "affected": sum(host["certain"] > 0 for host in answered),
        "connections": sum(open_connections) if open_connections else None,
        "found": sum(host["found"] for host in answered),
        "listed": len(findings),
        "left_out": sum(host["found"] - host["listed"] for host in answered),
        "certain": sum(host["certain"] for host in answered),
        "verdicts": count_verdicts(findings),
        "longest_ms": _longest(host["longest_ms"] for host in answered),
        "owners_unknown": sum(host["owners_unknown"] for host in answered),
        "waiting_bytes": sum(host["waiting_bytes"] for host in answered),
    }


def _ages(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the bars of the age histogram, youngest first. The last one is of unknown age."""
    known = [finding for finding in findings if finding["for_ms"] is not None]
    bars = []
    for low, high in zip((0, *AGE_STEPS_MS), (*AGE_STEPS_MS, None)):
        inside = [
            finding
            for finding in known
            if low <= finding["for_ms"] and (high is None or finding["for_ms"] < high)
        ]
        bars.append({"from_ms": low, "to_ms": high, "verdicts": count_verdicts(inside)})
    unknown = [finding for finding in findings if finding["for_ms"] is None]
    return [*bars, {"from_ms": None, "to_ms": None, "verdicts": count_verdicts(unknown)}]


def _ranking(
    findings: Sequence[Finding], key: Callable[[Finding], str | None]
) -> list[dict[str, Any]]:
    """Return {name, found, hosts, verdicts} of the MAX_RANKED groups with the most findings."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        name = key(finding)
        if name is not None:
            groups.setdefault(name, []).append(finding)
    largest = sorted(groups.items(), key=lambda item: (-len(item[1]), natural(item[0])))
    return [
        {
            "name": name,
            "found": len(group),
            "hosts": len({finding["host"] for finding in group}),
            "verdicts": count_verdicts(group),
        }
        for name, group in largest[:MAX_RANKED]
    ]


def _severity(finding: Finding) -> tuple[Any, ...]:
    """Sort key: certain before uncertain, longest first, then a stable order."""
    for_ms = finding["for_ms"]
    return (
        not is_certain(finding["leading"]),
        0 if for_ms is None else -for_ms,
        natural(finding["host"]),
        rank(finding["leading"]),
        str(finding["remote"]),
        finding["remote_port"] or 0,
        str(finding["local"]),
        finding["local_port"] or 0,
        str(finding["cookie"]),
    )


def natural(name: object) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts web-2 before web-10."""
    return tuple(
        (0, int(part), part) if part.isascii() and part.isdigit() else (1, 0, part)
        for part in re.split(r"([0-9]+)", str(name))
        if part
    )


def _type_name(value: object) -> str:
    """Return the built-in type name. Ansible's own types are subclasses with internal names."""
    for builtin in (bool, int, float, str, list, dict):
        if isinstance(value, builtin):
            return builtin.__name__
    return type(value).__name__
