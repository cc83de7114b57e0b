# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Token bucket for CPU time: a burst is free, the sustained load is limited.

Pure: every time is an argument.
"""

from __future__ import annotations

# Seconds of CPU time per second, and the most that is saved up.
RATE = 0.1
BURST_S = 1.0


class TokenBucket:
    """CPU time that may be used, in seconds. All times are seconds of a monotonic clock.

    rate: CPU time added per second. burst_s: the content of a full bucket; a new one is full. Work
    that must not wait may overdraw the bucket, by burst_s at most: further CPU time is not charged,
    so that the bucket is never in debt for longer than burst_s / rate.
    """

    def __init__(self, *, rate: float = RATE, burst_s: float = BURST_S) -> None:
        self._rate = rate
        self._burst_s = burst_s
        self._balance_s = burst_s
        self._at: float | None = None

    def balance_s(self, now: float) -> float:
        """Return the content of the bucket; negative: it is overdrawn."""
        if self._at is None:
            return self._balance_s
        added_s = self._rate * max(0.0, now - self._at)
        return min(self._burst_s, self._balance_s + added_s)

    def charge(self, now: float, cpu_s: float) -> None:
        """Take out CPU time that was used."""
        self._balance_s = max(-self._burst_s, self.balance_s(now) - cpu_s)
        self._at = now

    def until_s(self, now: float, level_s: float) -> float:
        """Return the seconds until the bucket contains level_s, if nothing is charged before."""
        return max(0.0, (level_s - self.balance_s(now)) / self._rate)
