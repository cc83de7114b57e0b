# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Comparison with an earlier report: which findings are new, and which are no longer there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .finding import Finding, make_finding, sanitize

NEW, STILL, UNKNOWN = "new", "still", "unknown"

# Together they identify a connection. A cookie is unique until its host boots again.
_IDENTITY = (
    "host",
    "namespace",
    "protocol",
    "local",
    "local_port",
    "remote",
    "remote_port",
    "cookie",
)


class PreviousReportError(ValueError):
    """An earlier report that cannot be compared. The message says what is wrong and expected."""


def parse_report(value: Any, version: int) -> Mapping[str, Any]:
    """Return an earlier report. value: its mapping or its JSON. Raises PreviousReportError."""
    expected = f"the JSON document of an earlier report, of version {version}"
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise PreviousReportError(f"not valid JSON: {error}; expected {expected}") from None
    if not isinstance(value, Mapping) or "findings" not in value or "hosts" not in value:
        raise PreviousReportError(f"no report of stuck connections; expected {expected}")
    if value.get("version") != version:
        raise PreviousReportError(
            f"a report of version {sanitize(value.get('version'), 20)}; expected {expected}"
        )
    for key in ("findings", "hosts"):
        entries = value[key]
        if (
            isinstance(entries, str)
            or not isinstance(entries, Sequence)
            or not all(isinstance(entry, Mapping) for entry in entries)
        ):
            raise PreviousReportError(f"{key} is not a list of mappings; expected {expected}")
    return value


def compare(report: dict[str, Any], previous: Mapping[str, Any]) -> None:
    """Set `change` and `first_time` of each finding, and `comparison` and `gone` of the report.

    previous: result of parse_report().
    """
    earlier_time = sanitize(previous.get("time") or "", 60)
    earlier = {_identity(finding): finding for finding in map(_restored, previous["findings"])}
    checked_before = fully_checked(previous["hosts"])
    for finding in report["findings"]:
        match = earlier.pop(_identity(finding), None)
        if match is not None:
            finding["change"] = STILL
            finding["first_time"] = match["first_time"] or earlier_time
        else:
            finding["change"] = NEW if finding["host"] in checked_before else UNKNOWN
    checked_now = fully_checked(report["hosts"])
    gone = [finding for finding in earlier.values() if finding["host"] in checked_now]
    for finding in gone:
        finding["first_time"] = finding["first_time"] or earlier_time
    changes = [finding["change"] for finding in report["findings"]]
    report["gone"] = gone
    report["comparison"] = {
        "time": earlier_time,
        "new": changes.count(NEW),
        "still": changes.count(STILL),
        "gone": len(gone),
        "unknown": changes.count(UNKNOWN) + len(earlier) - len(gone),
        "same_selection": previous.get("selection") == report["selection"],
    }


def fully_checked(hosts: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the hosts that answered and whose list is not truncated."""
    return {
        sanitize(host.get("name"), 253)
        for host in hosts
        if host.get("status") == "answered" and host.get("found") == host.get("listed")
    }


def _identity(finding: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(finding[key] for key in _IDENTITY)


def _restored(entry: Mapping[str, Any]) -> Finding:
    """Return a finding of a file that anybody may have changed."""
    record = {**entry, "stuck": entry.get("verdicts"), "stranded": None, "superseded": None}
    finding = make_finding(sanitize(entry.get("host"), 253), record)
    first_time = entry.get("first_time")
    finding["first_time"] = None if first_time is None else sanitize(first_time, 60)
    return finding
