# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""status.json: the agent status as JSON and as text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..messages import exceeded_lines, not_evaluated_text
from ..policy import findings
from ..policy.budget import exceeded_budget
from ..policy.model import REFUSE
from ..text import printable
from . import state as states
from .clocks import Clocks, Deadline
from .scheduler import max_pass_gap_s
from .state import AgentState

VERSION = 1
# The value of inhibited_by for an agent that runs no passes. The reader of the file sets it.
OVERDUE = "overdue"

# Longer times are shown in minutes.
_MINUTES_FROM_S = 300


def build_status(state: AgentState, now: Clocks) -> dict[str, Any]:
    """Return the content of status.json. Its keys are always the same."""
    policy, last = state.policy, state.last_pass
    trial = state.active_trial()
    return {
        "version": VERSION,
        "pid": state.pid,
        "started": _iso(state.started),
        "boot_id": state.started.boot_id,
        "boottime_s": round(now.boottime_s, 3),
        "resync_s": state.resync_s,
        "policy": None
        if policy is None
        else {
            "file": state.policy_file,
            "digest": policy.digest,
            "mode": policy.mode,
            "rules": len(policy.rules),
            "loaded": _iso(state.loaded),
            "warnings": len(policy.warnings),
        },
        "rejected": None
        if state.rejected is None
        else {"file": state.rejected.file, "errors": list(state.rejected.errors)},
        "enforcing": state.enforcing(),
        "inhibited_by": state.inhibited_by(),
        "pause": None
        if state.pause is None
        else {
            "reason": state.pause.reason,
            "remaining_s": None
            if state.pause.until is None
            else _remaining_s(state.pause.until, now),
        },
        "trial": None
        if trial is None
        else {
            "digest": trial.digest,
            "remaining_s": 0.0 if trial.until is None else _remaining_s(trial.until, now),
            "expired": trial.expired(now),
        },
        "last_pass": None
        if last is None
        else {
            "at": _iso(state.last_pass_at),
            "monotonic_s": last.ended_ms / 1000,
            "duration_ms": last.duration_ms,
            "namespaces": last.namespaces,
            "waiting": last.waiting,
            "oldest_s": None if last.oldest_s is None else round(last.oldest_s, 1),
            "not_evaluated": [
                {
                    "namespace": each.namespace,
                    "rule": each.rule,
                    "error": each.error,
                    "age_s": round(each.age_s, 1),
                }
                for each in last.not_evaluated
            ],
        },
        "rules": [
            {
                "name": rule.name,
                "violations": sum(state.statuses(rule.name).values()),
                **{status: state.statuses(rule.name)[status] for status in findings.STATUSES},
                "unenforced": dict(sorted(state.unenforced(rule.name).items())),
                "outcomes": {
                    outcome: count
                    for (name, outcome), count in sorted(state.outcomes.items())
                    if name == rule.name
                },
                "missing_interfaces": last.missing_interfaces.get(rule.name, []) if last else [],
            }
            for rule in (policy.rules if policy else ())
        ],
        "budget": exceeded_budget(last.budget_exceeded) if last else None,
        "backing_off": list(last.backing_off) if last else [],
        "unenforced": sum(
            sum(state.unenforced(rule.name).values()) for rule in (policy.rules if policy else ())
        ),
        "untracked": last.untracked if last else 0,
        "passes": state.passes,
        "cpu_s": round(state.cpu_s, 3),
        "faults": [
            {"operation": operation, "error": error}
            for operation, error in sorted(state.faults.items())
        ],
    }


def _remaining_s(until: Deadline, now: Clocks) -> float:
    return round(until.remaining_s(now), 1)


def _iso(moment: Clocks | None) -> str | None:
    if moment is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment.wall_s))


def at_read_time(status: Mapping[str, Any], monotonic_s: float, now: Clocks) -> dict[str, Any]:
    """Update a status to the time at which it is read.

    Adds the age of the last pass, sets inhibited_by to "overdue" if that is too old, and reduces
    the remaining times. monotonic_s: CLOCK_MONOTONIC, the clock of the resync. It cannot be set,
    and it stops during suspend, when no agent can run a pass.
    """
    updated = dict(status)
    same_boot = status.get("boot_id") == now.boot_id
    for key in ("pause", "trial"):
        control = status[key]
        if same_boot and control is not None and control["remaining_s"] is not None:
            age_s = now.boottime_s - status.get("boottime_s", now.boottime_s)
            remaining_s = max(0.0, round(control["remaining_s"] - age_s, 1))
            updated[key] = {**control, "remaining_s": remaining_s}
    last = status["last_pass"]
    if last is None or "monotonic_s" not in last:
        # No pass yet, or written by an earlier version.
        return updated
    pass_age_s = round(monotonic_s - last["monotonic_s"], 1) if same_boot else None
    updated["last_pass"] = {**last, "age_s": pass_age_s}
    if pass_age_s is None or pass_age_s > max_pass_gap_s(status["resync_s"]):
        updated.update(inhibited_by=OVERDUE, enforcing=False)
    return updated


