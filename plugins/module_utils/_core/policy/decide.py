# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: from looks to decisions.

Pure: it asks no clock and no kernel. What is to be destroyed follows from the looks that it was
told of, the times at which they were made, and what became of what it decided before. In doubt a
socket lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..destroy import outcomes
from ..host.namespaces import Identity
from .backoff import BackOff, Target, Waiting
from .budget import Kept, Spent
from .decision import (
    BACK_OFF,
    DESTROY,
    HOLD,
    LIMIT,
    OTHER_RULE,
    PROTECTED,
    REPORT_MODE,
    REPORTED,
    STATUSES,
    WITHHELD,
    Decision,
    Enforced,
    Excess,
    Finding,
)
from .evaluate import Judgement, Unseen, Violation
from .holds import Holds, Key
from .model import PACE, REPORT, Policy
from .same import same_rule

__all__ = [
    "BACK_OFF",
    "DESTROY",
    "HOLD",
    "LIMIT",
    "OTHER_RULE",
    "PROTECTED",
    "REPORTED",
    "REPORT_MODE",
    "STATUSES",
    "WITHHELD",
    "Decision",
    "Enforced",
    "Engine",
    "Excess",
    "Finding",
]

# What a rule says so of a socket, it says for all later ones.
_DECIDED = frozenset({DESTROY, BACK_OFF, PROTECTED})

# A hold that is over, but that nobody expected to be: the guard was not asked.
_AGAIN_MS = 1_000

# Outcomes after which a socket is what it was, as if nothing had been asked.
_UNTOUCHED = frozenset(outcomes.OUTCOMES) - outcomes.CHANGING - {outcomes.SURVIVED}
# Outcomes for which nobody needs to wait.
_NO_ATTEMPT = frozenset({outcomes.ALREADY_GONE, outcomes.PROTECTED, outcomes.LIMIT})


