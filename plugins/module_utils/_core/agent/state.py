# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The agent state: all that status.json and the metrics show."""

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
from .controls import Pause, Trial
from .paths import BUDGET
from .policy_file import Rejected

# Values of inhibited_by, in order of precedence.
NO_POLICY = "no_policy"
PAUSED = "paused"
UNCONFIRMED = "unconfirmed"
REPORT_MODE = "report_mode"
BUDGET_EXCEEDED = "budget_exceeded"
BUDGET_UNKNOWN = "budget_unknown"
NOT_EVALUATED = "not_evaluated"
INHIBITED_BY = (
    NO_POLICY,
    PAUSED,
    UNCONFIRMED,
    REPORT_MODE,
    BUDGET_EXCEEDED,
    BUDGET_UNKNOWN,
    NOT_EVALUATED,
)

# Operations of the fault tracker: a pass that failed as a whole, and an unknown budget.
RECONCILE = "reconcile"
READ_BUDGET = f"read {BUDGET}"

_MAX_BACKING_OFF = 50
_GONE = outcomes.CHANGING | {outcomes.ALREADY_GONE}


@dataclass(frozen=True)
class PassSummary:
    """The last pass in numbers and texts; holds no sockets.

    ended_ms: on CLOCK_MONOTONIC. statuses: violations by rule and status, without destroyed
    sockets. not_evaluated: namespace, rule (None: all rules), error. missing_interfaces: by rule,
    interfaces that exist in no namespace. backing_off: destinations in backoff.
    """

    ended_ms: int
    duration_ms: int
    namespaces: int
    statuses: dict[str, Counter[str]]
    budget_exceeded: BudgetExceeded | None
    untracked: int
    not_evaluated: tuple[tuple[str, str | None, str], ...]
    missing_interfaces: dict[str, list[str]]
    backing_off: tuple[dict[str, Any], ...]


def summarize(result: ReconcileResult) -> PassSummary:
    gone = {each.violation.identity for each in result.results if each.result.outcome in _GONE}
    statuses: dict[str, Counter[str]] = {}
    backing_off: dict[tuple[object, ...], dict[str, Any]] = {}
    for finding in result.decision.findings:
        violation = finding.violation
        if finding.status != findings.DESTROY or violation.identity not in gone:
            statuses.setdefault(violation.rule.name, Counter())[finding.status] += 1
        if finding.status == findings.BACK_OFF and len(backing_off) < _MAX_BACKING_OFF:
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
    return PassSummary(
        ended_ms=result.ended_ms,
        duration_ms=result.ended_ms - result.began_ms,
        namespaces=len(result.namespaces),
        statuses=statuses,
        budget_exceeded=result.decision.budget_exceeded,
        untracked=result.decision.untracked,
        not_evaluated=tuple(
            (each.namespace, each.rule, describe(each.error)) for each in result.not_evaluated
        ),
        missing_interfaces=result.missing_interfaces,
        backing_off=tuple(backing_off.values()),
    )


@dataclass
class AgentState:
    """Counts are since the agent started.

    resync_s: the longest interval between two passes. loaded: when the policy was loaded.
    controls_read_at: when the pause and the trial were read. last_pass, last_pass_at: of the last
    completed pass. events: rtnetlink events. outcomes: by rule and outcome. faults: by operation,
    what fails at present.
    """

    pid: int
    started: Clocks
    policy_file: str
    resync_s: float
    policy: Policy | None = None
    loaded: Clocks | None = None
    rejected: Rejected | None = None
    pause: Pause | None = None
    trial: Trial | None = None
    controls_read_at: Clocks | None = None
    last_pass: PassSummary | None = None
    last_pass_at: Clocks | None = None
    passes: int = 0
    incomplete_passes: int = 0
    events: int = 0
    cpu_s: float = 0.0
    policy_rejections: int = 0
    budget_exceeded_passes: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    def inhibited_by(self) -> str | None:
        """Return why the agent destroys nothing, or not all violations; None if it does."""
        if self.policy is None:
            return NO_POLICY
        if self.pause is not None:
            return PAUSED
        if self.trial_expired():
            return UNCONFIRMED
        if self.policy.mode == model.REPORT:
            return REPORT_MODE
        last = self.last_pass
        if last is not None and last.budget_exceeded is not None:
            return BUDGET_UNKNOWN if READ_BUDGET in self.faults else BUDGET_EXCEEDED
        if RECONCILE in self.faults or (last is not None and last.not_evaluated):
            return NOT_EVALUATED
        return None

    def enforcing(self) -> bool:
        """Return whether the agent destroys violations, within its limits and its view."""
        return self.inhibited_by() in (None, BUDGET_EXCEEDED, BUDGET_UNKNOWN, NOT_EVALUATED)

    def trial_expired(self) -> bool:
        """Return whether the trial of the policy in force has expired unconfirmed."""
        trial = self.active_trial()
        return (
            trial is not None
            and self.controls_read_at is not None
            and trial.expired(self.controls_read_at)
        )

    def active_trial(self) -> Trial | None:
        """Return the trial of the policy in force; None if that policy is not on trial."""
        if self.policy is None or self.trial is None:
            return None
        return self.trial if self.trial.covers(self.policy.digest) else None

    def record_pass(self, result: ReconcileResult, at: Clocks) -> None:
        """Count a completed pass and its outcomes."""
        self.last_pass, self.last_pass_at = summarize(result), at
        self.passes += 1
        if self.last_pass.not_evaluated:
            self.incomplete_passes += 1
        if self.last_pass.budget_exceeded is not None:
            self.budget_exceeded_passes += 1
        for enforced in result.results:
            self.outcomes[enforced.violation.rule.name, enforced.result.outcome] += 1

    def statuses(self, rule: str) -> Counter[str]:
        """Return the number of violations of a rule by status, in the last pass."""
        return self.last_pass.statuses.get(rule, Counter()) if self.last_pass else Counter()
