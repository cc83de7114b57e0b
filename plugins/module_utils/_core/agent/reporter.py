# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Reports state changes to the journal and to the event stream.

Edge-triggered: an ongoing condition is reported when it begins, changes and ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timezone
from typing import Any

from ..api.results import protection
from ..destroy import outcomes
from ..errors import Absent, BudgetExcess
from ..host.namespaces import Identity
from ..messages import (
    budget_text,
    describe_warning,
    endpoint_text,
    gone_interfaces_text,
    not_evaluated_text,
    place_text,
    rule_and_user_text,
    unknown_interfaces_text,
)
from ..policy import findings
from ..policy.findings import Violation, ViolationResult
from ..policy.model import REFUSE, Policy
from ..policy.reconcile import ReconcileResult
from ..query.record import record
from .event_stream import EventStream
from .journal import INFO, NOTICE, WARNING, Log
from .pass_summary import PassSummary
from .state import AgentState

# Statuses of remaining sockets that are reported one by one.
_REPORTED = frozenset(
    {findings.PROTECTED, findings.REPORTED, findings.BACK_OFF, findings.INHIBITED}
)

# How many exceeded budgets are reported one by one.
_MAX_BUDGETS = 50

# How many sockets of one pass are logged one by one. The event stream has all destroyed sockets.
_MAX_LINES = 1000

_LATE = (
    "some network namespaces are evaluated late, because they need more CPU time than the agent "
    "may use; socket-agent status lists them"
)

# How many parts of selectors that cannot match are reported.
_MAX_ABSENT = 10

_PRIORITIES = {
    outcomes.DESTROYED: NOTICE,
    outcomes.DISCONNECTED: NOTICE,
    outcomes.ALREADY_GONE: INFO,
}


