# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The interval between two passes of a namespace without events.

No event reports a new connection. While new connections violate rules, the agent looks more often,
with CPU time that is to spare. Pure.
"""

from __future__ import annotations

from ..policy import findings
from ..policy.reconcile import ReconcileResult

# The shortest interval, in seconds, and its growth with each pass without new violations: after 10
# quiet seconds it is 2 s, after 5 quiet minutes 30 s.
MIN_INTERVAL_S = 1.0
GROWTH = 1.1

# More passes do not help against violations that the agent does not destroy.
_COUNTED = frozenset({findings.DESTROY, findings.HOLD, findings.LIMIT, findings.BACK_OFF})


def next_interval_s(interval_s: float, resync_s: float, *, appeared: bool) -> float:
    """Return the interval after a pass, in seconds.

    interval_s: the one before. resync_s: the longest. appeared: the pass found new violations.
    """
    if appeared:
        return min(MIN_INTERVAL_S, resync_s)
    return min(GROWTH * interval_s, resync_s)


def violations_appeared(result: ReconcileResult) -> bool:
    """Return whether sockets that may be destroyed violate a rule for the first time."""
    return result.decision.inhibited_by is None and any(
        finding.since_ms >= result.began_ms and finding.status in _COUNTED
        for finding in result.decision.findings
    )
