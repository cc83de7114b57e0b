# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what the engine decides, in plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..destroy.outcomes import Result
from .evaluate import Violation
from .model import Limits

# What is to be done about a violation, a closed list.
DESTROY = "destroy"
# It has not lasted for as long as its rule says.
HOLD = "hold"
# The limits say no.
LIMIT = "limit"
# What leads there was destroyed again and again.
BACK_OFF = "back_off"
PROTECTED = "protected"
# The rule only reports.
REPORTED = "reported"
# It would be destroyed, but nothing may be: the policy's mode, a pause, ...
WITHHELD = "inhibited"
# Another rule, that comes earlier, decides about the same socket.
OTHER_RULE = "other_rule"

STATUSES = (DESTROY, HOLD, LIMIT, BACK_OFF, PROTECTED, REPORTED, WITHHELD, OTHER_RULE)

# Decision.withheld of a policy whose mode is report.
REPORT_MODE = "report_mode"


class Finding(NamedTuple):
    """A violation and what is to be done about it.

    since_ms: when it was first seen. until_ms: when to look again for it; None: that says nothing.
    """

    violation: Violation
    status: str
    since_ms: int
    until_ms: int | None = None


class Excess(NamedTuple):
    """More are to be destroyed than the limits allow: so many, after so many in their time."""

    due: int
    spent: int
    limits: Limits


class Enforced(NamedTuple):
    """What became of a violation that was to be destroyed."""

    violation: Violation
    result: Result


@dataclass(frozen=True)
class Decision:
    """What follows from a pass over all namespaces.

    findings: one for each violation. excess: set where the limits hold anything back.
    withheld: why nothing is destroyed at all; None: nothing withholds it.
    next_ms: look again then at the latest, even if nothing happens; None: there is no need.
    untracked: violations beyond what can be kept in mind; they live.
    """

    findings: tuple[Finding, ...] = ()
    excess: Excess | None = None
    withheld: str | None = None
    next_ms: int | None = None
    untracked: int = 0

    @property
    def destroy(self) -> tuple[Violation, ...]:
        return tuple(each.violation for each in self.findings if each.status == DESTROY)

    def count(self, status: str) -> int:
        return sum(each.status == status for each in self.findings)
