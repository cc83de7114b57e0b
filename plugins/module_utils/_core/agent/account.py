# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what the agent knows of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .. import outcomes
from ..errors import SocketsError
from ..policy import document
from ..policy.document import Policy
from ..policy.enforce import Pass
from .control import Confirmation, Pause
from .deadline import Clocks
from .source import Refusal

NO_POLICY = "no_policy"
PAUSED = "paused"
UNCONFIRMED = "unconfirmed"
REPORT = "report"
OVER_LIMIT = "over_limit"
NOT_SEEN = "not_seen"
_ENDED = outcomes.CHANGING | {outcomes.ALREADY_GONE}
HELD_BACK = (NO_POLICY, PAUSED, UNCONFIRMED, REPORT, OVER_LIMIT, NOT_SEEN)


@dataclass
class Account:
    """Everything that the status and the metrics tell; counts are since the agent started."""

    pid: int
    started: Clocks
    file: str
    policy: Policy | None = None
    loaded: Clocks | None = None
    refused: Refusal | None = None
    pause: Pause | None = None
    trial: Confirmation | None = None
    last: Pass | None = None
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
        if self.policy.mode == document.REPORT:
            return REPORT
        if self.last is not None and self.last.decision.excess is not None:
            return OVER_LIMIT
        if self.blind():
            return NOT_SEEN
        return None

    def enforcing(self) -> bool:
        """Violations are destroyed, as far as the limits and what can be seen allow."""
        return self.held_back() in (None, OVER_LIMIT, NOT_SEEN)

    def unconfirmed(self) -> bool:
        """The trial of the policy in force is over, and nobody confirmed it."""
        return self.on_trial() is not None and self.last_at is not None and self._over(self.last_at)

    def on_trial(self) -> Confirmation | None:
        if self.policy is None or self.trial is None:
            return None
        return self.trial if self.trial.awaited_for(self.policy.digest) else None

    def _over(self, now: Clocks) -> bool:
        trial = self.on_trial()
        return trial is not None and trial.over(now)

    def blind(self) -> list[tuple[str, str | None, SocketsError]]:
        """What the last look could not look at: a namespace, and a rule or None for all of them."""
        if self.last is None:
            return []
        whole = [(each.label, None, each.error) for each in self.last.unseen]
        return whole + [
            (look.namespace.label, rule, error)
            for look in self.last.judgements
            for rule, error in look.failed.items()
        ]

    def took(self, one: Pass, at: Clocks, processor_s: float) -> None:
        """Count what a pass did."""
        self.last, self.last_at = one, at
        self.looks += 1
        self.processor_s += processor_s
        if self.blind():
            self.failed_looks += 1
        if one.decision.excess is not None:
            self.excesses += 1
        for enforced in one.done:
            self.ended[enforced.violation.rule.name, enforced.result.outcome] += 1

    def by_rule(self) -> dict[str, Counter[str]]:
        """How many sockets that violate each rule have which status; what the last pass ended is
        no longer among them."""
        counts: dict[str, Counter[str]] = {
            rule.name: Counter() for rule in (self.policy.rules if self.policy else ())
        }
        if self.last is None:
            return counts
        ended = {
            (each.violation.namespace, each.violation.key)
            for each in self.last.done
            if each.result.outcome in _ENDED
        }
        for finding in self.last.decision.findings:
            violation = finding.violation
            if (violation.namespace, violation.key) not in ended:
                counts.setdefault(violation.rule.name, Counter())[finding.status] += 1
        return counts
