# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The agent state: all that status.json and the metrics show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..policy import model
from ..policy.model import Policy
from ..policy.reconcile import ReconcileResult
from .clocks import Clocks
from .controls import Pause, Trial
from .pass_summary import PassSummary
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
UNENFORCED = "unenforced"
INHIBITED_BY = (
    NO_POLICY,
    PAUSED,
    UNCONFIRMED,
    REPORT_MODE,
    BUDGET_EXCEEDED,
    BUDGET_UNKNOWN,
    NOT_EVALUATED,
    UNENFORCED,
)

# Operations of the fault tracker: a pass that failed as a whole (in another namespace, its name
# follows), and an unknown budget.
RECONCILE = "reconcile"
READ_BUDGET = f"read {BUDGET}"


@dataclass
class AgentState:
    """Counts are since the agent started.

    resync_s: the longest interval between two passes of a namespace. loaded: when the policy was
    loaded. controls_read_at: when the pause and the trial were read. last_pass: the last completed
    pass of each namespace, merged; last_pass_at: the time of the last one. passes: of one namespace
    each. events: rtnetlink events. outcomes: by rule and outcome. faults: by operation, what fails
    at present.
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
        if last is not None and last.budget_exceeded:
            return BUDGET_UNKNOWN if READ_BUDGET in self.faults else BUDGET_EXCEEDED
        failed = any(operation.startswith(RECONCILE) for operation in self.faults)
        if failed or (last is not None and last.not_evaluated):
            return NOT_EVALUATED
        return UNENFORCED if last is not None and last.unenforced else None

    def enforcing(self) -> bool:
        """Return whether the agent destroys violations, within its limits and its view."""
        return self.inhibited_by() in (
            None,
            BUDGET_EXCEEDED,
            BUDGET_UNKNOWN,
            NOT_EVALUATED,
            UNENFORCED,
        )

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

    def count_pass(self, result: ReconcileResult, at: Clocks) -> None:
        """Count a completed pass of a namespace, and its outcomes."""
        self.last_pass_at = at
        self.passes += 1
        if result.not_evaluated:
            self.incomplete_passes += 1
        if result.decision.budget_exceeded:
            self.budget_exceeded_passes += 1
        for enforced in result.results:
            self.outcomes[enforced.violation.rule.name, enforced.result.outcome] += 1

    def unenforced(self, rule: str) -> Counter[str]:
        """Return the number of unenforced violations of a rule by reason, in the last pass."""
        return self.last_pass.unenforced.get(rule, Counter()) if self.last_pass else Counter()

    def statuses(self, rule: str) -> Counter[str]:
        """Return the number of violations of a rule by status, in the last passes."""
        return self.last_pass.statuses.get(rule, Counter()) if self.last_pass else Counter()
