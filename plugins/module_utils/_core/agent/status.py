# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the agent's status, as others read it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..policy import engine
from ..policy.look import missing_interfaces
from ..words import describe
from .account import REPORT, Account
from .deadline import Clocks

VERSION = 1

# At most so many targets that back off are named; all are counted.
_MOST_NAMED = 50


def status_of(account: Account, now: Clocks) -> dict[str, Any]:
    """The content of status.json: always the same keys."""
    policy, decision = account.policy, account.last.decision if account.last else None
    held_back = account.held_back()
    trial = account.on_trial()
    statuses = account.by_rule()
    missing = missing_interfaces(account.last.judgements if account.last else ())
    return {
        "version": VERSION,
        "pid": account.pid,
        "started": _iso(account.started),
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
        "refused": None
        if account.refused is None
        else {"file": account.refused.file, "errors": list(account.refused.reasons)},
        "enforcing": account.enforcing(),
        "held_back": held_back,
        "pause": None
        if account.pause is None
        else {
            "reason": account.pause.reason,
            "left_s": None if account.pause.until is None else account.pause.until.left_s(now),
        },
        "trial": None
        if trial is None
        else {
            "digest": trial.digest,
            "left_s": 0.0 if trial.until is None else trial.until.left_s(now),
            "over": trial.over(now),
        },
        "last_look": None
        if account.last is None
        else {
            "at": _iso(account.last_at),
            "took_ms": account.last.ended_ms - account.last.began_ms,
            "namespaces": len(account.last.looks),
            "failed": [
                {"namespace": label, "rule": rule, "error": describe(error)}
                for label, rule, error in account.blind()
            ],
        },
        "rules": [
            {
                "name": rule.name,
                "violations": sum(statuses[rule.name].values()),
                **{status: statuses[rule.name][status] for status in engine.STATUSES},
                "outcomes": {
                    outcome: count
                    for (name, outcome), count in sorted(account.ended.items())
                    if name == rule.name
                },
                "missing_interfaces": missing.get(rule.name, []),
            }
            for rule in (policy.rules if policy else ())
        ],
        "limit": None
        if decision is None or decision.excess is None
        else {
            "due": decision.excess.due,
            "destroyed_in_window": decision.excess.spent,
            "max_sockets": decision.excess.limits.max_sockets,
            "per_ms": decision.excess.limits.per_ms,
            "on_excess": decision.excess.limits.on_excess,
        },
        "backing_off": _backing_off(account),
        "untracked": 0 if decision is None else decision.untracked,
        "looks": account.looks,
        "processor_s": round(account.processor_s, 3),
        "errors": [{"what": what, "error": text} for what, text in sorted(account.errors.items())],
    }


def _backing_off(account: Account) -> list[dict[str, Any]]:
    if account.last is None:
        return []
    named: dict[tuple[Any, ...], dict[str, Any]] = {}
    for finding in account.last.decision.findings:
        if finding.status == engine.BACK_OFF and len(named) < _MOST_NAMED:
            subject = finding.violation.subject
            named.setdefault(
                (finding.violation.rule.name, subject.remote, subject.sock.dport),
                {
                    "rule": finding.violation.rule.name,
                    "local": subject.local,
                    "remote": subject.remote,
                    "remote_port": subject.sock.dport,
                },
            )
    return list(named.values())


def _iso(moment: Clocks | None) -> str | None:
    if moment is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment.wall_s))


def is_healthy(status: Mapping[str, Any]) -> bool:
    """Nothing is wrong, and nothing holds it back but the policy's own word."""
    return (
        status["held_back"] in (None, REPORT)
        and status["refused"] is None
        and not status["errors"]
        and not status["last_look"]["failed"]
    )