class Engine:
    """One policy, and what was seen and done since the start: of bounded size.

    A pass is see(), then decide(), then done() with what became of decision.destroy.
    longest_gap_ms: looks that are further apart say nothing of the time between them, since
    whoever makes them was stopped; None: they always do.
    kept: what was destroyed before the start. keep: is told what has to outlive this engine, before
    anything is destroyed.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        longest_gap_ms: int | None = None,
        kept: Kept = Kept(),  # noqa: B008 - immutable
        keep: Callable[[Kept], None] = lambda _kept: None,
    ) -> None:
        self._policy = policy
        self._keep = keep
        self._holds = Holds(longest_gap_ms)
        self._spent = Spent(policy.limits, kept)
        self._back_off = BackOff()
        self._present: list[Violation] = []
        self._untracked = 0
        self._decided_ms = 0
        # Where connections lead that the limits held back: what is left of them comes back as well.
        self._crowded: set[Target] = set()

    @property
    def policy(self) -> Policy:
        return self._policy

    def reload(self, policy: Policy) -> None:
        """Rules that are as they were keep their holds; those of all others begin anew. What was
        destroyed already counts for the new limits too."""
        before = {rule.name: rule for rule in self._policy.rules}
        self._holds.keep_rules(
            rule.name
            for rule in policy.rules
            if rule.name in before and same_rule(rule, before[rule.name])
        )
        self._policy = policy
        self._spent.limits = policy.limits
        self._present = []

    def interrupted(self) -> None:
        """The time since the last looks counts for no hold: the machine slept, say."""
        self._holds.interrupted()

    def doubt(self) -> None:
        """What violated may have been in order for a moment since the last looks: its holds begin
        anew. What each look has shown for holds.PATIENCE_MS is not doubted any more."""
        self._holds.doubt()

    def see(self, looks: Iterable[Judgement | Unseen]) -> None:
        """One pass over all namespaces; those that it leaves out are gone."""
        self._present = []
        self._untracked = 0
        identities: list[Identity] = []
        names = [rule.name for rule in self._policy.rules]
        for look in looks:
            if isinstance(look, Judgement):
                identities.append(look.namespace.identity)
                self._see(look, names)
            elif look.identity is not None:
                identities.append(look.identity)
                for name in names:
                    self._holds.missed(look.identity, name)
        self._holds.keep(identities, names)

    def _see(self, look: Judgement, names: Sequence[str]) -> None:
        identity = look.namespace.identity
        keys: dict[str, list[Key]] = {name: [] for name in names}
        for violation in look.violations:
            if violation.rule.name not in look.failed:
                keys[violation.rule.name].append(violation.key)
                self._present.append(violation)
        for name in names:
            if name in look.failed:
                self._holds.missed(identity, name)
            else:
                self._untracked += self._holds.saw(
                    identity, name, look.began_ms, look.ended_ms, keys[name]
                )

    def is_due(self, violation: Violation, now_ms: int) -> bool:
        """Whether its hold is over, for a look that began now and shows it."""
        rule = violation.rule
        return not rule.hold_ms or self._holds.would_be_over(
            violation.namespace, rule.name, violation.key, rule.hold_ms, now_ms
        )

    def decide(self, now_ms: int, *, withheld: str | None = None) -> Decision:
        """What is to be done about what was seen last; once for each see().

        withheld: why nothing may be destroyed now, whatever the policy says.
        """
        if withheld is None and self._policy.mode == REPORT:
            withheld = REPORT_MODE
        findings, due = self._sorted_out(now_ms)
        excess, held_back = self._limit(findings, due, now_ms)
        doomed = sorted(set(due) - set(held_back))
        if withheld is not None:
            for index in doomed:
                findings[index] = findings[index]._replace(status=WITHHELD)
        elif doomed:
            self._spent.add(now_ms, len(doomed))
            self._decided_ms = now_ms
            self.keep()
        if held_back:
            until = self._room_ms(len(due), now_ms)
            for index in held_back:
                findings[index] = findings[index]._replace(status=LIMIT, until_ms=until)
        self._crowded = {findings[index].violation.target for index in held_back}
        self._present = []
        waits = [each.until_ms for each in findings if each.until_ms is not None]
        return Decision(
            tuple(findings), excess, withheld, min(waits) if waits else None, self._untracked
        )

    def _room_ms(self, due: int, now_ms: int) -> int | None:
        """When the limits allow to go on; None: never with so many."""
        wanted = 1 if self._policy.limits.on_excess == PACE else due
        return self._spent.room_ms(now_ms, wanted)

    def _sorted_out(self, now_ms: int) -> tuple[list[Finding], list[int]]:
        """A finding for each violation, and which of them may be destroyed if the limits allow."""
        findings: list[Finding] = []
        due: list[int] = []
        claimed: set[tuple[Identity, Key]] = set()
        several = len(self._policy.rules) > 1
        for violation in self._present:
            finding = self._one(violation, now_ms)
            if several and finding.status in _DECIDED:
                if violation.identity in claimed:
                    finding = finding._replace(status=OTHER_RULE, until_ms=None)
                claimed.add(violation.identity)
            if finding.status == DESTROY:
                due.append(len(findings))
            findings.append(finding)
        return findings, due

    def _one(self, violation: Violation, now_ms: int) -> Finding:
        rule = violation.rule
        place = violation.namespace, rule.name, violation.key
        held = self._holds.get(*place)
        if held is None:
            # There was no room for it.
            return Finding(violation, HOLD, now_ms)
        since = held.since_ms
        if rule.hold_ms and not self._holds.is_over(*place, rule.hold_ms):
            until = self._holds.over_at_ms(*place, rule.hold_ms)
            return Finding(violation, HOLD, since, until)
        if rule.action == REPORT:
            return Finding(violation, REPORTED, since)
        if not violation.guarded:
            return Finding(violation, HOLD, since, now_ms + _AGAIN_MS)
        if violation.protected is not None:
            return Finding(violation, PROTECTED, since)
        waiting = self._back_off.until_ms(violation.target, now_ms) if self._back_off else None
        if waiting is not None:
            return Finding(violation, BACK_OFF, since, waiting)
        return Finding(violation, DESTROY, since)

    def _limit(
        self, findings: Sequence[Finding], due: list[int], now_ms: int
    ) -> tuple[Excess | None, list[int]]:
        """Which of those that are due the limits hold back: none, all, or the youngest."""
        limits = self._policy.limits
        spent = self._spent.count(now_ms)
        room = max(0, limits.max_sockets - spent)
        if len(due) <= room:
            return None, []
        excess = Excess(len(due), spent, limits)
        if limits.on_excess != PACE:
            return excess, due
        oldest = sorted(due, key=lambda index: findings[index].since_ms)
        return excess, oldest[room:]

    def done(self, enforced: Iterable[Enforced], now_ms: int) -> None:
        """What became of what was to be destroyed."""
        untouched = 0
        targets: dict[Target, bool] = {}
        for violation, result in enforced:
            untouched += result.outcome in _UNTOUCHED
            if result.outcome not in _NO_ATTEMPT:
                failed = result.outcome not in outcomes.CHANGING
                target = violation.target
                targets[target] = targets.get(target, False) or failed
        if untouched:
            self._spent.give_back(self._decided_ms, untouched)
            self.keep()
        self._back_off.forget_old(now_ms)
        for target, failed in targets.items():
            if failed or target not in self._crowded:
                self._back_off.note(target, now_ms, failed=failed)

    def spent(self, now_ms: int) -> int:
        """How many were destroyed within the time of the limits."""
        return self._spent.count(now_ms)

    def unknown_till_ms(self, now_ms: int) -> int | None:
        """Till then nothing is destroyed, since it is not known what was; None: it is."""
        return self._spent.unknown_till_ms(now_ms)

    def keep(self) -> None:
        """Tell what has to outlive this engine."""
        self._keep(self._spent.kept())

    def backing_off(self, now_ms: int) -> dict[Target, Waiting]:
        """What is left alone now, since it was destroyed again and again."""
        return self._back_off.waiting(now_ms)
