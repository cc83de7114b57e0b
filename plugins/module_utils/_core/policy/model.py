# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: a policy as plain values, and its digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from ..errors import PolicyWarning
from ..guard.options import Guard
from ..selector.parse import Selector
from .conditions import Condition

VERSION = 1

# mode: destroy what violates, or look and tell.
ENFORCE = "enforce"
REPORT = "report"
MODES = (ENFORCE, REPORT)

# action of a rule: the same, for its violations alone.
DESTROY = "destroy"
ACTIONS = (DESTROY, REPORT)

# on_excess: of more violations than may be destroyed none is, or as many as may be, oldest first.
REFUSE = "refuse"
PACE = "pace"
EXCESSES = (REFUSE, PACE)

DEFAULT_HOLD_MS = 2_000
DEFAULT_PER_MS = 60_000
SHORTEST_PER_MS = 1_000
# Of a hold, and of the time for which limits count.
LONGEST_MS = 24 * 3_600_000
MOST_SOCKETS = 10**9
MOST_RULES = 1_000


@dataclass(frozen=True)
class Limits:
    """At most so many sockets are destroyed within any so many milliseconds."""

    max_sockets: int
    per_ms: int = DEFAULT_PER_MS
    on_excess: str = REFUSE


@dataclass(frozen=True)
class Rule:
    """Sockets that must not exist.

    condition: while what holds of the network; None: always. hold_ms: for how long a socket has to
    violate it without a break. interfaces: every name of an interface that the rule mentions.
    """

    name: str
    match: Selector
    condition: Condition | None = None
    hold_ms: int = DEFAULT_HOLD_MS
    action: str = DESTROY
    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """What must be true of the sockets of some namespaces.

    namespaces: names as namespaces.resolve takes them. needs: on which kinds of facts the rules
    depend, out of links, addresses, routes and rules. digest: of the document as it was given.
    """

    mode: str
    namespaces: tuple[str, ...]
    limits: Limits
    guard: Guard
    rules: tuple[Rule, ...]
    needs: frozenset[str]
    digest: str
    warnings: tuple[PolicyWarning, ...] = ()
    version: int = VERSION

    @property
    def longest_hold_ms(self) -> int:
        return max(rule.hold_ms for rule in self.rules)

    @property
    def addresses(self) -> frozenset[bytes]:
        """Those that the rules' conditions name, of 4 or 16 bytes."""
        conditions = [rule.condition for rule in self.rules if rule.condition is not None]
        return frozenset(
            fact.address for each in conditions for fact in each.facts() if fact.address
        )

    def without_holds(self) -> Policy:
        """The same, but that nothing is waited for."""
        return replace(self, rules=tuple(replace(rule, hold_ms=0) for rule in self.rules))


def digest(document: object) -> str:
    """sha256 of the canonical JSON of a document, in hex: keys sorted, no blanks, ASCII only.

    Raises ValueError and TypeError for what JSON cannot say.
    """
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()
