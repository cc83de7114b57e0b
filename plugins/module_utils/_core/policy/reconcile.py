# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Reconcile pass: evaluate the policy, decide, destroy, verify.

Destruction goes through the same executor as socket_destroy: the same engines, and the same check
afterwards that a socket is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..destroy import outcomes
from ..destroy.engines.registry import engines_named
from ..destroy.executor import execute
from ..destroy.model import DestroyOptions, Plan, Target
from ..destroy.outcomes import Result
from ..errors import NotEvaluated, SocketsError
from ..guard.reason import Reason
from ..host.host import Host
from ..host.namespaces import Identity, Namespace
from ..messages import describe
from ..netlink.connection import collector_paused
from ..sockets.session import NamespaceSession
from .decide import Decider
from .evaluate import (
    DEFAULT_OPTIONS,
    NeedsGuard,
    PassOptions,
    evaluate,
    evaluate_all,
    evaluate_in,
    monotonic_ms,
)
from .findings import HOLD, Decision, Evaluation, Violation, ViolationResult
from .model import Policy

__all__ = [
    "PassOptions",
    "ReconcileResult",
    "reconcile",
    "reconcile_namespace",
    "reconcile_once",
]

# An evaluation that ended longer ago is repeated before its violations are destroyed.
MAX_AGE_MS = 200

# reconcile_once waits at least this long between passes, and makes about this many while it waits.
_MIN_INTERVAL_MS = 500
_PASSES = 60

# A name service may be slow.
_MAX_USER_NAMES = 50

# Decision.inhibited_by of the passes of reconcile_once before the last one.
_WAITING = "waiting"

_NO_LONGER_VIOLATES = Reason("changed", "it closed, or no longer violates the policy")


@dataclass(frozen=True)
class ReconcileResult:
    """The result of one pass over some or all namespaces. Milliseconds of CLOCK_MONOTONIC.

    namespaces: the evaluation of each namespace, or why there is none. results: the outcome of each
    of decision.to_destroy.
    """

    namespaces: tuple[Evaluation | NotEvaluated, ...]
    decision: Decision
    results: tuple[ViolationResult, ...]
    began_ms: int
    ended_ms: int

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        return tuple(each for each in self.namespaces if isinstance(each, Evaluation))

    @property
    def not_evaluated(self) -> tuple[NotEvaluated, ...]:
        """Namespaces, and single rules in other namespaces, whose violations are unknown."""
        return (
            *(each for each in self.namespaces if isinstance(each, NotEvaluated)),
            *(
                NotEvaluated(each.namespace.name, rule, error, each.namespace.identity)
                for each in self.evaluations
                for rule, error in each.failed.items()
            ),
        )

    @property
    def missing_interfaces(self) -> dict[str, list[str]]:
        """By rule, the interfaces that exist in none of the namespaces."""
        rules = dict.fromkeys(rule for each in self.evaluations for rule in each.missing)
        missing = {
            rule: set.intersection(*(set(each.missing.get(rule, ())) for each in self.evaluations))
            for rule in sorted(rules)
        }
        return {rule: sorted(names) for rule, names in missing.items() if names}

    @property
    def existing_interfaces(self) -> list[str]:
        """The interfaces of all evaluated namespaces; empty if no rule names any."""
        return sorted(set().union(*(each.interfaces for each in self.evaluations)))


def reconcile(
    host: Host,
    decider: Decider,
    options: PassOptions = DEFAULT_OPTIONS,
) -> ReconcileResult:
    """Run one reconcile pass of decider.policy over all its namespaces.

    With options.check it destroys nothing, and predicts the outcomes. Errors of a namespace are
    part of the result. Raises EngineUnavailable.
    """
    engines_named(options.engine or decider.policy.engine)
    # A pass allocates many objects; a caller that runs passes in a loop collects between them.
    with collector_paused():
        began_ms = monotonic_ms(host)
        namespaces = evaluate_all(
            host, decider.policy, needs_guard=_is_due(host, decider), options=options
        )
        decider.observe(namespaces)
        return _enforce(host, decider, options, namespaces, began_ms)


def reconcile_namespace(
    host: Host,
    decider: Decider,
    namespace: Namespace,
    options: PassOptions = DEFAULT_OPTIONS,
) -> ReconcileResult:
    """Run one reconcile pass of decider.policy in one of its namespaces.

    The state of the others in the decider stays as it is. The result is empty if `all` found the
    namespace and it has ceased to exist since. Raises EngineUnavailable.
    """
    engines_named(options.engine or decider.policy.engine)
    with collector_paused():
        began_ms = monotonic_ms(host)
        evaluation = evaluate_in(
            host, decider.policy, namespace, needs_guard=_is_due(host, decider), options=options
        )
        namespaces = [] if evaluation is None else [evaluation]
        decider.observe(namespaces, forget_others=False)
        return _enforce(host, decider, options, namespaces, began_ms)


def _is_due(host: Host, decider: Decider) -> NeedsGuard:
    return lambda violation: decider.is_due(violation, monotonic_ms(host))


