# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Warnings and failures of a policy, from the result of a pass."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from ..destroy import outcomes as names
from ..destroy.outcomes import Result
from ..errors import (
    Absent,
    BudgetExcess,
    EvaluationIncomplete,
    Failure,
    InterfacesMissing,
    NotEvaluated,
    OverBudget,
    PacketMarks,
    ResultWarning,
    SocketsError,
    ViolationsUntracked,
)
from ..host.host import Host
from ..policy import findings
from ..policy.model import Policy
from ..policy.reconcile import ReconcileResult
from ..selector.predicates.socket import UNKNOWN_INTERFACE
from . import results
from .destroy_sockets import guard_selectors
from .namespaces import namespaces_named, unlisted_warnings
from .selector_warnings import absent_warnings


def results_of(result: ReconcileResult) -> list[Result]:
    """The outcome of each socket that a rule destroys, each once."""
    found = [each.result for each in result.results]
    for finding in result.decision.findings:
        sock, protected = finding.violation.socket, finding.violation.protected_by
        if finding.status == findings.PROTECTED:
            found.append(Result(sock, names.PROTECTED, protected))
        elif finding.status == findings.LIMIT and result.decision.inhibited_by is None:
            found.append(Result(sock, names.LIMIT))
    return found


def plan_warnings(policy: Policy, result: ReconcileResult) -> tuple[ResultWarning, ...]:
    """The warnings about a pass that destroys nothing."""
    return (
        *policy.warnings,
        *unlisted_warnings(_unlisted(result)),
        *_unknown_interfaces(policy, result),
        *_packet_marks(result),
    )


def _unlisted(result: ReconcileResult) -> frozenset[str]:
    return frozenset().union(*(each.unlisted for each in result.evaluations))


def absent_in_policy(
    host: Host, policy: Policy, most_namespaces: int | None = None
) -> tuple[Absent, ...]:
    """Parts of the selectors that cannot match. Interfaces of rules have a warning of their own.

    most_namespaces: with more of them, interfaces are not looked up; None: look up all.
    """
    namespaces = []
    for name in policy.namespaces:
        with suppress(SocketsError):
            namespaces += namespaces_named(host, [name])
    of_guard = guard_selectors(policy.guard)
    interfaces = {name for rule in policy.rules for name in rule.interfaces}
    rules = [rule.match for rule in policy.rules]
    some = most_namespaces is not None and len(namespaces) > most_namespaces
    if some:
        # Processes, units and cgroups are those of the host.
        namespaces = namespaces[:1]
    found = (
        *absent_warnings(host, namespaces, of_guard),
        *(
            each
            for each in absent_warnings(host, namespaces, rules)
            if each.value not in interfaces
        ),
    )
    return tuple(each for each in found if not (some and each.problem == UNKNOWN_INTERFACE))


def _packet_marks(result: ReconcileResult) -> tuple[PacketMarks, ...]:
    namespaces = tuple(each.namespace.name for each in result.evaluations if each.packet_marks)
    return (PacketMarks(namespaces),) if namespaces else ()


def warnings_of(policy: Policy, result: ReconcileResult) -> tuple[ResultWarning, ...]:
    """The warnings about a pass that enforces the policy."""
    found: list[ResultWarning] = [*plan_warnings(policy, result)]
    if result.decision.untracked:
        found.append(ViolationsUntracked(result.decision.untracked))
    found += results.owners_unreadable(results_of(result))
    found += results.shared_port_warnings(each.result for each in result.results)
    if result.decision.inhibited_by is not None:
        found += _over_budget(result, None)
    return tuple(found)


def _unknown_interfaces(policy: Policy, result: ReconcileResult) -> tuple[InterfacesMissing, ...]:
    missing = result.missing_interfaces
    unknown = tuple(
        (interface, rule.name)
        for rule in policy.rules
        for interface in missing.get(rule.name, ())
        if interface not in rule.optional_interfaces
    )
    return (InterfacesMissing(unknown, tuple(result.existing_interfaces)),) if unknown else ()


def failures_of(
    result: ReconcileResult, counts: Mapping[str, int], not_evaluated: tuple[NotEvaluated, ...]
) -> tuple[Failure, ...]:
    found: list[Failure] = []
    if result.decision.inhibited_by is None:
        found += _over_budget(result, len(result.results))
    attempted = {name: count for name, count in counts.items() if name != names.LIMIT}
    found += results.not_destroyed(attempted, sum(attempted.values()))
    if not_evaluated:
        found.append(EvaluationIncomplete(not_evaluated))
    return tuple(found)


def _over_budget(result: ReconcileResult, destroyed: int | None) -> list[OverBudget]:
    exceeded = result.decision.budget_exceeded
    if not exceeded:
        return []
    found = tuple(
        BudgetExcess(each.due, each.max_sockets, each.limits.per_ms, each.rule, each.uid, each.user)
        for each in exceeded
    )
    return [OverBudget(found, exceeded[0].limits.on_excess, destroyed)]
