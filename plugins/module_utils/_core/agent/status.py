# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the agent's status, as others read it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..policy import findings
from .clocks import Clocks, Deadline
from .scheduler import longest_gap_s
from .state import REPORT, Account

VERSION = 1
# Of an agent that does not look: it cannot say that itself.
OVERDUE = "overdue"


def status_of(account: Account, now: Clocks) -> dict[str, Any]:
    """The content of status.json: always the same keys."""
    policy, last = account.policy, account.last
    excess = last.excess if last else None
    trial = account.on_trial()
    return {
        "version": VERSION,
        "pid": account.pid,
        "started": _iso(account.started),
        "boot_id": account.started.boot_id,
        "boottime_s": round(now.boottime_s, 3),
        "resync_s": account.resync_s,
        "policy": None
        if policy is None
        else {
            "file": account.file,
            "digest": policy.digest,
            "mode": policy.mode,
            "rules": len(policy.rules),
            "loaded": _iso(account.loaded),
            "warnings": len(policy.warnings),
        },
        "rejected": None
        if account.refused is None
        else {"file": account.refused.file, "errors": list(account.refused.reasons)},
        "enforcing": account.enforcing(),
        "inhibited_by": account.held_back(),
        "pause": None
        if account.pause is None
        else {
            "reason": account.pause.reason,
            "remaining_s": None
            if account.pause.until is None
            else _left_s(account.pause.until, now),
        },
        "trial": None
        if trial is None
        else {
            "digest": trial.digest,
            "remaining_s": 0.0 if trial.until is None else _left_s(trial.until, now),
            "expired": trial.over(now),
        },
        "last_pass": None
        if last is None
        else {
            "at": _iso(account.last_at),
            "monotonic_s": last.ended_ms / 1000,
            "duration_ms": last.took_ms,
            "namespaces": last.namespaces,
            "not_evaluated": [
                {"namespace": label, "rule": rule, "error": text}
                for label, rule, text in last.blind
            ],
        },
        "rules": [
            {
                "name": rule.name,
                "violations": sum(account.statuses(rule.name).values()),
                **{status: account.statuses(rule.name)[status] for status in findings.STATUSES},
                "outcomes": {
                    outcome: count
                    for (name, outcome), count in sorted(account.ended.items())
                    if name == rule.name
                },
                "missing_interfaces": last.missing.get(rule.name, []) if last else [],
            }
            for rule in (policy.rules if policy else ())
        ],
        "budget": None
        if excess is None
        else {
            "due": excess.due,
            "destroyed_in_window": excess.destroyed_in_window,
            "max_sockets": excess.limits.max_sockets,
            "per_ms": excess.limits.per_ms,
            "on_excess": excess.limits.on_excess,
        },
        "backing_off": list(last.backing_off) if last else [],
        "untracked": last.untracked if last else 0,
        "passes": account.looks,
        "cpu_s": round(account.processor_s, 3),
        "faults": [
            {"operation": what, "error": text} for what, text in sorted(account.errors.items())
        ],
    }


def _left_s(until: Deadline, now: Clocks) -> float:
    return round(until.left_s(now), 1)


def _iso(moment: Clocks | None) -> str | None:
    if moment is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment.wall_s))


def as_of(status: Mapping[str, Any], monotonic_s: float, now: Clocks) -> dict[str, Any]:
    """What an agent wrote, as it has to be taken by who reads it at that time: with the age of the
    last look, and if that is too old, with the reason for which nothing is destroyed; and with
    what is left now of a pause and a trial.

    monotonic_s: CLOCK_MONOTONIC, by which the agent waits: nobody can set it, and it stands
    still while the machine sleeps, when nobody can look.
    """
    taken = dict(status)
    same_boot = status.get("boot_id") == now.boot_id
    for key in ("pause", "trial"):
        told = status[key]
        if same_boot and told is not None and told["remaining_s"] is not None:
            passed_s = now.boottime_s - status.get("boottime_s", now.boottime_s)
            taken[key] = {**told, "remaining_s": max(0.0, round(told["remaining_s"] - passed_s, 1))}
    last = status["last_pass"]
    if last is None or "monotonic_s" not in last:
        # There is none, or an agent before this one wrote it.
        return taken
    age_s = round(monotonic_s - last["monotonic_s"], 1) if same_boot else None
    taken["last_pass"] = {**last, "age_s": age_s}
    if age_s is None or age_s > longest_gap_s(status["resync_s"]):
        taken.update(inhibited_by=OVERDUE, enforcing=False)
    return taken


def is_healthy(status: Mapping[str, Any]) -> bool:
    """Nothing is wrong, and nothing holds it back but the policy's own word."""
    return (
        status["inhibited_by"] in (None, REPORT)
        and status["rejected"] is None
        and not status["faults"]
        and status["last_pass"] is not None
        and not status["last_pass"]["not_evaluated"]
    )
