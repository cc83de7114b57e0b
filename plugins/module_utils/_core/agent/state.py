# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what the agent knows of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..destroy import outcomes
from ..messages import describe
from ..policy import findings, model
from ..policy.findings import BudgetExceeded
from ..policy.model import Policy
from ..policy.reconcile import ReconcileResult
from .clocks import Clocks
from .controls import Confirmation, Pause
from .policy_file import Refusal

NO_POLICY = "no_policy"
PAUSED = "paused"
UNCONFIRMED = "unconfirmed"
REPORT = "report_mode"
OVER_LIMIT = "budget_exceeded"
COUNT_UNKNOWN = "budget_unknown"
NOT_SEEN = "not_evaluated"
# What Account.errors calls a look that failed as a whole.
LOOK = "reconcile"
# And that it is not known what was destroyed before the start, within the time of the limits.
COUNT = "read budget.json"

_MOST_NAMED = 50
_ENDED = outcomes.CHANGING | {outcomes.ALREADY_GONE}
HELD_BACK = (NO_POLICY, PAUSED, UNCONFIRMED, REPORT, OVER_LIMIT, COUNT_UNKNOWN, NOT_SEEN)


@dataclass(frozen=True)
class Seen:
    """What is kept of the last look: numbers and words, nothing of its sockets.

    ended_ms: on CLOCK_MONOTONIC.
    statuses: by rule, how many of those that violate it have which; what was ended is no longer
    among them. blind: what could not be looked at: a namespace, a rule or None for all, and why.
    missing: by rule, interfaces that are nowhere. backing_off: where what is left alone leads.
    """

    ended_ms: int
    took_ms: int
    namespaces: int
    statuses: dict[str, Counter[str]]
    excess: BudgetExceeded | None
    untracked: int
    blind: tuple[tuple[str, str | None, str], ...]
    missing: dict[str, list[str]]
    backing_off: tuple[dict[str, Any], ...]


def seen(one: ReconcileResult) -> Seen:
    ended = {each.violation.identity for each in one.results if each.result.outcome in _ENDED}
    statuses: dict[str, Counter[str]] = {}
    backing_off: dict[tuple[object, ...], dict[str, Any]] = {}
    for finding in one.decision.findings:
        violation = finding.violation
        if finding.status != findings.DESTROY or violation.identity not in ended:
            statuses.setdefault(violation.rule.name, Counter())[finding.status] += 1
        if finding.status == findings.BACK_OFF and len(backing_off) < _MOST_NAMED:
            sock = violation.socket
            backing_off.setdefault(
                (violation.rule.name, violation.destination),
                {
                    "rule": violation.rule.name,
                    "local": sock.local,
                    "remote": sock.remote,
                    "remote_port": sock.remote_port,
                },
            )
    return Seen(
        one.ended_ms,
        one.ended_ms - one.began_ms,
        len(one.namespaces),
        statuses,
        one.decision.budget_exceeded,
        one.decision.untracked,
        tuple((each.namespace, each.rule, describe(each.error)) for each in one.not_evaluated),
        one.missing_interfaces,
        tuple(backing_off.values()),
    )


@dataclass
class Account:
    """Everything that the status and the metrics tell; counts are since the agent started.

    resync_s: it is to look at least so often.
    last, last_at: of the last look that could be made. at: when pause and trial were last asked
    for. errors: what cannot be done at present, such as writing a file, and why.
    """

    pid: int
    started: Clocks
    file: str
    resync_s: float
    policy: Policy | None = None
    loaded: Clocks | None = None
    refused: Refusal | None = None
    pause: Pause | None = None
    trial: Confirmation | None = None
    at: Clocks | None = None
    last: Seen | None = None
    last_at: Clocks | None = None
    looks: int = 0
    failed_looks: int = 0
    wakes: int = 0
    processor_s: float = 0.0
    refused_files: int = 0
    excesses: int = 0
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)

    def held_back(self) -> str | None:
        """Why nothing is destroyed just now, or not all that should be; None: nothing is."""
        if self.policy is None:
            return NO_POLICY
        if self.pause is not None:
            return PAUSED
        if self.unconfirmed():
            return UNCONFIRMED
        if self.policy.mode == model.REPORT:
            return REPORT
        if self.last is not None and self.last.excess is not None:
            return COUNT_UNKNOWN if COUNT in self.errors else OVER_LIMIT
        if LOOK in self.errors or (self.last is not None and self.last.blind):
            return NOT_SEEN
        return None

    def enforcing(self) -> bool:
        """Violations are destroyed, as far as the limits and what can be seen allow."""
        return self.held_back() in (None, OVER_LIMIT, COUNT_UNKNOWN, NOT_SEEN)

    def unconfirmed(self) -> bool:
        """The trial of the policy in force is over, and nobody confirmed it."""
        trial = self.on_trial()
        return trial is not None and self.at is not None and trial.over(self.at)

    def on_trial(self) -> Confirmation | None:
        if self.policy is None or self.trial is None:
            return None
        return self.trial if self.trial.awaited_for(self.policy.digest) else None

    def took(self, one: ReconcileResult, at: Clocks) -> None:
        """Count what a pass did."""
        self.last, self.last_at = seen(one), at
        self.looks += 1
        if self.last.blind:
            self.failed_looks += 1
        if self.last.excess is not None:
            self.excesses += 1
        for enforced in one.results:
            self.ended[enforced.violation.rule.name, enforced.result.outcome] += 1

    def statuses(self, rule: str) -> Counter[str]:
        """How many sockets that violate the rule have which status, as the last look showed."""
        return self.last.statuses.get(rule, Counter()) if self.last else Counter()
