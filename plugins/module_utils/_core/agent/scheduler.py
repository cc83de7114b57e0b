# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""When to run the next reconcile pass: debounce, resync and the CPU limit.

Pure: every time is an argument.
"""

from __future__ import annotations

# The delay after an event. An address change comes with several route changes.
DEBOUNCE_S = 0.001
# The extra time between two passes after which the agent must have been stopped or blocked.
_MAX_DELAY_S = 60.0
# The agent sleeps this many times the CPU time that it used, so that no flood of events, signals
# or clients costs more than a tenth of a core, or two tenths with policy reloads.
COOLDOWN_FACTOR = 9


def max_pass_gap_s(resync_s: float) -> float:
    """Return the longest time between two passes of a working agent, in seconds."""
    return 2 * resync_s + _MAX_DELAY_S


class Scheduler:
    """Computes the time of the next pass. All times are seconds of a monotonic clock.

    resync_s: the interval between two passes without events. A pass is due after an event, at a
    scheduled time, or after resync_s, but never during the cooldown.
    """

    def __init__(self, resync_s: float) -> None:
        self._resync_s = resync_s
        self._next_pass: float | None = None
        self._cooldown_end: float | None = None
        self._reload_from: float | None = None

    def on_event(self, now: float) -> None:
        """Schedule a pass for an event."""
        self.schedule_at(now + DEBOUNCE_S)

    def schedule_at(self, when: float) -> None:
        """Schedule a pass for this time at the latest."""
        self._next_pass = when if self._next_pass is None else min(self._next_pass, when)

    def on_reconciled(self, ended: float) -> None:
        """Schedule the next resync after a completed pass. Earlier requests are done."""
        self._next_pass = ended + self._resync_s

    def charge_cpu(self, ended: float, cpu_s: float, reload_cpu_s: float = 0.0) -> None:
        """Start the cooldown after an iteration that used cpu_s.

        reload_cpu_s: the part of it that a policy reload used. That part delays the next reload
        but not the next pass, so that a slow reload does not delay the handling of events.
        """
        self._cooldown_end = ended + COOLDOWN_FACTOR * (cpu_s - reload_cpu_s)
        if reload_cpu_s:
            self._reload_from = ended + COOLDOWN_FACTOR * cpu_s

    def accepts_events(self, now: float) -> bool:
        """Return whether the cooldown is over, so that an event can schedule a pass."""
        return self._cooldown_end is None or now >= self._cooldown_end

    def until_next_pass_s(self, now: float) -> float:
        """Return the seconds until the next pass; 0: it is due."""
        if self._next_pass is None:
            return 0.0
        due = self._next_pass
        if self._cooldown_end is not None:
            due = max(due, self._cooldown_end)
        return max(0.0, due - now)

    def cooldown_s(self, now: float) -> float:
        """Return the remaining cooldown in seconds."""
        return 0.0 if self._cooldown_end is None else max(0.0, self._cooldown_end - now)

    def reload_cooldown_s(self, now: float) -> float:
        """Return the seconds until the policy may be loaded again."""
        return 0.0 if self._reload_from is None else max(0.0, self._reload_from - now)
