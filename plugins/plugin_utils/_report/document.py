# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what all hosts answered as one document, which is also the JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import sentences
from .finding import Finding, clean, finding, judged, number, program, unsent
from .verdicts import RANK, certain

VERSION = 1
# How long at least, in milliseconds: where one bar of the histogram ends and the next begins.
AGE_STEPS = (1_000, 10_000, 60_000, 600_000, 3_600_000, 21_600_000, 86_400_000)
MOST_RANKED = 10
# States without a connection, or without anybody who waits for one.
_NO_CONNECTION = ("listening", "closed", "bound-inactive", "time-wait", "syn-recv")


class ReportError(ValueError):
    """What was given cannot be reported on; the message says why."""


def document(
    answers: Mapping[str, Any], facts: Mapping[str, Any] | None = None, *, time: str
) -> dict[str, Any]:
    """The whole report. Raises ReportError.

    answers: for each host what socket_diag_info answered, or that it failed or was not reached.
    facts: for each host what socket_diag_facts answered, as far as it did. time: when, as shown.
    The same input gives the same document.
    """
    if not isinstance(answers, Mapping):
        raise ReportError(f"a mapping of hosts to answers is needed, not {_kind(answers)}")
    known = facts if isinstance(facts, Mapping) else {}
    hosts, findings = [], []
    for name in sorted(answers, key=_natural):
        host, found = _host(clean(name, 253), answers[name], known.get(name))
        hosts.append(host)
        findings += found
    findings.sort(key=_worst_first)
    report: dict[str, Any] = {
        "version": VERSION,
        "time": clean(time, 60),
        "headline": "",
        "remarks": [],
        "totals": _totals(hosts, findings),
        "ages": _ages(findings),
        "peers": _ranking(findings, lambda each: each["remote"]),
        "programs": _ranking(findings, program),
        "hosts": hosts,
        "findings": findings,
        "not_shown": list(sentences.NOT_SHOWN),
    }
    report["headline"] = sentences.headline(report)
    report["remarks"] = sentences.remarks(report)
    return report


def of_one_host(told: Any) -> dict[str, Any]:
    """The document of one host, which is not named. Raises ReportError.

    told: its records, or what socket_diag_info answered.
    """
    answer = told if isinstance(told, Mapping) else {"sockets": told, "matched": 0}
    records = answer.get("sockets")
    if isinstance(records, str) or not isinstance(records, Sequence):
        raise ReportError(
            f"records or the result of socket_diag_info are needed, not {_kind(told)}"
        )
    for index, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise ReportError(f"record {index} is {_kind(record)}, not a mapping")
        if not judged(record):
            raise ReportError(
                f"record {index} has no verdicts: ask socket_diag_info for details: [verdicts]"
            )
    return document({"": answer}, time="")


def counted(findings: Iterable[Finding]) -> dict[str, int]:
    """How many connections have which leading verdict, in order of precedence."""
    counts = Counter(each["leading"] for each in findings)
    return {name: counts[name] for name in sorted(counts, key=_rank)}


def _rank(name: str) -> tuple[int, str]:
    return RANK.get(name, len(RANK)), name


def _host(name: str, answer: Any, facts: Any) -> tuple[dict[str, Any], list[Finding]]:
    answer = answer if isinstance(answer, Mapping) else {}
    told = _facts(facts)
    records = answer.get("sockets")
    host: dict[str, Any] = {
        "name": name,
        "status": _status(answer),
        "message": None,
        "found": 0,
        "listed": 0,
        "certain": 0,
        "verdicts": {},
        "longest_ms": None,
        "owners_unknown": 0,
        "waiting_bytes": 0,
        "connections": _connections(told),
        "kernel": None if told.get("kernel") is None else clean(told["kernel"], 80),
        "may_destroy": told.get("may_destroy")
        if told.get("may_destroy") in (True, False)
        else None,
    }
    if host["status"] != "looked":
        host["message"] = _message(answer)
        return host, []
    found = [finding(name, each) for each in records or () if isinstance(each, Mapping)]
    host["listed"] = len(found)
    host["found"] = max(number(answer.get("matched")) or 0, len(found))
    host["certain"] = sum(certain(each["leading"]) for each in found)
    host["verdicts"] = counted(found)
    host["longest_ms"] = max(
        (each["for_ms"] for each in found if each["for_ms"] is not None), default=None
    )
    host["owners_unknown"] = sum(not each["processes"] and each["inode"] != 0 for each in found)
    host["waiting_bytes"] = sum(map(unsent, found))
    return host, found


