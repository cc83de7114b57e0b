# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Results of a reconcile pass as plain values: violations, evaluations and decisions.

Nothing here makes a kernel call, so decide.py can work on these values without evaluate.py.
Times are milliseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..destroy.outcomes import Result
from ..errors import SocketsError
from ..guard.reason import Reason
from ..host.namespaces import Identity, Namespace
from ..netlink.links import Link
from ..sockets.socket import Socket
from .backoff import Destination
from .budget import BudgetExceeded
from .holds import Key
from .model import Rule

# The status of a violation, a closed list.
DESTROY = "destroy"
# The hold of its rule has not expired.
HOLD = "hold"
# The budget does not allow it.
LIMIT = "limit"
# Connections to the same destination were destroyed again and again.
BACK_OFF = "back_off"
PROTECTED = "protected"
# The action of its rule is report.
REPORTED = "reported"
# Due, but nothing may be destroyed now: mode report, a pause, an unconfirmed policy.
INHIBITED = "inhibited"
# An earlier rule decides about the same socket.
OTHER_RULE = "other_rule"

STATUSES = (DESTROY, HOLD, LIMIT, BACK_OFF, PROTECTED, REPORTED, INHIBITED, OTHER_RULE)

# Decision.inhibited_by of a policy in mode report.
REPORT_MODE = "report_mode"


class Violation(NamedTuple):
    """A socket that violates a rule.

    evidence: the verdicts that the rule matched ("stranded: address_gone"); for a rule without
    verdicts its condition ("while: interface wg0 is up"). guard_checked: whether the guard was
    evaluated. protected_by: why the guard protects the socket; None: it does not.
    """

    rule: Rule
    socket: Socket
    evidence: tuple[str, ...] = ()
    guard_checked: bool = False
    protected_by: Reason | None = None

    @property
    def namespace(self) -> Identity:
        return self.socket.snapshot.namespace.identity

    @property
    def key(self) -> Key:
        """Identifies the socket within its namespace."""
        message = self.socket.message
        return message.protocol, message.cookie, message.sport, message.dport, message.dst

    @property
    def identity(self) -> tuple[Identity, Key]:
        """Identifies the socket on the host."""
        return self.namespace, self.key

    @property
    def destination(self) -> Destination:
        sock = self.socket
        return Destination(
            self.namespace,
            sock.protocol,
            sock.local_address,
            sock.remote_address,
            sock.remote_port,
            sock.uid,
        )


class Evaluation(NamedTuple):
    """All rules evaluated in one namespace, on one snapshot.

    violations: in the order of the rules. conditions: the value of each rule's `while`, true for a
    rule without one. failed: errors by rule; nothing is known about the violations of these rules.
    missing: by rule, the interfaces that do not exist. unlisted: protocols that a rule selects but
    the kernel cannot list. interfaces: the existing ones, if the policy names any. packet_marks:
    `rerouted` is unknown, because rules match marks that the packet filter may set. links,
    addresses: of the namespace, as far as the policy depends on them.
    """

    namespace: Namespace
    began_ms: int
    ended_ms: int
    violations: tuple[Violation, ...] = ()
    conditions: dict[str, bool | None] = {}  # noqa: RUF012 - never modified
    failed: dict[str, SocketsError] = {}  # noqa: RUF012 - never modified
    missing: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - never modified
    unlisted: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()
    packet_marks: bool = False
    links: tuple[Link, ...] = ()
    addresses: frozenset[bytes] = frozenset()


class Finding(NamedTuple):
    """A violation and its status.

    since_ms: when it was first seen. until_ms: when its status may change; None: not by time alone.
    failed: for a socket in backoff, the outcome of the last attempt to destroy it; None: there was
    none.
    """

    violation: Violation
    status: str
    since_ms: int
    until_ms: int | None = None
    failed: str | None = None


class ViolationResult(NamedTuple):
    """The outcome of a violation that was to be destroyed."""

    violation: Violation
    result: Result


@dataclass(frozen=True)
class Decision:
    """The decision of one reconcile pass over all namespaces.

    findings: one for each violation. budget_exceeded: the rules and users of the violations that
    the budget excludes, and the total if that excludes any; empty: none is excluded.
    inhibited_by: why nothing is destroyed at all; None: nothing inhibits it. next_pass_ms: run the
    next pass then at the latest, even without an event; None: only an event needs one. untracked:
    violations beyond the number that Holds tracks, which are not destroyed.
    """

    findings: tuple[Finding, ...] = ()
    budget_exceeded: tuple[BudgetExceeded, ...] = ()
    inhibited_by: str | None = None
    next_pass_ms: int | None = None
    untracked: int = 0

    @property
    def to_destroy(self) -> tuple[Violation, ...]:
        return tuple(finding.violation for finding in self.findings if finding.status == DESTROY)

    def count(self, status: str) -> int:
        return sum(finding.status == status for finding in self.findings)