def is_healthy(status: Mapping[str, Any]) -> bool:
    """Return whether the agent works without errors; report mode is no error."""
    return (
        status["inhibited_by"] in (None, states.REPORT_MODE)
        and status["rejected"] is None
        and not status["faults"]
        and not status["untracked"]
        and status["last_pass"] is not None
        and not status["last_pass"]["not_evaluated"]
    )


def summary(state: AgentState) -> str:
    """Return the status line for systemd."""
    policy = state.policy
    if policy is None:
        return "no policy: destroying nothing"
    inhibited_by = state.inhibited_by()
    mode = "in force" if inhibited_by is None else f"inhibited ({inhibited_by})"
    return f"policy {policy.digest[:12]} {mode}, {len(policy.rules)} rules"


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """Format the result of build_status or at_read_time as text."""
    lines = [] if status["policy"] is None else [_policy_line(status["policy"])]
    lines.append(_enforcing_line(status))
    if status["pause"] is not None:
        reason = status["pause"]["reason"] or "no reason given"
        remaining = _remaining_text(status["pause"])
        lines.append(f"paused: {reason}{remaining} (to end it: socket-agent resume)")
    if status["trial"] is not None:
        remaining = _remaining_text(status["trial"])
        lines.append(f"policy on trial{remaining} (to keep it: socket-agent confirm)")
    if status["budget"] is not None and status["inhibited_by"] != states.BUDGET_UNKNOWN:
        lines += exceeded_lines(status["budget"])
        lines.append("If the rules are right, raise limits.max_sockets; otherwise narrow them")
    if status["rejected"] is not None:
        lines += [f"policy rejected: {error}" for error in status["rejected"]["errors"]]
    lines += map(_rule_line, status["rules"])
    if status["last_pass"] is not None:
        lines += map(_not_evaluated_line, status["last_pass"]["not_evaluated"])
    lines += [fault["error"] for fault in status["faults"]]
    return list(map(printable, lines))


def _policy_line(policy: Mapping[str, Any]) -> str:
    return f"policy {policy['digest'][:12]} from {policy['file']}, mode {policy['mode']}"


_INHIBITED = {
    states.NO_POLICY: "destroys nothing: no policy is in force",
    states.PAUSED: "destroys nothing: paused",
    states.UNCONFIRMED: "destroys nothing: the trial expired and the policy is not confirmed",
    states.REPORT_MODE: "destroys nothing: the policy has mode report",
    states.BUDGET_UNKNOWN: "destroys nothing: the budget left by the previous agent is unknown",
    states.NOT_EVALUATED: "enforcing, but some rules or namespaces could not be evaluated",
}


def _enforcing_line(status: Mapping[str, Any]) -> str:
    """Return whether the agent enforces; ends with the value of inhibited_by in brackets."""
    reason = status["inhibited_by"]
    if reason is None:
        return "enforcing"
    if reason == OVERDUE:
        age_s = status["last_pass"]["age_s"]
        last = "before this boot" if age_s is None else f"{age_s:.0f} s ago"
        text = (
            f"destroys nothing: last pass {last}, expected every {status['resync_s']:g} s; "
            "the agent is stopped, blocked or overloaded"
        )
    elif reason == states.UNENFORCED:
        number = status["unenforced"]
        noun = "violation" if number == 1 else "violations"
        text = f"enforcing, but {number} {noun} cannot be destroyed"
    elif reason == states.BUDGET_EXCEEDED:
        budget = status["budget"]
        if budget is None or budget["on_excess"] != REFUSE:
            text = "enforcing, as fast as the limits allow"
        elif any(each["rule"] is None for each in budget["exceeded"]):
            text = "destroys nothing"
        else:
            text = "enforcing, except for the rules and users below"
        text += ": more sockets violate the policy than its limits allow to destroy"
    else:
        text = _INHIBITED[reason]
    return f"{text} [{reason}]"


def _rule_line(rule: Mapping[str, Any]) -> str:
    statuses = ", ".join(f"{rule[name]} {name}" for name in findings.STATUSES if rule[name])
    counts = ", ".join(f"{count} {name}" for name, count in rule["outcomes"].items())
    left = ", ".join(f"{count} {name}" for name, count in rule["unenforced"].items())
    missing = rule["missing_interfaces"]
    return (
        f"  {rule['name']}: {rule['violations']} violation{'' if rule['violations'] == 1 else 's'}"
        + (f" ({statuses})" if statuses else "")
        + (f"; unenforced: {left}" if left else "")
        + (f"; since the start: {counts}" if counts else "")
        + (f"; missing interface {', '.join(missing)}" if missing else "")
    )


def _not_evaluated_line(entry: Mapping[str, Any]) -> str:
    text = not_evaluated_text(entry["namespace"], entry["rule"], entry["error"])
    age_s = entry.get("age_s")
    return f"{text} (for {age_s:.0f} s)" if age_s else text


def _remaining_text(control: Mapping[str, Any]) -> str:
    remaining_s = control["remaining_s"]
    if remaining_s is None:
        return ""
    if remaining_s <= 0:
        return ", expired"
    if remaining_s >= _MINUTES_FROM_S:
        return f", {remaining_s / 60:.0f} min remaining"
    return f", {remaining_s:.0f} s remaining"
