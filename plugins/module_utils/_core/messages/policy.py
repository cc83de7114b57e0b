# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Plans and warnings of a policy as text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..text import printable
from .results import connection_text, exceeded_lines, not_evaluated_text

_STATUSES = {
    "destroy": "would be destroyed",
    "limit": "exceeds the budget",
    "protected": "protected",
    "reported": "reported only",
    "inhibited": "not destroyed in mode report",
    "other_rule": "matched by an earlier rule",
}
_CHANGING = frozenset({"destroyed", "disconnected"})


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """Describe a plan for a terminal. plan: PolicyPlan.to_dict()."""
    lines: list[str] = []
    for rule in plan["rules"]:
        lines.append(_rule_line(rule))
        lines += [f"  {_socket_line(entry)}" for entry in rule["sockets"]]
    lines += exceeded_lines(plan["budget_exceeded"])
    for entry in plan["not_evaluated"]:
        lines.append(not_evaluated_text(entry["namespace"], entry["rule"], entry["error"]))
    if plan["mode"] == "report":
        lines.append("mode report: the agent destroys none of them")
    return list(map(printable, lines))


def _rule_line(rule: Mapping[str, Any]) -> str:
    hold = ""
    if rule["hold_ms"] and rule["action"] == "destroy":
        hold = f", after {rule['hold_ms'] / 1000:g} s"
    idle = "" if rule["conditions_hold"] else "; its while condition is not true now"
    missing = rule["missing_interfaces"]
    lacks = f"; missing interface {', '.join(missing)}" if missing else ""
    sockets = _counted(rule["sockets"], "socket")
    return f"{rule['name']}: {sockets} ({rule['action']}{hold}){idle}{lacks}"


def _socket_line(entry: Mapping[str, Any]) -> str:
    evidence = f" ({'; '.join(entry['evidence'])})" if entry["evidence"] else ""
    fate = _STATUSES.get(entry["status"], entry["status"])
    if entry["expected"] is not None and entry["expected"] not in _CHANGING:
        fate = f"cannot be destroyed ({entry['expected']})"
    return f"{fate}{protection_text(entry)}: {connection_text(entry['record'])}{evidence}"


def protection_text(entry: Mapping[str, Any]) -> str:
    """Say by what a socket is protected; nothing for one that is not."""
    if entry.get("protected_by") is None:
        return ""
    detail = f" ({entry['protected_detail']})" if entry["protected_detail"] else ""
    return f" by {entry['protected_by']}{detail}"


def _counted(items: Collection[object], name: str) -> str:
    return f"1 {name}" if len(items) == 1 else f"{len(items)} {name}s"
