# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the work of socket_policy."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .._core.destroy import outcomes as names
from .._core.destroy.outcomes import Result
from .._core.errors import InputError, PolicyErrors
from .._core.host.host import Host
from .._core.messages import describe, listed_text, warning_text
from .._core.policy import decide
from .._core.policy.decide import Excess, Finding
from .._core.policy.evaluate import missing_interfaces
from .._core.policy.model import PACE, Policy, Rule
from .._core.policy.parse import parse_policy
from .._core.policy.reconcile import Pass, enforce_once
from .._core.query.record import record, sort_key
from . import outcomes
from .arguments import Spec
from .info import checked_limit, unlisted_warnings
from .run import Answer, Request

# Of a kind, in one sentence.
_MOST_TOLD = 10


def argument_spec() -> Spec:
    """The options that socket_policy has of its own."""
    return {"policy": {"type": "dict"}, "src": {"type": "path"}}


def work(request: Request, host: Host) -> Answer:
    """Enforce a policy once, and say what violated it and what became of each."""
    options = request.options
    limit = checked_limit(options["limit"])
    try:
        policy = _policy(request, host)
    except PolicyErrors as refused:
        errors = [describe(each) for each in refused.errors]
        message = f"The policy is refused by this host, and nothing was done: {listed_text(errors)}"
        return Answer({"changed": False, "errors": errors}, failure=message)
    one = enforce_once(host, policy, check=request.check, engine_name=options["engine"])
    results = _results(one)
    counts = Counter(each.outcome for each in results)
    listed = outcomes.lists(results, limit)
    violations = heapq.nsmallest(limit, one.decision.findings, key=_order)
    not_evaluated = _unseen(one)
    result: dict[str, Any] = {
        "changed": not names.CHANGING.isdisjoint(counts),
        "mode": policy.mode,
        "digest": policy.digest,
        "rules": _rules(policy, one),
        "violations": [_violation(each) for each in violations],
        "matched": len(one.decision.findings),
        "outcomes": {name: counts[name] for name in names.OUTCOMES if name in counts},
        **listed,
        "truncated": len(violations) < len(one.decision.findings)
        or sum(map(len, listed.values())) < len(results)
        or len(not_evaluated) > limit,
        "not_evaluated": not_evaluated[:limit],
    }
    if request.diff:
        result["diff"] = outcomes.diff(results, limit)
    return Answer(
        result, failure=_failure(one, counts, not_evaluated), warnings=_warnings(policy, one)
    )


def _policy(request: Request, host: Host) -> Policy:
    policy, src = request.options["policy"], request.options["src"]
    if src is not None:
        raise InputError(
            ("src",),
            src,
            "a file of the controller, which only its action plugin can read",
            "policy, where the module is called without it",
        )
    if policy is None:
        raise InputError(("policy",), None, "no policy is given", "policy or src")
    return parse_policy(policy, names=host, files=host.protect_directory, path=("policy",))


def _results(one: Pass) -> list[Result]:
    """What became of each socket that a rule destroys; each once."""
    found = [each.result for each in one.done]
    for finding in one.decision.findings:
        sock, protected = finding.violation.socket, finding.violation.protected
        if finding.status == decide.PROTECTED:
            found.append(Result(sock, names.PROTECTED, protected))
        elif finding.status == decide.LIMIT and one.decision.withheld is None:
            found.append(Result(sock, names.LIMIT))
    return found


def _order(finding: Finding) -> tuple[Any, ...]:
    return (sort_key(finding.violation.socket), finding.violation.rule.name)


def _violation(finding: Finding) -> dict[str, Any]:
    violation = finding.violation
    protected = violation.protected
    return {
        "rule": violation.rule.name,
        "status": finding.status,
        "reason": list(violation.evidence),
        "protected_by": None if protected is None else protected.rule,
        "protected_detail": None if protected is None else protected.detail,
        # Null where nobody asked who holds it: of a rule that only reports.
        "record": record(violation.socket, ("process",)),
    }


