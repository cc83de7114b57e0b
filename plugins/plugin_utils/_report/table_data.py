# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Data of the page's script: what it filters, sorts, exports and copies.

The rows have the order of the table. Their cells have the order of COLUMNS, which are also the
columns of the exported CSV, except for the last two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...module_utils._core.api.stuck import NO_VERDICT, count_by_leading, is_certain
from .connections import unread_bytes, user_name
from .finding import Finding, program_name, unsent_bytes
from .groups import Group
from .sentences import owner_text
from .steps import Selector, command_words, group_selector, is_harmless
from .verdicts import describe

COLUMNS = (
    "host",
    "namespace",
    "verdict",
    "verdicts",
    "for_ms",
    "protocol",
    "state",
    "local",
    "local_port",
    "remote",
    "remote_port",
    "program",
    "process",
    "user",
    "unsent_bytes",
    "unread_bytes",
    "cookie",
    "change",
    "first_time",
    "selector",
    "words",
)


def table_data(groups: Sequence[Group], all_findings: Iterable[Finding]) -> dict[str, Any]:
    """Return the data as plain lists and mappings.

    groups: of the findings in the table. all_findings: of the report; the selector of a group
    matches no other finding of its host.
    """
    by_place: dict[tuple[str, str | None], list[Finding]] = {}
    for finding in all_findings:
        by_place.setdefault(_place(finding), []).append(finding)
    names = {name: describe(name) for group in groups for name in _all_verdicts(group)}
    return {
        "columns": list(COLUMNS),
        "rows": [_row(finding) for group in groups for finding in group],
        "groups": [_group(group, by_place[_place(group[0])]) for group in groups],
        "verdicts": {
            name: {"title": known.title, "short": known.short, "certain": is_certain(name)}
            for name, known in names.items()
        },
        "harmless_hosts": sorted(
            {group[0]["host"] for group in groups if is_harmless(group[0]["host"])}
        ),
    }


def count_all_verdicts(findings: Iterable[Finding]) -> Mapping[str, int]:
    """Return how many findings have each verdict, first or not, in order of precedence."""
    return count_by_leading([name for finding in findings for name in _all_verdicts([finding])])


def _all_verdicts(group: Sequence[Finding]) -> set[str]:
    return {name for finding in group for name in _verdict_names(finding)}


def _verdict_names(finding: Finding) -> list[str]:
    return [entry["verdict"] for entry in finding["verdicts"]] or [NO_VERDICT]


def _place(finding: Finding) -> tuple[str, str | None]:
    return finding["host"], finding["namespace"]


def _row(finding: Finding) -> list[Any]:
    selector = finding["selector"]
    cells = {
        **{name: finding.get(name) for name in COLUMNS},
        "verdict": finding["leading"],
        "verdicts": _verdict_names(finding),
        "program": program_name(finding),
        "process": owner_text(finding),
        "user": user_name(finding),
        "unsent_bytes": unsent_bytes(finding),
        "unread_bytes": unread_bytes(finding),
        "words": _words(selector, finding),
    }
    return [cells[name] for name in COLUMNS]


def _group(group: Group, place: Sequence[Finding]) -> dict[str, Any]:
    """Return the number of rows of a group, and its selector if it has several."""
    if len(group) == 1:
        return {"size": 1}
    members = {id(finding) for finding in group}
    selector = group_selector(group, [entry for entry in place if id(entry) not in members])
    return {
        "size": len(group),
        "selector": selector,
        "words": _words(selector, group[0]),
    }


def _words(selector: Selector | None, finding: Finding) -> str | None:
    return None if selector is None else command_words(selector, finding["namespace"])