class Reporter:
    """Compares each pass with the one before, and reports the differences."""

    def __init__(self, log: Log, stream: EventStream | None) -> None:
        self.log = log
        self._stream = stream
        self._conditions: dict[str, str] = {}
        self._violations: dict[Identity, AbstractSet[tuple[Any, ...]]] = {}
        self._not_evaluated: set[str] = set()
        self._budgets: set[str] = set()
        self._unenforced: set[str] = set()
        self._missing_interfaces: dict[str, list[str]] = {}
        # By rule, interfaces that may well be absent.
        self._optional_interfaces: dict[str, frozenset[str]] = {}
        # Names in rules, and whether an interface had it at some time.
        self._seen_interfaces: dict[str, bool] = {}

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        if self._stream is not None:
            self._stream.send({"event": name, "at": _now(), **fields})

    def set_condition(
        self, name: str, text: str | None, *, ended: str = "", priority: int = WARNING
    ) -> None:
        """Report an ongoing condition if its text changed.

        text: None: it does not exist or has ended. ended: the text to log at its end.
        """
        before = self._conditions.get(name)
        if text == before:
            return
        if text is None:
            del self._conditions[name]
            if ended:
                self.log.notice(ended)
        else:
            self._conditions[name] = text
            self.log.line(priority, text)
        self.event("state", {"condition": name, "text": text})

    def report_policy_file(self, state: AgentState) -> None:
        """Report whether the policy file is rejected."""
        rejected, text = state.rejected, None
        if rejected is not None:
            in_force = (
                "no policy is in force"
                if state.policy is None
                else f"policy {state.policy.digest[:12]} stays in force"
            )
            text = f"policy rejected, {in_force}: {' '.join(rejected.errors)}"
        self.set_condition("policy file", text, ended="policy file accepted")

    def report_selectors(self, policy: Policy, absent: Iterable[Absent]) -> None:
        """Report the parts of the selectors of a new policy that cannot match now."""
        self._optional_interfaces = {rule.name: rule.optional_interfaces for rule in policy.rules}
        named = {name for rule in policy.rules for name in rule.interfaces}
        self._seen_interfaces = {name: self._seen_interfaces.get(name, False) for name in named}
        texts = [describe_warning(each) for each in absent]
        more = len(texts) - _MAX_ABSENT
        if more > 0:
            texts[_MAX_ABSENT:] = [f"And {more} more."]
        self.set_condition(
            "selectors", " ".join(texts) or None, ended="all parts of the selectors can match"
        )

    def report_controls(self, state: AgentState) -> None:
        """Report the pause and the trial."""
        pause, trial = state.pause, state.active_trial()
        self.set_condition(
            "pause",
            None
            if pause is None
            else f"paused, destroying nothing: {pause.reason or 'no reason given'}",
            ended="pause ended",
        )
        expired, text = state.trial_expired(), None
        if expired:
            text = "trial expired, destroying nothing until the policy is confirmed"
        elif trial is not None:
            text = (
                f"policy {trial.digest[:12]} is on trial; unless confirmed in time, it destroys "
                "nothing after the trial"
            )
        self.set_condition(
            "trial", text, ended="trial ended", priority=WARNING if expired else NOTICE
        )

    def report_pass(self, namespace: Identity, result: ReconcileResult) -> None:
        """Report the violations and outcomes of a pass of a namespace."""
        self._report_results(result.results)
        self._report_violations(namespace, result)
        for evaluation in result.evaluations:
            for link in evaluation.links:
                for name in self._seen_interfaces.keys() & link.names:
                    self._seen_interfaces[name] = True

    def forget(self, namespace: Identity) -> None:
        """Forget a namespace that no longer exists."""
        self._violations.pop(namespace, None)

    def report_summary(self, summary: PassSummary) -> None:
        """Report ongoing conditions, from the last passes of all namespaces."""
        self._report_not_evaluated(summary)
        self._report_missing_interfaces(summary)
        self._report_budget(summary)
        self._report_unenforced(summary)

    def _report_unenforced(self, summary: PassSummary) -> None:
        """Report the reasons by rule; the status and the metrics have the numbers."""
        now = {
            f"unenforced of {rule}": f"rule {rule}: violations cannot be destroyed: "
            f"{', '.join(sorted(reasons))}"
            for rule, reasons in summary.unenforced.items()
        }
        for name in self._unenforced - now.keys():
            self.set_condition(name, None, ended=f"{name}: none any more")
        for name, text in now.items():
            self.set_condition(name, text)
        self._unenforced = set(now)

    def _report_budget(self, summary: PassSummary) -> None:
        """Report the total, and each rule and user. Of many, the first ones."""
        now: dict[str, str] = {}
        for each in summary.budget_exceeded[:_MAX_BUDGETS]:
            limits = each.limits
            excess = BudgetExcess(
                each.due, each.max_sockets, limits.per_ms, each.rule, each.uid, each.user
            )
            consequence = "destroying the oldest violations first"
            if limits.on_excess == REFUSE:
                consequence = "destroying none" if each.rule is None else "destroying none of them"
            whose = "" if each.rule is None else f" of {rule_and_user_text(excess)}"
            now[f"budget{whose}"] = f"{budget_text(excess)}; {consequence}"
        for name in self._budgets - now.keys():
            self.set_condition(name, None, ended=f"{name} sufficient again")
        for name, text in now.items():
            self.set_condition(name, text)
        self._budgets = set(now)

    def _report_not_evaluated(self, summary: PassSummary) -> None:
        now: dict[str, str] = {}
        for entry in summary.not_evaluated:
            if not entry.late:
                name = place_text(entry.namespace, entry.rule)
                now[name] = not_evaluated_text(entry.namespace, entry.rule, entry.error)
        for name in self._not_evaluated - set(now):
            self.set_condition(name, None, ended=f"{name} evaluated again, or removed")
        for name, text in now.items():
            self.set_condition(name, text)
        self._not_evaluated = set(now)
        late = any(entry.late for entry in summary.not_evaluated)
        self.set_condition(
            "late evaluations", _LATE if late else None, ended="all namespaces evaluated in time"
        )

    def _report_missing_interfaces(self, summary: PassSummary) -> None:
        """Report interfaces that do not exist, at a low priority.

        One whose presence is a condition may well be absent, and is not reported. One that existed
        before is not called unknown: the interface of a tunnel that is down is missing too.
        """
        now = {
            rule: [name for name in names if name not in self._optional_interfaces.get(rule, ())]
            for rule, names in summary.missing_interfaces.items()
        }
        now = {rule: names for rule, names in now.items() if names}
        before = self._missing_interfaces
        for rule in before.keys() - now.keys():
            self.set_condition(
                f"interfaces of {rule}", None, ended=f"rule {rule}: no missing interfaces"
            )
        for rule, names in now.items():
            # Not if only the existing interfaces changed.
            if names != before.get(rule):
                gone = [name for name in names if self._seen_interfaces.get(name)]
                unknown = [(name, rule) for name in names if name not in gone]
                texts = [gone_interfaces_text(gone, rule)] if gone else []
                if unknown:
                    existing = sorted(summary.interfaces or ())
                    texts.append(unknown_interfaces_text(unknown, existing))
                self.set_condition(f"interfaces of {rule}", "; ".join(texts), priority=NOTICE)
        self._missing_interfaces = now

    def _report_results(self, results: Iterable[ViolationResult]) -> None:
        for number, enforced in enumerate(results):
            result = enforced.result
            if number < _MAX_LINES:
                priority = _PRIORITIES.get(result.outcome, WARNING)
                fields = describe_violation(enforced.violation, result.outcome)
                self.log.line(priority, result.outcome, fields)
            elif number == _MAX_LINES:
                self.log.notice(f"more than {_MAX_LINES} sockets in this pass; counting the rest")
            self.event(
                "socket",
                {
                    "outcome": result.outcome,
                    "reason": None if result.reason is None else result.reason.rule,
                    "rule": enforced.violation.rule.name,
                    "evidence": list(enforced.violation.evidence),
                    "record": record(enforced.violation.socket, ("process",)),
                },
            )

    def _report_violations(self, namespace: Identity, result: ReconcileResult) -> None:
        """Report each remaining socket once per status."""
        now: set[tuple[Any, ...]] = set()
        before = self._violations.get(namespace, frozenset())
        for finding in result.decision.findings:
            if finding.status not in _REPORTED:
                continue
            violation = finding.violation
            key = (violation.rule.name, violation.key, finding.status)
            now.add(key)
            if key in before or len(now) > _MAX_LINES:
                continue
            fields = describe_violation(violation, finding.status)
            if violation.protected_by is not None:
                fields.update(protection(violation.protected_by))
            self.log.line(NOTICE, finding.status, fields)
            self.event("violation", {"status": finding.status, **fields})
        if now:
            self._violations[namespace] = now
        else:
            self.forget(namespace)


def _now() -> str:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return now.replace("+00:00", "Z")


def describe_violation(violation: Violation, status: str) -> dict[str, Any]:
    """Return the journal fields of a socket.

    status: a status or an outcome; destroyed sockets also have the bytes that were lost.
    """
    sock = violation.socket
    owners = sock.processes
    owner = owners[0] if owners else None
    lost = status in outcomes.CHANGING
    return {
        "rule": violation.rule.name,
        "evidence": "; ".join(violation.evidence) or None,
        "namespace": sock.snapshot.namespace.name,
        "protocol": sock.protocol,
        "state": sock.state,
        "local": endpoint_text(sock.local, sock.local_port),
        "remote": endpoint_text(sock.remote, sock.remote_port),
        "cookie": sock.cookie_hex,
        "uid": sock.uid,
        "comm": owner.comm if owner else None,
        "pid": owner.pid if owner else None,
        "unit": owner.unit if owner else None,
        "unsent_or_unacknowledged_bytes": sock.send_queue if lost else None,
        "unread_bytes": sock.recv_queue if lost else None,
    }