def _unseen(one: Pass) -> list[dict[str, Any]]:
    """The namespaces, and the rules in other namespaces, for which nothing is known."""
    return [
        {"namespace": namespace, "rule": rule, "error": describe(error)}
        for namespace, rule, error in one.blind
    ]


def _rules(policy: Policy, one: Pass) -> list[dict[str, Any]]:
    counts: dict[str, Counter[str]] = {rule.name: Counter() for rule in policy.rules}
    for finding in one.decision.findings:
        counts[finding.violation.rule.name][finding.status] += 1
    looks = one.judgements
    missing = missing_interfaces(looks)
    return [
        {
            "name": rule.name,
            "action": rule.action,
            "violations": sum(counts[rule.name].values()),
            "by_status": dict(sorted(counts[rule.name].items())),
            "holds_in": [
                look.namespace.name for look in looks if look.conditions.get(rule.name) is True
            ],
            "missing_interfaces": missing.get(rule.name, []),
        }
        for rule in policy.rules
    ]


def _warnings(policy: Policy, one: Pass) -> list[str]:
    unlisted: set[str] = set()
    for look in one.judgements:
        unlisted |= look.unlisted
    found = [*map(warning_text, policy.warnings), *unlisted_warnings(unlisted)]
    missing = missing_interfaces(one.judgements)
    named = [
        f"{name} of rule {rule.name}"
        for rule in policy.rules
        for name in missing.get(rule.name, ())
        if name not in _may_be_absent(rule)
    ]
    if named:
        found.append(
            f"No namespace has these interfaces: {_first(named, ', ')}. Is a name misspelt? What "
            "is asked of an interface that is not there is unknown, and destroys nothing."
        )
    if one.decision.untracked:
        found.append(
            f"{one.decision.untracked} violations are more than can be kept in mind, and were left "
            "alone. Run it again, or narrow the rules."
        )
    excess = one.decision.excess
    if excess is not None and one.decision.withheld is not None:
        found.append(
            f"{_excessive(excess)}. In mode report nothing is touched in any case; in mode enforce "
            "the task would fail."
        )
    return found


def _may_be_absent(rule: Rule) -> set[str | None]:
    """The interfaces of which a rule asks whether they are there."""
    asked = () if rule.condition is None else rule.condition.facts()
    return {fact.interface for fact in asked if fact.kind == "present"}


def _first(told: list[str], between: str) -> str:
    """As many as one can read."""
    more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
    return between.join(told[:_MOST_TOLD] + more)


def _failure(
    one: Pass, counts: Mapping[str, int], not_evaluated: list[dict[str, Any]]
) -> str | None:
    said: list[str] = []
    excess = one.decision.excess
    if excess is not None and one.decision.withheld is None:
        said.append(_too_many(excess, len(one.done)))
    tried = {name: count for name, count in counts.items() if name != names.LIMIT}
    undone = outcomes.undone(tried, sum(tried.values()))
    said += [undone] if undone else []
    if not_evaluated:
        where = [
            f"rule {each['rule']} in namespace {each['namespace']}: {each['error']}"
            if each["rule"]
            else f"namespace {each['namespace']}: {each['error']}"
            for each in not_evaluated
        ]
        said.append(f"Not judged: {_first(where, ' ')}")
    return " ".join(said) or None


def _excessive(excess: Excess) -> str:
    limits = excess.limits
    return (
        f"{excess.due} sockets violate the policy and would be destroyed, but its limits allow "
        f"{limits.max_sockets} in {limits.per_ms / 1000:g} s"
    )


def _too_many(excess: Excess, done: int) -> str:
    what = (
        f"{done} of them were taken on, the oldest violations first. The others"
        if excess.limits.on_excess == PACE
        else "none was touched. They"
    )
    return (
        f"{_excessive(excess)}: {what} are listed in survivors. If they are meant, raise "
        "limits.max_sockets; if not, narrow the rules."
    )
