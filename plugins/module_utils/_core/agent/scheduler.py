# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: when the agent looks again. Pure: every time is an argument."""

from __future__ import annotations

# A change of an address comes with changes of routes: wait for the rest of them.
SETTLE_S = 0.001
# Looks that are so much further apart than two regular ones: it hung, or was stopped, in between.
_LONGEST_GAP_S = 60.0
# After it did anything the agent rests for so many times the processor time that it took: whatever
# storm of events, signals or visitors there is, it takes a tenth of a core; of events along with
# policies that are read anew, two.
REST = 9


def longest_gap_s(resync_s: float) -> float:
    """What can lie between two looks of an agent that works."""
    return 2 * resync_s + _LONGEST_GAP_S


class Cadence:
    """Seconds, of a clock that only goes forward.

    resync_s: look at least so often, whether anything was heard or not. A look is due when an event
    was heard, when somebody asked for one by a time, or when resync_s are over; and never before
    it has rested.
    """

    def __init__(self, resync_s: float) -> None:
        self._resync_s = resync_s
        self._wanted: float | None = None
        self._rest_until: float | None = None
        self._read_from: float | None = None

    def heard(self, now: float) -> None:
        """Something may have changed."""
        self.want(now + SETTLE_S)

    def want(self, when: float) -> None:
        """Look at this time at the latest."""
        self._wanted = when if self._wanted is None else min(self._wanted, when)

    def looked(self, ended: float) -> None:
        """A look is over; what is wanted is wanted anew."""
        self._wanted = ended + self._resync_s

    def worked(self, ended: float, processor_s: float, reading_s: float = 0.0) -> None:
        """Whatever it did, it took so much processor time, and is over.

        reading_s: as much of it went into reading a policy. It is the next reading that waits for
        this, and no look: a policy that is long to read does not make the agent deaf.
        """
        self._rest_until = ended + REST * (processor_s - reading_s)
        if reading_s:
            self._read_from = ended + REST * processor_s

    def listens(self, now: float) -> bool:
        """Whether anything could change when the next look is: not while it rests."""
        return self._rest_until is None or now >= self._rest_until

    def wait_s(self, now: float) -> float:
        """How long till the next look; 0: now."""
        if self._wanted is None:
            return 0.0
        due = self._wanted if self._rest_until is None else max(self._wanted, self._rest_until)
        return max(0.0, due - now)

    def rest_s(self, now: float) -> float:
        """How long till it listens again."""
        return 0.0 if self._rest_until is None else max(0.0, self._rest_until - now)

    def reading_rest_s(self, now: float) -> float:
        """How long till it may read a policy again."""
        return 0.0 if self._read_from is None else max(0.0, self._read_from - now)
