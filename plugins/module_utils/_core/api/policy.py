# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Policies: check, plan, and enforce once."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..destroy import outcomes as names
from ..destroy.outcomes import Result
from ..destroy.verify import find_ended
from ..errors import (
    EvaluationIncomplete,
    Failure,
    NotEvaluated,
    PolicyErrors,
    ResultWarning,
    SocketsError,
)
from ..guard.reason import NO_OWNER_RULES
from ..host.host import Host
from ..host.namespaces import Namespace
from ..messages import describe
from ..policy import findings
from ..policy.budget import exceeded_budget
from ..policy.decide import Decider
from ..policy.findings import Finding, ViolationResult
from ..policy.model import DEFAULT_ENGINE, Policy, Rule
from ..policy.parse import AnyNames, parse_policy
from ..policy.reconcile import PassOptions, ReconcileResult, reconcile, reconcile_once
from ..query.record import record, sort_key
from ..sockets.needs import Need
from ..sockets.session import NamespaceSession
from . import policy_problems as problems
from . import results
from .options import DEFAULT_LIMIT, checks_options
from .task import printable_dict

_PATH = ("policy",)


@dataclass(frozen=True)
class PolicyCheck:
    """The result of check_policy.

    Attributes:
        policy: the parsed policy; None if it has errors.
        errors: all errors, each an InputError or another SocketsError.
        warnings: valid parts that are probably mistakes.
        failures: always empty.
    """

    policy: Policy | None
    errors: tuple[SocketsError, ...] = ()
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the policy has no errors."""
        return self.policy is not None

    @printable_dict
    def to_dict(self) -> dict[str, Any]:
        """Return the result of the filter policy_check."""
        policy = self.policy
        return {
            "valid": policy is not None,
            "errors": [describe(error) for error in self.errors],
            "digest": None if policy is None else policy.digest,
            "mode": None if policy is None else policy.mode,
            "engine": None if policy is None else policy.engine,
            "namespaces": [] if policy is None else list(policy.namespaces),
            "needs": [] if policy is None else sorted(need.value for need in policy.needs),
            "reads_owners": policy is not None and _reads_owners(policy),
            "longest_hold_s": None if policy is None else policy.longest_hold_ms / 1000,
        }


@dataclass(frozen=True)
class PolicyPlan:
    """The result of plan_policy.

    Attributes:
        digest: sha256 of the policy's canonical JSON.
        mode: ``enforce`` or ``report``.
        rules: for each rule ``name``, ``action``, ``hold_ms``, ``conditions_hold`` (whether its
            ``while`` holds in any namespace), ``missing_interfaces``, and ``sockets``. Each of
            these has ``status``, ``expected`` (the expected outcome; None: not to be destroyed),
            ``evidence``, ``protected_by``, ``protected_detail`` and ``record``.
        budget_exceeded: the policy's limits and ``exceeded``, a list with ``rule``, ``uid``,
            ``user``, ``due`` and ``destroyed_in_window``, if they allow fewer sockets; else None.
        outcomes: how often each outcome is to be expected.
        not_evaluated: ``namespace``, ``rule`` (None: all rules) and ``error`` of failed
            evaluations.
        warnings: warnings of the policy, and protocols that the kernel cannot list.
        failures: failed evaluations; empty on success.
    """

    digest: str
    mode: str
    rules: list[dict[str, Any]]
    budget_exceeded: dict[str, Any] | None
    outcomes: dict[str, int]
    not_evaluated: list[dict[str, Any]]
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def destroys(self) -> bool:
        """Whether the policy would destroy sockets, now or when its limits allow it."""
        statuses = {entry["status"] for rule in self.rules for entry in rule["sockets"]}
        return not statuses.isdisjoint({findings.DESTROY, findings.LIMIT})

    @printable_dict
    def to_dict(self) -> dict[str, Any]:
        """Return the output of ``socket-agent plan --json``."""
        return {
            "digest": self.digest,
            "mode": self.mode,
            "rules": self.rules,
            "budget_exceeded": self.budget_exceeded,
            "outcomes": self.outcomes,
            "not_evaluated": self.not_evaluated,
        }


@dataclass(frozen=True)
class PolicyResult:
    """The result of enforce_policy.

    Attributes:
        changed: whether at least one socket was destroyed or disconnected; in check mode, would be.
        mode: ``enforce`` or ``report``.
        digest: sha256 of the policy's canonical JSON.
        rules: for each rule ``name``, ``action``, number of ``violations``, ``by_status``,
            ``holds_in`` (namespaces where its ``while`` holds) and ``missing_interfaces``.
        violations: ``rule``, ``status``, ``reason``, ``protected_by``, ``protected_detail`` and
            ``record`` of each.
        matched: how many violations there are.
        outcomes: how often each outcome occurred.
        destroyed: sockets that were destroyed or disconnected.
        protected: sockets that the guard protected, and those that closed on their own.
        survivors: sockets that should have been destroyed and still exist.
        truncated: whether a list was cut at ``limit``.
        not_evaluated: ``namespace``, ``rule`` (None: all rules) and ``error`` of failed
            evaluations.
        diff: ``before`` and ``after`` as text, one socket in a line; None unless requested.
        warnings: warnings of the policy, missing interfaces, protocols that the kernel cannot list,
            violations that are not tracked, and in mode ``report`` an exceeded budget.
        failures: an exceeded budget, sockets not destroyed, and failed evaluations.
    """

    changed: bool
    mode: str
    digest: str
    rules: list[dict[str, Any]]
    violations: list[dict[str, Any]]
    matched: int
    outcomes: dict[str, int]
    destroyed: list[dict[str, Any]]
    protected: list[dict[str, Any]]
    survivors: list[dict[str, Any]]
    truncated: bool
    not_evaluated: list[dict[str, Any]]
    diff: dict[str, str] | None = None
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    @printable_dict
    def to_dict(self) -> dict[str, Any]:
        """Return the result of the module socket_policy."""
        result: dict[str, Any] = {
            "changed": self.changed,
            "mode": self.mode,
            "digest": self.digest,
            "rules": self.rules,
            "violations": self.violations,
            "matched": self.matched,
            "outcomes": self.outcomes,
            "destroyed": self.destroyed,
            "protected": self.protected,
            "survivors": self.survivors,
            "truncated": self.truncated,
            "not_evaluated": self.not_evaluated,
        }
        if self.diff is not None:
            result["diff"] = self.diff
        return result


@checks_options
def check_policy(
    policy: Mapping[str, Any], *, resolve_names: bool = True, host: Host | None = None
) -> PolicyCheck:
    """Check a policy without evaluating it. Wrong policies are reported, not raised.

    Example::

        checked = api.check_policy({"version": 1, "rules": []})
        for error in checked.to_dict()["errors"]:
            print(error)

    Args:
        policy: a policy document.
        resolve_names: look up users and services on this machine, and read its protection files.
            False for a policy of other machines.
        host: the machine to ask; the default is this one.

    Returns:
        PolicyCheck: the parsed policy, or all its errors.
    """
    host = host or Host()
    try:
        parsed = parse_policy(
            policy,
            names=host if resolve_names else AnyNames(),
            files=host.protect_directory if resolve_names else None,
            path=_PATH,
        )
    except PolicyErrors as error:
        return PolicyCheck(None, errors=error.errors)
    except SocketsError as error:
        return PolicyCheck(None, errors=(error,))
    return PolicyCheck(parsed, warnings=parsed.warnings)


@checks_options
def plan_policy(policy: Mapping[str, Any], *, host: Host | None = None) -> PolicyPlan:
    """Report the sockets that violate a policy now. It changes nothing.

    Holds are ignored: the plan shows all sockets that would be destroyed in the end.

    Example::

        plan = api.plan_policy(json.load(open("policy.json")))
        print(sum(len(rule["sockets"]) for rule in plan.rules))

    Args:
        policy: a policy document.
        host: the machine to evaluate it on; the default is this one.

    Returns:
        PolicyPlan: the violations of each rule, with their expected outcomes.

    Raises:
        PolicyErrors: the policy is wrong.
        ProtectFileError: a protection file cannot be read or parsed.
    """
    host = host or Host()
    return plan_parsed(host, _parsed(policy, host))


def plan_parsed(host: Host, policy: Policy) -> PolicyPlan:
    """As plan_policy, of a policy that is parsed."""
    absent = problems.absent_in_policy(host, policy)
    immediate = policy.without_holds()
    decider = Decider(immediate, users=host.subordinate_uids().current)
    result = reconcile(host, decider, PassOptions(check=True))
    missing = result.missing_interfaces
    expected = {each.violation.identity: each.result.outcome for each in result.results}
    sockets: dict[str, list[dict[str, Any]]] = {rule.name: [] for rule in policy.rules}
    for finding in result.decision.findings:
        violation = finding.violation
        destroys = finding.status == findings.DESTROY
        sockets[violation.rule.name].append(
            {
                "status": finding.status,
                "expected": expected.get(violation.identity) if destroys else None,
                "evidence": list(violation.evidence),
                **results.protection(violation.protected_by),
                "record": record(violation.socket, ("process",)),
            }
        )
    not_evaluated = result.not_evaluated
    return PolicyPlan(
        digest=policy.digest,
        mode=policy.mode,
        rules=[
            {
                "name": rule.name,
                "action": rule.action,
                "hold_ms": rule.hold_ms,
                "conditions_hold": _conditions_hold(rule, result),
                "missing_interfaces": missing.get(rule.name, []),
                "sockets": sockets[rule.name],
            }
            for rule in policy.rules
        ],
        budget_exceeded=exceeded_budget(result.decision.budget_exceeded),
        outcomes=_counts([each.result for each in result.results]),
        not_evaluated=_as_dicts(not_evaluated),
        warnings=(*absent, *problems.plan_warnings(policy, result)),
        failures=(EvaluationIncomplete(not_evaluated),) if not_evaluated else (),
    )


@checks_options
def enforce_policy(
    policy: Mapping[str, Any],
    *,
    engine: str | None = None,
    limit: int = DEFAULT_LIMIT,
    check: bool = False,
    diff: bool = False,
    host: Host | None = None,
) -> PolicyResult:
    """Enforce a policy once: wait until the holds of present violations are over, then destroy.

    Example::

        result = api.enforce_policy(policy, check=True)
        for violation in result.violations:
            print(violation["rule"], violation["status"], violation["record"]["remote"])

    Args:
        policy: a policy document.
        engine: ``netlink``, ``bpf``, ``pidfd``, or ``auto``; None for that of the policy.
        limit: the longest length of each list of the result.
        check: report the expected outcomes and change nothing.
        diff: fill ``diff``.
        host: the machine to work on; the default is this one.

    Returns:
        PolicyResult: the violations, and the outcome of each socket.

    Raises:
        PolicyErrors: the policy is wrong.
        InputError: another option is wrong.
        ProtectFileError: a protection file cannot be read or parsed.
        EngineUnavailable: the engine does not work on this kernel.
    """
    host = host or Host()
    parsed = _parsed(policy, host)
    absent = problems.absent_in_policy(host, parsed)
    options = PassOptions(check=check, engine=engine)
    result = _with_ended(host, reconcile_once(host, parsed, options))
    outcomes = problems.results_of(result)
    counts = _counts(outcomes)
    listed = results.lists(outcomes, limit)
    matched = result.decision.findings
    violations = heapq.nsmallest(limit, matched, key=_order)
    not_evaluated = result.not_evaluated
    return PolicyResult(
        changed=not names.CHANGING.isdisjoint(counts),
        mode=parsed.mode,
        digest=parsed.digest,
        rules=_rules(parsed, result),
        violations=[_violation(finding) for finding in violations],
        matched=len(matched),
        outcomes=counts,
        destroyed=listed["destroyed"],
        protected=listed["protected"],
        survivors=listed["survivors"],
        truncated=len(violations) < len(matched)
        or sum(map(len, listed.values())) < len(outcomes)
        or len(not_evaluated) > limit,
        not_evaluated=_as_dicts(not_evaluated[:limit]),
        diff=results.diff(outcomes, limit) if diff else None,
        warnings=(*absent, *problems.warnings_of(parsed, result)),
        failures=problems.failures_of(result, counts, not_evaluated),
    )


def _parsed(policy: object, host: Host) -> Policy:
    return parse_policy(policy, names=host, files=host.protect_directory, path=_PATH)


def _reads_owners(policy: Policy) -> bool:
    """Whether the guard, a rule or the engine depends on the owners of sockets (/proc/PID/fd)."""
    guard = policy.guard
    if guard.control_connection or guard.ssh_sessions or guard.ssh_forwards or guard.kernel:
        return True
    if policy.engine != DEFAULT_ENGINE:
        return True
    return Need.OWNERS in guard.needs.union(*(rule.match.needs for rule in policy.rules))


def _with_ended(host: Host, result: ReconcileResult) -> ReconcileResult:
    """The result, with `already_gone` for sockets that ended before the guard found their owners.

    The guard protects a socket without a visible owner. One that closed during the walk over the
    processes looks the same, so a new dump decides.
    """
    doubtful: dict[Namespace, list[Finding]] = {}
    for finding in result.decision.findings:
        reason = finding.violation.protected_by
        if finding.status == findings.PROTECTED and reason and reason.rule in NO_OWNER_RULES:
            namespace = finding.violation.socket.snapshot.namespace
            doubtful.setdefault(namespace, []).append(finding)
    ended: set[int] = set()
    for namespace, of_namespace in doubtful.items():
        with suppress(SocketsError), NamespaceSession(host, namespace) as session:
            sockets = [finding.violation.socket for finding in of_namespace]
            cookies = find_ended(session, sockets)
            ended |= {
                id(finding)
                for finding in of_namespace
                if finding.violation.socket.cookie in cookies
            }
    if not ended:
        return result
    kept, gone = [], []
    for finding in result.decision.findings:
        if id(finding) in ended:
            violation = finding.violation._replace(protected_by=None)
            kept.append(finding._replace(violation=violation, status=findings.DESTROY))
            gone.append(ViolationResult(violation, Result(violation.socket, names.ALREADY_GONE)))
        else:
            kept.append(finding)
    decision = replace(result.decision, findings=tuple(kept))
    return replace(result, decision=decision, results=(*result.results, *gone))


def _counts(found: Sequence[Result]) -> dict[str, int]:
    counted = Counter(each.outcome for each in found)
    return {name: counted[name] for name in names.OUTCOMES if counted[name]}


def _order(finding: Finding) -> tuple[Any, ...]:
    return (sort_key(finding.violation.socket), finding.violation.rule.name)


def _violation(finding: Finding) -> dict[str, Any]:
    violation = finding.violation
    return {
        "rule": violation.rule.name,
        "status": finding.status,
        "reason": list(violation.evidence),
        **results.protection(violation.protected_by),
        # Its processes are None for rules that only report: their owners are not looked up.
        "record": record(violation.socket, ("process",)),
    }


def _as_dicts(not_evaluated: Sequence[NotEvaluated]) -> list[dict[str, Any]]:
    return [
        {"namespace": each.namespace, "rule": each.rule, "error": describe(each.error)}
        for each in not_evaluated
    ]


def _conditions_hold(rule: Rule, result: ReconcileResult) -> bool:
    """Whether `while` holds in any of the namespaces that were evaluated, if there are any."""
    holds = [each.conditions.get(rule.name) for each in result.evaluations]
    return any(holds) or not holds


def _rules(policy: Policy, result: ReconcileResult) -> list[dict[str, Any]]:
    counts: dict[str, Counter[str]] = {rule.name: Counter() for rule in policy.rules}
    for finding in result.decision.findings:
        counts[finding.violation.rule.name][finding.status] += 1
    missing = result.missing_interfaces
    return [
        {
            "name": rule.name,
            "action": rule.action,
            "violations": sum(counts[rule.name].values()),
            "by_status": dict(sorted(counts[rule.name].items())),
            "holds_in": [
                each.namespace.name
                for each in result.evaluations
                if each.conditions.get(rule.name) is True
            ],
            "missing_interfaces": missing.get(rule.name, []),
        }
        for rule in policy.rules
    ]
