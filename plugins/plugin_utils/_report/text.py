# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The report as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...module_utils._core.api.stuck import NO_VERDICT
from .document import ReportError
from .finding import Finding
from .sentences import (
    MAX_NUMBERS,
    age_text,
    count_text,
    endpoint,
    evidence_texts,
    owner_text,
    plural,
    verdict_text,
)
from .verdicts import describe

MIN_WIDTH = 40
_MAX_BAR = 30
_MIN_BAR = 8
_EIGHTHS = " ▏▎▍▌▋▊▉"
_INDENT = "    "


def render_text(report: Mapping[str, Any], *, width: int = 100, limit: int = 20) -> str:
    """Return headline, remarks, bars by verdict and by host, and the first connections.

    report: result of build_report(). width: maximum characters per line; longer words are not
    broken. limit: maximum number of connections to list. Raises ReportError.
    """
    for name, value, minimum in (("width", width, MIN_WIDTH), ("limit", limit, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ReportError(f"{name}: {value!r}; expected an integer of at least {minimum}")
    parts = [_wrap(report["headline"], width)]
    if report["comparison"]:
        parts.append(_wrap(report["comparison"]["sentence"], width))
    parts += [_wrap(remark, width, "! ") for remark in report["remarks"]]
    findings = report["findings"]
    several_hosts = report["totals"]["hosts"] > 1
    if findings:
        parts.append("\n" + _bars(_by_verdict(findings), width))
        if several_hosts:
            parts.append("\n" + _bars(_by_host(report["hosts"]), width))
    for finding in findings[:limit]:
        parts.append("\n" + _connection(finding, width, show_host=several_hosts))
    if len(findings) > limit:
        parts.append(f"\nand {plural(len(findings) - limit, 'more connection')}")
    return "\n".join(parts)


class _Row(NamedTuple):
    """A bar. note: text after it."""

    name: str
    count: int
    note: str


def _by_verdict(findings: Sequence[Finding]) -> list[_Row]:
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding["leading"], []).append(finding)
    return [
        _Row(describe(name).title, len(group), _longest([entry["for_ms"] for entry in group]))
        for name, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


def _by_host(hosts: Sequence[Mapping[str, Any]]) -> list[_Row]:
    affected = sorted((host for host in hosts if host["found"]), key=lambda host: -host["found"])
    return [_Row(host["name"], host["found"], _longest([host["longest_ms"]])) for host in affected]


def _longest(ages_ms: Sequence[int | None]) -> str:
    text = age_text(max((age for age in ages_ms if age is not None), default=None))
    return f"longest: at least {text}" if text else ""


def _bars(rows: Sequence[_Row], width: int) -> str:
    name_width = min(max(len(row.name) for row in rows), width // 3)
    count_width = max(len(count_text(row.count)) for row in rows)
    note_width = max(len(row.note) for row in rows)
    bar_width = min(_MAX_BAR, width - name_width - count_width - note_width - 6)
    if bar_width < _MIN_BAR:
        rows = [row._replace(note="") for row in rows]
        bar_width = width - name_width - count_width - 4
    highest = max(row.count for row in rows)
    lines = []
    for row in rows:
        name = row.name if len(row.name) <= name_width else f"{row.name[: name_width - 1]}…"
        drawn = _bar(row.count / highest, bar_width)
        line = (
            f"{name:{name_width}}  {count_text(row.count):>{count_width}}  "
            f"{drawn:{bar_width}}  {row.note}"
        )
        lines.append(line.rstrip())
    return "\n".join(lines)


def _bar(share: float, width: int) -> str:
    eighths = max(1, round(share * width * 8))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _connection(finding: Finding, width: int, *, show_host: bool) -> str:
    ends = f"{endpoint(finding, 'local')} → {endpoint(finding, 'remote')}"
    owner = owner_text(finding) or ("no process" if finding["inode"] == 0 else "owner unknown")
    host = f"{finding['host']}  " if show_host else ""
    lines = [_wrap(f"{host}{ends}  {owner}", width)]
    for entry in finding["verdicts"]:
        numbers = evidence_texts(entry["evidence"])[:MAX_NUMBERS]
        evidence = ", ".join(f"{label} {value}" for label, value in numbers)
        verdict = verdict_text(entry["verdict"], entry["for_ms"])
        lines.append(_wrap(f"{verdict}; {evidence}" if evidence else verdict, width, _INDENT))
    if not finding["verdicts"]:
        lines.append(_wrap(verdict_text(NO_VERDICT, None), width, _INDENT))
    return "\n".join(lines)


def _wrap(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
