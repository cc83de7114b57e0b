# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: tells what happened, once, to the log and to who listens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ..destroy import outcomes
from ..messages import describe, endpoint_text
from ..policy import findings
from ..policy.findings import Violation, ViolationResult
from ..policy.reconcile import ReconcileResult
from ..query.record import record
from .event_socket import Stream
from .journal import INFO, NOTICE, WARNING, Log

# Statuses of sockets that live on, and of which each is named.
_SAID = frozenset({findings.PROTECTED, findings.REPORTED, findings.BACK_OFF, findings.INHIBITED})

# What a log says one by one of one look; the rest is counted. Every socket is in the stream.
_MOST_LINES = 1000

_PRIORITIES = {
    outcomes.DESTROYED: NOTICE,
    outcomes.DISCONNECTED: NOTICE,
    outcomes.ALREADY_GONE: INFO,
}


class Teller:
    """Keeps what was true before, so that what lasts is said when it begins and when it ends."""

    def __init__(self, log: Log, stream: Stream | None) -> None:
        self.log = log
        self.stream = stream
        self._lasting: dict[str, str] = {}
        self._seen: set[tuple[Any, ...]] = set()
        self._blind_to: set[str] = set()
        self._lacking: set[str] = set()

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        if self.stream is not None:
            self.stream.send({"event": name, "at": _now(), **fields})

    def lasts(
        self, what: str, text: str | None, *, ended: str = "", priority: int = WARNING
    ) -> None:
        """Something that is wrong or held back for a while: text is said when it changes; None: it
        is over, and `ended` is said if it ever was."""
        before = self._lasting.get(what)
        if text == before:
            return
        if text is None:
            del self._lasting[what]
            if ended:
                self.log.notice(ended)
        else:
            self._lasting[what] = text
            self.log.line(priority, text)
        self.event("state", {"condition": what, "text": text})

    def passed(self, one: ReconcileResult) -> None:
        """What one look found and did."""
        self._blind(one)
        self._missing(one)
        excess = one.decision.budget_exceeded
        self.lasts(
            "budget",
            None
            if excess is None
            else f"{excess.due} sockets are to be destroyed, over the limit of "
            f"{excess.limits.max_sockets} in {excess.limits.per_ms / 1000:g} s"
            + (
                "; none is destroyed"
                if excess.limits.on_excess == "refuse"
                else "; the oldest violations go first"
            ),
            ended="no more sockets are to be destroyed than the limit allows",
        )
        self._results(one.results)
        self._findings(one)

    def _blind(self, one: ReconcileResult) -> None:
        """What could not be looked at: whole namespaces, or one rule's sockets in one."""
        now: dict[str, str] = {}
        for each in one.not_evaluated:
            what, problem = f"namespace {each.namespace}", "cannot be looked into"
            if each.rule is not None:
                what, problem = f"rule {each.rule} in {what}", "cannot be judged"
            now[what] = f"{what} {problem}: {describe(each.error)}"
        for what in self._blind_to - set(now):
            self.lasts(what, None, ended=f"{what}: can be judged again, or is gone")
        for what, text in now.items():
            self.lasts(what, text)
        self._blind_to = set(now)

    def _missing(self, one: ReconcileResult) -> None:
        """An interface that comes and goes, as a tunnel does, is no mistake; a misspelt one is."""
        now = one.missing_interfaces
        for rule in self._lacking - set(now):
            self.lasts(
                f"interfaces of {rule}", None, ended=f"rule {rule}: its interfaces are there"
            )
        for rule, names in now.items():
            text = f"rule {rule} names what no namespace has: interface {', '.join(names)}"
            self.lasts(f"interfaces of {rule}", text, priority=NOTICE)
        self._lacking = set(now)

    def _results(self, done: Iterable[ViolationResult]) -> None:
        for number, each in enumerate(done):
            result = each.result
            told = told_of(each.violation, result.outcome)
            if number < _MOST_LINES:
                priority = _PRIORITIES.get(result.outcome, WARNING)
                self.log.line(priority, result.outcome, told)
            elif number == _MOST_LINES:
                self.log.notice(
                    f"more than {_MOST_LINES} sockets in this look; the rest is counted"
                )
            self.event(
                "socket",
                {
                    "outcome": result.outcome,
                    "reason": None if result.reason is None else result.reason.rule,
                    "rule": each.violation.rule.name,
                    "evidence": list(each.violation.evidence),
                    "record": record(each.violation.socket, ("process",)),
                },
            )

    def _findings(self, one: ReconcileResult) -> None:
        """Each socket that is protected, reported, left alone or may not be destroyed just now is
        named once, while it is so."""
        now: set[tuple[Any, ...]] = set()
        for finding in one.decision.findings:
            if finding.status not in _SAID:
                continue
            violation = finding.violation
            key = (violation.rule.name, violation.namespace, violation.key, finding.status)
            now.add(key)
            if key in self._seen or len(now) > _MOST_LINES:
                continue
            told = told_of(violation, finding.status)
            if violation.protected_by is not None:
                told["protected_by"] = violation.protected_by.rule
                told["protected_detail"] = violation.protected_by.detail
            self.log.line(NOTICE, finding.status, told)
            self.event("violation", {"status": finding.status, **told})
        self._seen = now


def _now() -> str:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return now.replace("+00:00", "Z")


def told_of(violation: Violation, outcome: str) -> dict[str, Any]:
    """One socket in a line: rule, why, which, whose, and the bytes that went with it."""
    sock = violation.socket
    held = sock.processes
    lost = outcome in outcomes.CHANGING
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
        "comm": held[0].comm if held else None,
        "pid": held[0].pid if held else None,
        "unit": held[0].unit if held else None,
        "unsent_or_unacknowledged_bytes": sock.send_queue if lost else None,
        "unread_bytes": sock.recv_queue if lost else None,
    }
