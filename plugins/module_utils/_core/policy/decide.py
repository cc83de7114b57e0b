# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Decisions of a policy: which violations to destroy now.

Pure: it reads no clock and makes no kernel call. A decision follows from the evaluations so far,
their times, and the outcomes of earlier decisions. In doubt, a socket is not destroyed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ..destroy import outcomes
from ..errors import NotEvaluated
from ..host.namespaces import Identity
from .backoff import Backoff, Delay, Destination
from .budget import BudgetKey, BudgetSnapshot, DestroyBudget
from .doubt import Doubts, NetworkChanges
from .findings import (
    BACK_OFF,
    DESTROY,
    HOLD,
    INHIBITED,
    LIMIT,
    OTHER_RULE,
    PROTECTED,
    REPORT_MODE,
    REPORTED,
    Decision,
    Evaluation,
    Finding,
    Violation,
    ViolationResult,
)
from .holds import Holds, Key
from .model import REPORT, Policy, rules_equal

# With one of these statuses a rule decides about a socket for all later rules.
_DECISIVE = frozenset({DESTROY, BACK_OFF, PROTECTED})

# Delay of the next pass if a hold expired but is_due() was False, so that the guard was skipped.
_RETRY_MS = 1_000

# Outcomes after which a socket is unchanged.
_UNTOUCHED = frozenset(outcomes.OUTCOMES) - outcomes.CHANGING - {outcomes.SURVIVED}
# Outcomes that do not count for the backoff.
_NO_ATTEMPT = frozenset({outcomes.ALREADY_GONE, outcomes.PROTECTED, outcomes.LIMIT})


