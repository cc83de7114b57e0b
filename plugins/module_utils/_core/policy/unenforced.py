# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Unenforced violations: those whose hold has expired, and that still are not destroyed.

A socket that the guard protects because of its kind, or because a selector asks for it, is an
exception to the rules and not counted. A socket that the guard protects because of its owner is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..destroy import outcomes
from ..guard import reason as guard
from .findings import BACK_OFF, LIMIT, PROTECTED, Decision, Finding, ViolationResult

# A violation counts as unenforced when it is protected, or in backoff, for longer than this.
PROTECTED_AFTER_MS = 300_000
BACK_OFF_AFTER_MS = 60_000

# Outcomes of an attempt to destroy a socket that still exists.
FAILED = (
    outcomes.SURVIVED,
    outcomes.BUSY,
    outcomes.NOT_PERMITTED,
    outcomes.UNSUPPORTED_PROTOCOL,
    outcomes.KERNEL_WITHOUT_DESTROY,
    outcomes.KERNEL_DEFECT,
)

# Why a violation is unenforced, a closed list.
REASONS = (PROTECTED, BACK_OFF, LIMIT, *FAILED)

# Rules of the guard that make exceptions: they depend on the socket itself, or are asked for.
_EXCEPTIONS = frozenset({guard.LOOPBACK, guard.LISTENERS, guard.UNCONNECTED, guard.SELECTOR})


def count_unenforced(
    decision: Decision, results: Iterable[ViolationResult], now_ms: int
) -> dict[str, Counter[str]]:
    """Count unenforced violations by rule and reason.

    results: the outcomes of decision.to_destroy. Empty if something inhibits the whole decision.
    """
    found: dict[str, Counter[str]] = {}
    if decision.inhibited_by is not None:
        return found
    for violation, result in results:
        if result.outcome in FAILED:
            found.setdefault(violation.rule.name, Counter())[result.outcome] += 1
    for finding in decision.findings:
        reason = _reason(finding, now_ms)
        if reason is not None:
            found.setdefault(finding.violation.rule.name, Counter())[reason] += 1
    return found


def _reason(finding: Finding, now_ms: int) -> str | None:
    """Why a violation that no attempt was made on is unenforced; None: it is not."""
    violation = finding.violation
    due_ms = now_ms - finding.since_ms - violation.rule.hold_ms
    if finding.status == PROTECTED and violation.protected_by is not None:
        exception = violation.protected_by.rule in _EXCEPTIONS
        return None if exception or due_ms <= PROTECTED_AFTER_MS else PROTECTED
    if finding.status == BACK_OFF:
        if finding.failed is not None:
            return finding.failed
        return BACK_OFF if due_ms > BACK_OFF_AFTER_MS else None
    return LIMIT if finding.status == LIMIT else None