def _enforce(
    host: Host,
    decider: Decider,
    options: PassOptions,
    namespaces: Sequence[Evaluation | NotEvaluated],
    began_ms: int,
) -> ReconcileResult:
    """Decide about the observed violations, destroy, and record the outcomes."""
    policy = decider.policy
    decision = decider.decide(monotonic_ms(host), inhibited_by=options.inhibited_by)
    decision = _with_user_names(host, decision)
    to_destroy: dict[Identity, list[Violation]] = {}
    for violation in decision.to_destroy:
        to_destroy.setdefault(violation.namespace, []).append(violation)
    results: list[ViolationResult] = []
    for evaluation in namespaces:
        if isinstance(evaluation, Evaluation) and evaluation.namespace.identity in to_destroy:
            violations = to_destroy[evaluation.namespace.identity]
            results += _destroy(host, policy, evaluation, violations, options)
    if not options.check:
        decider.record_results(results, monotonic_ms(host))
    return ReconcileResult(
        tuple(namespaces), decision, tuple(results), began_ms, monotonic_ms(host)
    )


def _with_user_names(host: Host, decision: Decision) -> Decision:
    """The decision with the names of the users who exceed the budget; of many, the first ones."""
    exceeded = [
        each if each.uid is None else each._replace(user=host.user_name(each.uid))
        for each in decision.budget_exceeded[:_MAX_USER_NAMES]
    ]
    rest = decision.budget_exceeded[_MAX_USER_NAMES:]
    return replace(decision, budget_exceeded=(*exceeded, *rest))


def _destroy(
    host: Host,
    policy: Policy,
    evaluation: Evaluation,
    to_destroy: Sequence[Violation],
    options: PassOptions,
) -> list[ViolationResult]:
    """Destroy violations of one namespace, and return the outcome of each."""
    settled: list[ViolationResult] = []
    violations = to_destroy
    try:
        if monotonic_ms(host) - evaluation.ended_ms > MAX_AGE_MS:
            violations, settled = _evaluate_again(host, policy, evaluation, to_destroy, options)
        if not violations:
            return settled
        plan = Plan(evaluation.namespace, [Target(each.socket) for each in violations])
        engine = options.engine or policy.engine
        destroy_options = DestroyOptions(policy.guard, engine, check=options.check)
        report = execute(host, [plan], destroy_options)
    except SocketsError as error:
        return settled + [_survived(each, error) for each in violations]
    return settled + [ViolationResult(*each) for each in zip(violations, report.results)]


def _survived(violation: Violation, error: SocketsError) -> ViolationResult:
    reason = Reason("error", describe(error))
    return ViolationResult(violation, Result(violation.socket, outcomes.SURVIVED, reason))


def _evaluate_again(
    host: Host,
    policy: Policy,
    evaluation: Evaluation,
    to_destroy: Sequence[Violation],
    options: PassOptions,
) -> tuple[list[Violation], list[ViolationResult]]:
    """Evaluate a namespace again, without the other violations.

    Returns the violations that still exist and are not protected, and the results of the others.
    """
    keys = {(each.rule.name, each.key) for each in to_destroy}
    with NamespaceSession(host, evaluation.namespace) as session:
        latest = evaluate(
            session,
            policy,
            needs_guard=lambda each: (each.rule.name, each.key) in keys,
            options=options,
        )
    by_key = {(each.rule.name, each.key): each for each in latest.violations}
    remaining: list[Violation] = []
    settled: list[ViolationResult] = []
    for violation in to_destroy:
        current = by_key.get((violation.rule.name, violation.key))
        failure = latest.failed.get(violation.rule.name)
        if failure is not None:
            settled.append(_survived(violation, failure))
        elif current is None:
            gone = Result(violation.socket, outcomes.ALREADY_GONE, _NO_LONGER_VIOLATES)
            settled.append(ViolationResult(violation, gone))
        elif current.protected_by is not None:
            protected = Result(current.socket, outcomes.PROTECTED, current.protected_by)
            settled.append(ViolationResult(current, protected))
        else:
            remaining.append(current)
    return remaining, settled


def reconcile_once(
    host: Host,
    policy: Policy,
    options: PassOptions = DEFAULT_OPTIONS,
) -> ReconcileResult:
    """Evaluate, wait until the holds of the violations expire, and destroy those that remain.

    Passes in between detect violations that cease for a moment. Only the last pass destroys, and
    its result is returned. Raises EngineUnavailable.
    """
    decider = Decider(policy, users=host.subordinate_uids().current)
    waiting = replace(options, inhibited_by=_WAITING)
    if policy.longest_hold_ms:
        first = reconcile(host, decider, waiting)
        end_ms = _holds_expire_at_ms(first.decision, first.ended_ms)
        interval_ms = max(_MIN_INTERVAL_MS, (end_ms - first.began_ms) // _PASSES)
        latest_ms = first.ended_ms + 2 * policy.longest_hold_ms
        while end_ms - monotonic_ms(host) > interval_ms:
            host.sleep(interval_ms / 1000)
            result = reconcile(host, decider, waiting)
            # An evaluation that failed paused the holds.
            expire_ms = _holds_expire_at_ms(result.decision, first.ended_ms)
            end_ms = max(end_ms, min(latest_ms, expire_ms))
        while monotonic_ms(host) < end_ms:
            host.sleep((end_ms - monotonic_ms(host)) / 1000)
    return reconcile(host, decider, options)


def _holds_expire_at_ms(decision: Decision, seen_ms: int) -> int:
    """When the last hold expires of the violations first seen by `seen_ms`."""
    times = (
        finding.until_ms
        for finding in decision.findings
        if finding.status == HOLD and finding.since_ms <= seen_ms
    )
    return max((until for until in times if until is not None), default=0)
