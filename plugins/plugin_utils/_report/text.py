# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the report for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from .document import ReportError
from .finding import Finding
from .sentences import (
    MOST_NUMBERS,
    age_text,
    count_text,
    endpoint,
    numbers,
    owner_text,
    plural,
    told,
)
from .verdicts import words

MIN_WIDTH = 40
_LONGEST_BAR = 30
_SHORTEST_BAR = 8
_EIGHTHS = " ▏▎▍▌▋▊▉"
_INDENT = "    "


def text(report: Mapping[str, Any], *, width: int = 100, limit: int = 20) -> str:
    """Headline, counts with bars, and the evidence of the first `limit` connections.

    No line is wider than width, except for words that are. Raises ReportError.
    """
    for name, value, least in (("width", width, MIN_WIDTH), ("limit", limit, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ReportError(f"{name}: {value!r} is not a number of {least} or more")
    parts = [_wrapped(report["headline"], width)]
    parts += [_wrapped(remark, width, "! ") for remark in report["remarks"]]
    findings = report["findings"]
    if findings:
        parts.append("\n" + _bars(_by_verdict(findings), width))
    if report["totals"]["hosts"] > 1 and findings:
        parts.append("\n" + _bars(_by_host(report["hosts"]), width))
    several = report["totals"]["hosts"] > 1
    for each in findings[:limit]:
        parts.append("\n" + _connection(each, width, several))
    if len(findings) > limit:
        parts.append(f"\nand {plural(len(findings) - limit, 'more connection')}")
    return "\n".join(parts)


_Row = tuple[str, int, str]


def _by_verdict(findings: Sequence[Finding]) -> list[_Row]:
    """Each leading verdict, how many have it, and the longest proven time."""
    groups: dict[str, list[Finding]] = {}
    for each in findings:
        groups.setdefault(each["leading"], []).append(each)
    return [
        (words(name).title, len(inside), _longest([each["for_ms"] for each in inside]))
        for name, inside in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


def _by_host(hosts: Sequence[Mapping[str, Any]]) -> list[_Row]:
    affected = sorted((host for host in hosts if host["found"]), key=lambda host: -host["found"])
    return [(host["name"], host["found"], _longest([host["longest_ms"]])) for host in affected]


def _longest(ages: Sequence[int | None]) -> str:
    known = age_text(max((age for age in ages if age is not None), default=None))
    return f"the longest for at least {known}" if known else ""


def _bars(rows: Sequence[_Row], width: int) -> str:
    names = min(max(len(name) for name, _count, _more in rows), width // 3)
    numbers = max(len(count_text(count)) for _name, count, _more in rows)
    behind = max(len(more) for _name, _count, more in rows)
    room = min(_LONGEST_BAR, width - names - numbers - behind - 6)
    if room < _SHORTEST_BAR:
        rows = [(name, count, "") for name, count, _more in rows]
        room = width - names - numbers - 4
    highest = max(count for _name, count, _more in rows)
    lines = []
    for name, count, more in rows:
        shown = name if len(name) <= names else f"{name[: names - 1]}…"
        drawn = _bar(count / highest, room)
        line = f"{shown:{names}}  {count_text(count):>{numbers}}  {drawn:{room}}  {more}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _bar(share: float, room: int) -> str:
    eighths = max(1, round(share * room * 8))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _connection(each: Finding, width: int, several: bool) -> str:
    ends = f"{endpoint(each, 'local')} → {endpoint(each, 'remote')}"
    owner = owner_text(each) or ("no process" if each["inode"] == 0 else "owner not known")
    where = f"{each['host']}  " if several else ""
    lines = [_wrapped(f"{where}{ends}  {owner}", width)]
    for verdict in each["verdicts"] or [{"verdict": "none", "for_ms": None, "evidence": {}}]:
        shown = numbers(verdict["evidence"])[:MOST_NUMBERS]
        evidence = ", ".join(f"{name} {value}" for name, value in shown)
        said = told(verdict["verdict"], verdict["for_ms"]) + (f": {evidence}" if evidence else "")
        lines.append(_wrapped(said, width, _INDENT))
    return "\n".join(lines)


def _wrapped(said: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        said,
        width,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
