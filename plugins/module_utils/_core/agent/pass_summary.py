# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Summaries of reconcile passes: of one namespace, and merged over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..destroy import outcomes
from ..messages import describe
from ..policy import findings
from ..policy.budget import BudgetExceeded
from ..policy.reconcile import ReconcileResult
from ..policy.unenforced import count_unenforced

_MAX_BACKING_OFF = 50
_GONE = outcomes.CHANGING | {outcomes.ALREADY_GONE}


class Unevaluated(NamedTuple):
    """A namespace that was not evaluated, or one rule in it. rule: None: all rules.

    age_s: for how long. late: no error; the agent has not had the CPU time for it yet.
    """

    namespace: str
    rule: str | None
    error: str
    age_s: float = 0.0
    late: bool = False


@dataclass(frozen=True)
class PassSummary:
    """Passes in numbers and texts; holds no sockets.

    ended_ms: the end of the last one on CLOCK_MONOTONIC. duration_ms: of the last one. namespaces:
    their number. statuses: violations by rule and status, without destroyed sockets. unenforced:
    violations by rule and reason why they are due and cannot be destroyed.
    missing_interfaces: by rule, interfaces that exist in no namespace; interfaces: existing ones,
    if the policy names any; None: no namespace was evaluated. backing_off: destinations in backoff.
    waiting: namespaces that are due. oldest_s: the age of the oldest evaluation; None: there is
    none.
    """

    ended_ms: int
    duration_ms: int
    namespaces: int
    statuses: dict[str, Counter[str]]
    unenforced: dict[str, Counter[str]]
    budget_exceeded: tuple[BudgetExceeded, ...]
    untracked: int
    not_evaluated: tuple[Unevaluated, ...]
    missing_interfaces: dict[str, list[str]]
    backing_off: tuple[dict[str, Any], ...]
    interfaces: frozenset[str] | None = None
    waiting: int = 0
    oldest_s: float | None = None

    def with_unevaluated(self, entries: tuple[Unevaluated, ...]) -> PassSummary:
        return replace(self, not_evaluated=entries)


def summarize(result: ReconcileResult) -> PassSummary:
    """Summarize a pass of one namespace."""
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
        unenforced=count_unenforced(result.decision, result.results, result.ended_ms),
        budget_exceeded=result.decision.budget_exceeded,
        untracked=result.decision.untracked,
        not_evaluated=tuple(
            Unevaluated(each.namespace, each.rule, describe(each.error))
            for each in result.not_evaluated
        ),
        missing_interfaces=result.missing_interfaces,
        backing_off=tuple(backing_off.values()),
        interfaces=frozenset(result.existing_interfaces) if result.evaluations else None,
    )


def merge(
    summaries: Iterable[PassSummary], *, ended_ms: int, namespaces: int, waiting: int, now_ms: int
) -> PassSummary:
    """Merge the last pass of each namespace.

    ended_ms: the time if there is no pass. namespaces: their number, with those that have no pass.
    """
    passes = sorted(summaries, key=lambda each: each.ended_ms)
    evaluated = [each for each in passes if each.interfaces is not None]
    backing_off = [destination for each in passes for destination in each.backing_off]
    last = passes[-1] if passes else None
    oldest_s = None if not passes else max(0, now_ms - passes[0].ended_ms) / 1000
    return PassSummary(
        ended_ms=ended_ms if last is None else max(ended_ms, last.ended_ms),
        duration_ms=0 if last is None else last.duration_ms,
        namespaces=namespaces,
        statuses=_merge_counts(each.statuses for each in passes),
        unenforced=_merge_counts(each.unenforced for each in passes),
        budget_exceeded=_merge_excess(passes),
        untracked=sum(each.untracked for each in passes),
        not_evaluated=tuple(entry for each in passes for entry in each.not_evaluated),
        missing_interfaces=_merge_missing(evaluated),
        backing_off=tuple(backing_off[:_MAX_BACKING_OFF]),
        interfaces=frozenset().union(*(each.interfaces or () for each in evaluated)),
        waiting=waiting,
        oldest_s=oldest_s,
    )


def _merge_counts(counts: Iterable[dict[str, Counter[str]]]) -> dict[str, Counter[str]]:
    merged: dict[str, Counter[str]] = {}
    for each in counts:
        for rule, numbers in each.items():
            merged.setdefault(rule, Counter()).update(numbers)
    return merged


def _merge_excess(passes: Iterable[PassSummary]) -> tuple[BudgetExceeded, ...]:
    """The rules and users that exceed the budget, with the violations in all namespaces."""
    found: dict[tuple[str | None, int | None], BudgetExceeded] = {}
    for each in passes:
        for excess in each.budget_exceeded:
            key = excess.rule, excess.uid
            before = found[key].due if key in found else 0
            found[key] = excess._replace(due=before + excess.due)
    return tuple(found.values())


def _merge_missing(evaluated: Iterable[PassSummary]) -> dict[str, list[str]]:
    """By rule, the interfaces that are missing in every evaluated namespace."""
    passes = list(evaluated)
    rules = dict.fromkeys(rule for each in passes for rule in each.missing_interfaces)
    missing = {
        rule: set.intersection(*(set(each.missing_interfaces.get(rule, ())) for each in passes))
        for rule in sorted(rules)
    }
    return {rule: sorted(names) for rule, names in missing.items() if names}