class Decider:
    """Decisions of one policy, with the holds, budget and backoff they depend on. Bounded memory.

    For each reconcile pass call observe(), then decide(), then record_results() with the outcomes
    of decision.to_destroy.

    max_gap_ms: if evaluations are further apart, the time between them counts for no hold; None: it
    always counts. budget: the sockets destroyed before the start. save: called with the budget to
    persist, before any socket is destroyed. users: called once for each decision; returns a
    function from a uid to the user for whom the limits count its sockets. Both differ for
    subordinate uids.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        max_gap_ms: int | None = None,
        budget: BudgetSnapshot = BudgetSnapshot(),  # noqa: B008 - immutable
        save: Callable[[BudgetSnapshot], None] = lambda _budget: None,
        users: Callable[[], Callable[[int], int]] = lambda: _same,
    ) -> None:
        self._policy = policy
        self._save = save
        self._users = users
        self._user_of = users()
        self._holds = Holds(max_gap_ms)
        self._doubts = Doubts(policy.rules)
        self._budget = DestroyBudget(policy.limits, budget)
        self._backoff = Backoff()
        self._violations: list[Violation] = []
        self._untracked = 0
        self._decided_ms = 0
        # Destinations of violations that the budget left out. Their connections exist without
        # having been reopened, so they are no sign of a client that reconnects.
        self._left_out: set[Destination] = set()
        self._observed: set[Identity] = set()
        # Sockets that still exist after an attempt to destroy them, with its outcome.
        self._failed: dict[tuple[Identity, Key], str] = {}

    @property
    def policy(self) -> Policy:
        return self._policy

    def reload(self, policy: Policy) -> None:
        """Replace the policy. Unchanged rules keep their holds; the budget and backoff stay."""
        old = {rule.name: rule for rule in self._policy.rules}
        self._holds.retain_rules(
            rule.name
            for rule in policy.rules
            if rule.name in old and rules_equal(rule, old[rule.name])
        )
        self._policy = policy
        self._doubts.replace_rules(policy.rules)
        self._budget.limits = policy.limits
        self._violations = []

    def mark_gap(self, namespace: Identity | None = None) -> None:
        """Do not count the time since the last evaluations, after a suspend for example.

        namespace: only of those in this namespace; None: in all.
        """
        if namespace is None:
            self._holds.mark_gaps()
            return
        for rule in self._policy.rules:
            self._holds.mark_gap(namespace, rule.name, restart=False)

    def record_changes(self, namespace: Identity, changes: NetworkChanges) -> None:
        """Record changes since the last evaluation of a namespace.

        Holds of violations that may have ceased for a moment start again, unless they are older
        than holds.RESTART_WINDOW_MS.
        """
        self._doubts.record(namespace, changes)

    def observe(
        self, evaluations: Iterable[Evaluation | NotEvaluated], *, forget_others: bool = True
    ) -> None:
        """Record one pass. forget_others: forget the namespaces that are not in it."""
        self._violations = []
        self._untracked = 0
        identities: list[Identity] = []
        names = [rule.name for rule in self._policy.rules]
        for evaluation in evaluations:
            if isinstance(evaluation, Evaluation):
                identities.append(evaluation.namespace.identity)
                self._observe(evaluation, names)
            elif evaluation.identity is not None:
                identities.append(evaluation.identity)
                for name in names:
                    # The changes stay pending.
                    self._holds.mark_gap(evaluation.identity, name, restart=False)
        self._observed = set(identities)
        if forget_others:
            self._holds.retain(identities, names)
            self._doubts.retain(identities)

    def forget(self, namespace: Identity) -> None:
        """Forget a namespace that no longer exists."""
        self._holds.forget(namespace, [rule.name for rule in self._policy.rules])
        self._doubts.forget(namespace)
        self._left_out = {each for each in self._left_out if each.namespace != namespace}
        self._failed = {each: why for each, why in self._failed.items() if each[0] != namespace}

    def _observe(self, evaluation: Evaluation, names: Sequence[str]) -> None:
        identity = evaluation.namespace.identity
        pending = self._doubts.pending(identity)
        # By rule and key, the user, and the local address if it is needed.
        keys: dict[str, dict[Key, int | None]] = {name: {} for name in names}
        local: dict[Key, bytes] = {}
        for violation in evaluation.violations:
            if violation.rule.name not in evaluation.failed:
                key = violation.key
                keys[violation.rule.name][key] = self._user(violation)
                if pending:
                    local[key] = violation.socket.local_address
                self._violations.append(violation)
        for name in names:
            if name in evaluation.failed:
                self._holds.mark_gap(identity, name, restart=pending)
                continue

            def doubted(key: Key, since_ms: int, rule: str = name) -> bool:
                return self._doubts.doubted(identity, rule, local[key], since_ms)

            self._untracked += self._holds.observe(
                identity,
                name,
                evaluation.began_ms,
                evaluation.ended_ms,
                keys[name],
                doubted if pending else None,
            )
        has_holds = any(self._holds.count(identity, name) for name in names)
        self._doubts.evaluated(evaluation, has_holds=has_holds)

    def is_due(self, violation: Violation, now_ms: int) -> bool:
        """Whether the hold of a violation is over, if an evaluation that begins now shows it."""
        rule, namespace = violation.rule, violation.namespace
        if not rule.hold_ms:
            return True

        def doubted(since_ms: int) -> bool:
            local = violation.socket.local_address
            return self._doubts.doubted(namespace, rule.name, local, since_ms)

        return self._holds.would_expire(
            namespace,
            rule.name,
            violation.key,
            rule.hold_ms,
            now_ms,
            doubted if self._doubts.pending(namespace) else None,
        )

    def decide(self, now_ms: int, *, inhibited_by: str | None = None) -> Decision:
        """Decide about the violations of the last observe(). Call it once for each observe().

        inhibited_by: why nothing may be destroyed now, whatever the policy says; None: nothing
        inhibits it.
        """
        if inhibited_by is None and self._policy.mode == REPORT:
            inhibited_by = REPORT_MODE
        findings, due = self._classify(now_ms)
        self._user_of = self._users()
        # Oldest first, in the order of the rules.
        due.sort(key=lambda index: findings[index].since_ms)
        keys = [self._budget_key(findings[index].violation) for index in due]
        allowance = self._budget.allow(keys, now_ms)
        allowed = [position for position in range(len(due)) if position not in allowance.excluded]
        if inhibited_by is not None:
            for position in allowed:
                findings[due[position]] = findings[due[position]]._replace(status=INHIBITED)
        elif allowed:
            self._budget.add(now_ms, Counter(keys[position] for position in allowed))
            self._decided_ms = now_ms
            self.persist()
        times_by_limit = {
            each: self._budget.available_at_ms(now_ms, each.sockets, each.key)
            for each in set(allowance.excluded.values())
        }
        for position, limit in allowance.excluded.items():
            until = times_by_limit[limit]
            findings[due[position]] = findings[due[position]]._replace(status=LIMIT, until_ms=until)
        self._left_out = {each for each in self._left_out if each.namespace not in self._observed}
        self._left_out |= {
            findings[due[position]].violation.destination for position in allowance.excluded
        }
        if self._failed:
            seen = {finding.violation.identity for finding in findings}
            self._failed = {
                each: outcome
                for each, outcome in self._failed.items()
                if each in seen or each[0] not in self._observed
            }
        self._violations = []
        times = [finding.until_ms for finding in findings if finding.until_ms is not None]
        return Decision(
            tuple(findings),
            allowance.exceeded,
            inhibited_by,
            min(times) if times else None,
            self._untracked,
        )

    def _budget_key(self, violation: Violation) -> BudgetKey:
        return BudgetKey(violation.rule.name, self._user(violation))

    def _user(self, violation: Violation) -> int | None:
        """The user for whom the limits count a socket; None: it has none."""
        uid = violation.socket.uid
        return None if uid is None else self._user_of(uid)

    def _classify(self, now_ms: int) -> tuple[list[Finding], list[int]]:
        """A finding for each violation, and the indexes of those that are due."""
        findings: list[Finding] = []
        due: list[int] = []
        decided: set[tuple[Identity, Key]] = set()
        several = len(self._policy.rules) > 1
        for violation in self._violations:
            finding = self._finding(violation, now_ms)
            if several and finding.status in _DECISIVE:
                if violation.identity in decided:
                    finding = finding._replace(status=OTHER_RULE, until_ms=None)
                decided.add(violation.identity)
            if finding.status == DESTROY:
                due.append(len(findings))
            findings.append(finding)
        return findings, due

    def _finding(self, violation: Violation, now_ms: int) -> Finding:
        rule = violation.rule
        place = violation.namespace, rule.name, violation.key
        hold = self._holds.get(*place)
        if hold is None:
            # Untracked.
            return Finding(violation, HOLD, now_ms)
        since = hold.since_ms
        if rule.hold_ms and not self._holds.expired(*place, rule.hold_ms):
            until = self._holds.expires_at_ms(*place, rule.hold_ms)
            return Finding(violation, HOLD, since, until)
        if rule.action == REPORT:
            return Finding(violation, REPORTED, since)
        if not violation.guard_checked:
            return Finding(violation, HOLD, since, now_ms + _RETRY_MS)
        if violation.protected_by is not None:
            return Finding(violation, PROTECTED, since)
        # Backoff is usually empty: skip building the destination.
        until = self._backoff.until_ms(violation.destination, now_ms) if self._backoff else None
        if until is not None:
            return Finding(violation, BACK_OFF, since, until, self._failed.get(violation.identity))
        return Finding(violation, DESTROY, since)

    def record_results(self, results: Iterable[ViolationResult], now_ms: int) -> None:
        """Record the outcomes of decision.to_destroy."""
        untouched: Counter[BudgetKey] = Counter()
        attempts: dict[Destination, bool] = {}
        for violation, result in results:
            if result.outcome in _UNTOUCHED:
                untouched[self._budget_key(violation)] += 1
            if result.outcome not in _NO_ATTEMPT:
                failed = result.outcome not in outcomes.CHANGING
                if failed:
                    self._failed[violation.identity] = result.outcome
                destination = violation.destination
                attempts[destination] = attempts.get(destination, False) or failed
        if untouched:
            self._budget.refund(self._decided_ms, untouched)
            self.persist()
        self._backoff.expire(now_ms)
        for destination, failed in attempts.items():
            if failed or destination not in self._left_out:
                self._backoff.record(destination, now_ms, failed=failed)

    def destroyed_in_window(self, now_ms: int) -> int:
        """Sockets destroyed within limits.per_ms; at least the total while that is unknown."""
        return self._budget.count(now_ms)

    def budget_unknown_until_ms(self, now_ms: int) -> int | None:
        """Nothing is destroyed before, as earlier destroys are unknown; None: they are known."""
        return self._budget.unknown_until_ms(now_ms)

    def persist(self) -> None:
        """Save the budget, so that it holds across restarts."""
        self._save(self._budget.snapshot())

    def backing_off(self, now_ms: int) -> dict[Destination, Delay]:
        """Destinations whose connections are not destroyed now."""
        return self._backoff.active(now_ms)


def _same(uid: int) -> int:
    return uid
