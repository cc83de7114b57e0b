# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Policy, rules and limits as plain values, with rule equality and the policy digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, replace

from ..errors import PolicyWarning
from ..guard.options import Guard
from ..selector.parse import Selector
from ..selector.predicates.verdict import StrandedBy
from ..selector.tree import Predicate
from ..sockets.needs import RTNETLINK_GROUPS, Need
from .conditions import PRESENT, Condition

VERSION = 1

# `mode` of a policy: destroy the sockets that violate it, or report them only.
ENFORCE = "enforce"
REPORT = "report"
MODES = (ENFORCE, REPORT)

# `action` of a rule. REPORT is the same word as in `mode`, for one rule.
DESTROY = "destroy"
ACTIONS = (DESTROY, REPORT)

# `on_excess` of the limits: destroy no socket, or as many as the budget allows, oldest first.
REFUSE = "refuse"
PACE = "pace"
ON_EXCESS = (REFUSE, PACE)

# `scope` of the limits: count the sockets of each rule and user, or all together.
RULE_AND_USER = "rule_and_user"
TOTAL = "total"
SCOPES = (RULE_AND_USER, TOTAL)

# A name of destroy.engines.registry. It needs no permission to trace other processes.
DEFAULT_ENGINE = "netlink"
DEFAULT_HOLD_MS = 2_000
DEFAULT_PER_MS = 60_000
MIN_PER_MS = 1_000
# Upper bound of `hold` and of `limits.per`.
MAX_DURATION_MS = 24 * 3_600_000
# Upper bound of `limits.max_sockets` and of `limits.total`.
MAX_SOCKETS = 10**9
# The default of `limits.total` is `max_sockets` times this number, or times twice the number of
# rules if that is more. One user, who can use up `max_sockets` of each rule, never reaches it.
TOTAL_FACTOR = 10
MAX_RULES = 1_000


@dataclass(frozen=True)
class Limits:
    """How many sockets may be destroyed within any `per_ms` milliseconds.

    max_sockets: for each rule and user, or with scope TOTAL for all together. total: for all
    together; None: the default for up to five rules.
    """

    max_sockets: int
    per_ms: int = DEFAULT_PER_MS
    on_excess: str = REFUSE
    scope: str = RULE_AND_USER
    total: int | None = None

    @property
    def max_total(self) -> int:
        """How many sockets may be destroyed over all rules and users."""
        if self.scope == TOTAL:
            return self.max_sockets
        if self.total is not None:
            return self.total
        return default_total(self.max_sockets, 1)


def default_total(max_sockets: int, rules: int) -> int:
    """Return the default of `limits.total`. rules: how many rules destroy sockets."""
    return min(MAX_SOCKETS, max_sockets * max(TOTAL_FACTOR, 2 * rules))


@dataclass(frozen=True)
class Rule:
    """Sockets that must not exist.

    condition: the rule applies while this is true; None: always. hold_ms: how long a socket must
    violate the rule without interruption. interfaces: names of all interfaces in the rule.
    """

    name: str
    match: Selector
    condition: Condition | None = None
    hold_ms: int = DEFAULT_HOLD_MS
    action: str = DESTROY
    interfaces: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[Need]:
        """Facts that the rule depends on and whose changes rtnetlink reports."""
        found = self.match.needs & RTNETLINK_GROUPS.keys()
        return found if self.condition is None else found | self.condition.needs

    @property
    def optional_interfaces(self) -> frozenset[str]:
        """The interfaces that the condition asks to be present, so that they may well be absent."""
        facts = () if self.condition is None else self.condition.facts()
        return frozenset(
            fact.interface for fact in facts if fact.kind == PRESENT and fact.interface is not None
        )


@dataclass(frozen=True)
class Policy:
    """Rules for the sockets of some namespaces, and the limits of their enforcement.

    engine: a name of engines.registry. namespaces: names as namespaces.resolve accepts them. needs:
    the network data that the rules depend on, out of links, addresses, routes and rules. digest: of
    the document as given.
    """

    mode: str
    namespaces: tuple[str, ...]
    limits: Limits
    guard: Guard
    rules: tuple[Rule, ...]
    needs: frozenset[Need]
    digest: str
    warnings: tuple[PolicyWarning, ...] = ()
    engine: str = DEFAULT_ENGINE
    version: int = VERSION

    @property
    def longest_hold_ms(self) -> int:
        return max(rule.hold_ms for rule in self.rules)

    def without_holds(self) -> Policy:
        """Return this policy with every hold set to 0."""
        return replace(self, rules=tuple(replace(rule, hold_ms=0) for rule in self.rules))


def digest(document: object) -> str:
    """Return the sha256 of the canonical JSON of a document, in hex.

    Canonical: sorted keys, no whitespace, ASCII only. Raises ValueError or TypeError for values
    that JSON cannot represent.
    """
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


# The attribute that holds the position of a predicate in the document.
_POSITION = "path"


def rules_equal(rule: Rule, other: Rule) -> bool:
    """Whether two rules have the same name, match, condition, hold and action.

    Compares resolved values, so a user name that resolves to another uid makes a difference.
    Ignores the position in the document. Values that cannot be compared count as different.
    """
    # Iterative: a document may nest deeper than Python's recursion limit.
    pending: list[tuple[object, object]] = [(rule, other)]
    while pending:
        left, right = pending.pop()
        if type(left) is not type(right):
            return False
        left_parts, right_parts = _parts(left), _parts(right)
        if left_parts is None or right_parts is None:
            if left != right:
                return False
        elif list(left_parts) != list(right_parts):
            return False
        else:
            pending += [(left_parts[key], right_parts[key]) for key in left_parts]
    return True


def _parts(value: object) -> dict[object, object] | None:
    """Components of a value to compare one by one; None: compare it with ==."""
    if isinstance(value, Selector):
        # The other attributes derive from the root, or are caches.
        return {"root": value.root}
    if isinstance(value, Predicate):
        return {key: part for key, part in sorted(vars(value).items()) if key != _POSITION}
    if isinstance(value, StrandedBy):
        return {key: part for key, part in value._asdict().items() if key != _POSITION}
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None
