# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the agent's status, in words for who asks on the host."""

from __future__ import annotations

from typing import Any

from ..policy import findings
from ..policy.model import REFUSE
from . import state
from .status import OVERDUE

# From here on minutes say more than seconds.
_LONG_S = 300


def status_lines(told: dict[str, Any]) -> list[str]:
    """told: as status.status_of or status.as_of gives it."""
    lines = [] if told["policy"] is None else [_policy_line(told["policy"])]
    lines.append(_how(told))
    if told["pause"] is not None:
        reason = told["pause"]["reason"] or "no reason given"
        lines.append(f"paused: {reason}{_left(told['pause'])} (socket-agent resume ends it)")
    if told["trial"] is not None:
        lines.append(f"on trial{_left(told['trial'])} (socket-agent confirm keeps the policy)")
    if told["budget"] is not None and told["inhibited_by"] != state.COUNT_UNKNOWN:
        lines.append(_limit_line(told["budget"]))
    for each in (told["rejected"] or {"errors": []})["errors"]:
        lines.append(f"refused policy: {each}")
    lines += map(_rule_line, told["rules"])
    for each in told["last_pass"]["not_evaluated"] if told["last_pass"] else ():
        rule = f", rule {each['rule']}" if each["rule"] else ""
        lines.append(f"namespace {each['namespace']}{rule}: {each['error']}")
    lines += [each["error"] for each in told["faults"]]
    return lines


def _policy_line(policy: dict[str, Any]) -> str:
    return f"policy {policy['digest'][:12]} of {policy['file']}, mode {policy['mode']}"


_HELD_BACK = {
    state.NO_POLICY: "destroys nothing: no policy is in force",
    state.PAUSED: "destroys nothing: it is paused",
    state.UNCONFIRMED: "destroys nothing: the policy was not confirmed in time",
    state.REPORT: "destroys nothing: the policy says mode report",
    state.COUNT_UNKNOWN: "destroys nothing: what was destroyed before it started is not known",
    state.NOT_SEEN: "enforcing, but not everything could be looked at",
}


def _how(told: dict[str, Any]) -> str:
    """Whether it does what it is there for; what holds it back is named as in the status."""
    reason = told["inhibited_by"]
    if reason is None:
        return "enforcing"
    if reason == OVERDUE:
        age_s = told["last_pass"]["age_s"]
        last = "before this boot" if age_s is None else f"{age_s:.0f} s ago"
        return (
            f"destroys nothing: its last look was {last}, and it is to look every "
            f"{told['resync_s']:g} s: it hangs, was stopped, or has more to do than it can "
            f"[{reason}]"
        )
    if reason == state.OVER_LIMIT:
        refuses = told["budget"] is not None and told["budget"]["on_excess"] == REFUSE
        words = "destroys nothing" if refuses else "enforcing, as fast as the limits allow"
        return f"{words}: more violate the policy than its limits allow to destroy [{reason}]"
    return f"{_HELD_BACK[reason]} [{reason}]"


def _limit_line(limit: dict[str, Any]) -> str:
    return (
        f"over the limit: {limit['due']} sockets to destroy, at most {limit['max_sockets']} in "
        f"{limit['per_ms'] / 1000:g} s ({limit['on_excess']}). If they are meant, raise "
        "limits.max_sockets; if not, narrow the rules"
    )


def _rule_line(rule: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in rule["outcomes"].items())
    now = ", ".join(f"{rule[each]} {each}" for each in findings.STATUSES if rule[each])
    verb = "violates" if rule["violations"] == 1 else "violate"
    missing = rule["missing_interfaces"]
    return (
        f"  {rule['name']}: {rule['violations']} {verb} it now"
        + (f" ({now})" if now else "")
        + (f"; since the start {counts}" if counts else "")
        + (f"; no interface {', '.join(missing)}: is the name misspelt?" if missing else "")
    )


def _left(told: dict[str, Any]) -> str:
    left = told["remaining_s"]
    if left is None:
        return ""
    if left <= 0:
        return ", the time is over"
    return f", {left / 60:.0f} min left" if left >= _LONG_S else f", {left:.0f} s left"
