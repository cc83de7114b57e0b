# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluations built from made-up sockets, without a kernel, for tests of the Decider."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import cast

from linuxnet_sockets.destroy.outcomes import Result
from linuxnet_sockets.errors import NetlinkError, NotEvaluated
from linuxnet_sockets.guard.reason import Reason
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.netlink.inet_diag import DiagMessage
from linuxnet_sockets.netlink.links import Link
from linuxnet_sockets.policy.decide import Decider
from linuxnet_sockets.policy.findings import (
    Decision,
    Evaluation,
    Violation,
    ViolationResult,
)
from linuxnet_sockets.policy.model import Policy, Rule
from linuxnet_sockets.sockets.slots import SlotStore
from linuxnet_sockets.sockets.snapshot import Snapshot
from linuxnet_sockets.sockets.socket import Socket

ERROR = NetlinkError("list tcp sockets", 5)


class Place(SlotStore):
    """Stands for the snapshot of a namespace."""

    def __init__(self, number: int = 1) -> None:
        super().__init__()
        self.namespace = Namespace(f"namespace-{number}", None, (4, number))


HERE = Place(1)
THERE = Place(2)


def decoded(
    cookie: int,
    place: Place = HERE,
    *,
    remote: str = "198.51.100.7",
    remote_port: int = 443,
    uid: int | None = 1000,
) -> Socket:
    """A connection; its local port depends on the cookie. uid: None: without an owner."""
    message = DiagMessage(
        protocol="tcp",
        family=socket.AF_INET,
        state=1,
        timer=0,
        retrans=0,
        sport=1024 + cookie,
        dport=remote_port,
        src=socket.inet_aton("192.0.2.1") + bytes(12),
        dst=socket.inet_aton(remote) + bytes(12),
        ifindex=0,
        cookie=cookie,
        expires=0,
        rqueue=0,
        wqueue=0,
        uid=uid or 0,
        inode=0 if uid is None else cookie,
        attributes=b"",
    )
    return Socket(message, cast(Snapshot, place))


def evaluation(
    policy: Policy,
    now_ms: int,
    violating: Mapping[str, Iterable[Socket]] | Iterable[Socket],
    place: Place = HERE,
    *,
    duration_ms: int = 0,
    protected: Mapping[int, str] | None = None,
    failed: Iterable[str] = (),
    guard_checked: bool = True,
    links: Iterable[Link] = (),
    addresses: Iterable[bytes] = (),
) -> Evaluation:
    """An evaluation that begins at `now_ms` and finds these sockets.

    violating: by rule name, or the same sockets for every rule. protected: guard rule by cookie.
    """
    rules = {rule.name: rule for rule in policy.rules}
    by_rule = (
        violating if isinstance(violating, Mapping) else {name: list(violating) for name in rules}
    )
    violations = [
        _violation(rules[name], sock, protected or {}, guard_checked=guard_checked)
        for name in rules
        for sock in by_rule.get(name, ())
    ]
    return Evaluation(
        place.namespace,
        now_ms,
        now_ms + duration_ms,
        tuple(violations),
        dict.fromkeys(rules, True),
        dict.fromkeys(failed, ERROR),
        links=tuple(links),
        addresses=frozenset(addresses),
    )


def _violation(
    rule: Rule, sock: Socket, protected: Mapping[int, str], *, guard_checked: bool
) -> Violation:
    reason = protected.get(sock.cookie)
    return Violation(rule, sock, (), guard_checked, None if reason is None else Reason(reason))


def not_evaluated(place: Place = HERE) -> NotEvaluated:
    return NotEvaluated(place.namespace.name, None, ERROR, place.namespace.identity)


def statuses(decision: Decision) -> dict[int, str]:
    """Status by cookie, for a policy of one rule."""
    return {each.violation.socket.cookie: each.status for each in decision.findings}


def to_destroy(decision: Decision) -> list[int]:
    """Cookies of the sockets to destroy."""
    return [violation.socket.cookie for violation in decision.to_destroy]


def record_outcome(
    decider: Decider, decision: Decision, now_ms: int, outcome: str = "destroyed"
) -> None:
    """Record the same outcome for every socket to destroy."""
    results = [ViolationResult(each, Result(each.socket, outcome)) for each in decision.to_destroy]
    decider.record_results(results, now_ms)


def run_pass(
    decider: Decider,
    now_ms: int,
    *evaluations: Evaluation | NotEvaluated,
    inhibited_by: str | None = None,
) -> Decision:
    """Observe, decide, and record that every socket to destroy was destroyed."""
    decider.observe(evaluations)
    decision = decider.decide(now_ms, inhibited_by=inhibited_by)
    record_outcome(decider, decision, now_ms)
    return decision