def _status(answer: Mapping[str, Any]) -> str:
    if answer.get("unreachable"):
        return "unreachable"
    if answer.get("failed"):
        return "failed"
    sockets = answer.get("sockets")
    looked = isinstance(sockets, Sequence) and not isinstance(sockets, str)
    return "looked" if looked else "not_asked"


def _message(answer: Mapping[str, Any]) -> str | None:
    """What was said of the failure; of a module that did not even run, what came instead of it."""
    said = [answer[key] for key in ("msg", "module_stderr") if answer.get(key)]
    return clean(" ".join(" ".join(map(str, said)).split())) if said else None


def _facts(answer: Any) -> Mapping[str, Any]:
    """The facts inside of an answer of socket_diag_facts; empty where there are none."""
    for key in ("ansible_facts", "socket_diag"):
        answer = answer.get(key) if isinstance(answer, Mapping) else None
    return answer if isinstance(answer, Mapping) else {}


def _connections(facts: Mapping[str, Any]) -> int | None:
    totals = facts.get("totals")
    if not isinstance(totals, Mapping):
        return None
    tcp = totals.get("tcp")
    states = tcp if isinstance(tcp, Mapping) else {}
    return sum(number(count) or 0 for state, count in states.items() if state not in _NO_CONNECTION)


def _totals(hosts: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> dict[str, Any]:
    looked = [host for host in hosts if host["status"] == "looked"]
    told = [host["connections"] for host in looked if host["connections"] is not None]
    return {
        "hosts": len(hosts),
        "looked": len(looked),
        "unreachable": sum(host["status"] == "unreachable" for host in hosts),
        "failed": sum(host["status"] == "failed" for host in hosts),
        "not_asked": sum(host["status"] == "not_asked" for host in hosts),
        "affected": sum(host["certain"] > 0 for host in looked),
        "connections": sum(told) if told else None,
        "found": sum(host["found"] for host in looked),
        "listed": len(findings),
        "left_out": sum(host["found"] - host["listed"] for host in looked),
        "certain": sum(host["certain"] for host in looked),
        "verdicts": counted(findings),
        "longest_ms": max(
            (host["longest_ms"] for host in looked if host["longest_ms"] is not None), default=None
        ),
        "owners_unknown": sum(host["owners_unknown"] for host in looked),
        "waiting_bytes": sum(host["waiting_bytes"] for host in looked),
    }


def _ages(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Bars from the youngest to the oldest; the last, with from_ms null, is of unknown age."""
    bars = []
    for low, high in zip((0, *AGE_STEPS), (*AGE_STEPS, None)):
        inside = [
            each
            for each in findings
            if each["for_ms"] is not None
            and low <= each["for_ms"]
            and (high is None or each["for_ms"] < high)
        ]
        bars.append({"from_ms": low, "to_ms": high, "verdicts": counted(inside)})
    unknown = [each for each in findings if each["for_ms"] is None]
    return [*bars, {"from_ms": None, "to_ms": None, "verdicts": counted(unknown)}]


def _ranking(findings: Sequence[Finding], key: Any) -> list[dict[str, Any]]:
    """Who has the most findings: {name, found, hosts, verdicts}, at most MOST_RANKED."""
    groups: dict[str, list[Finding]] = {}
    for each in findings:
        name = key(each)
        if name is not None:
            groups.setdefault(name, []).append(each)
    most = sorted(groups.items(), key=lambda item: (-len(item[1]), _natural(item[0])))
    return [
        {
            "name": name,
            "found": len(inside),
            "hosts": len({each["host"] for each in inside}),
            "verdicts": counted(inside),
        }
        for name, inside in most[:MOST_RANKED]
    ]


def _worst_first(each: Finding) -> tuple[Any, ...]:
    age = each["for_ms"]
    return (
        not certain(each["leading"]),
        0 if age is None else -age,
        _natural(each["host"]),
        _rank(each["leading"]),
        str(each["remote"]),
        each["remote_port"] or 0,
        str(each["local"]),
        each["local_port"] or 0,
        str(each["cookie"]),
    )


def _natural(name: object) -> tuple[tuple[int, int, str], ...]:
    """web-2 before web-10."""
    return tuple(
        (0, int(part), part) if part.isascii() and part.isdigit() else (1, 0, part)
        for part in re.split(r"([0-9]+)", str(name))
        if part
    )


def _kind(value: object) -> str:
    """The plain name of a type; Ansible's own are subclasses with names that tell nobody much."""
    for kind in (bool, int, float, str, list, dict):
        if isinstance(value, kind):
            return kind.__name__
    return type(value).__name__
