# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: moments in the future that outlive a restart, a reboot, a set clock.

Two clocks are asked. The wall clock goes on over a reboot, but can be set; CLOCK_BOOTTIME cannot be
set and counts what the machine slept, but begins anew with each boot.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..host.host import read_boot_id


class Clocks(NamedTuple):
    """One moment: seconds since the epoch, seconds since boot (CLOCK_BOOTTIME), and which boot."""

    wall_s: float
    boottime_s: float
    boot_id: str


def read_clocks(proc: str) -> Clocks:
    """Now. Raises OSError."""
    return clocks_of(proc)()


def clocks_of(proc: str) -> Callable[[], Clocks]:
    """Tells what time it is, as often as it is asked. Raises OSError; what it returns does not."""
    boot_id = read_boot_id(proc)
    return lambda: Clocks(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot_id)


class Deadline(NamedTuple):
    """A moment as both clocks will show it, if nobody sets one and nobody reboots.

    span_s: how far ahead it was when it was made.
    """

    wall_s: float
    boottime_s: float
    boot_id: str
    span_s: float = math.inf

    @classmethod
    def after(cls, now: Clocks, seconds: float) -> Deadline:
        return cls(now.wall_s + seconds, now.boottime_s + seconds, now.boot_id, seconds)

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Deadline:
        """What written() gave. Raises KeyError, TypeError, ValueError, OverflowError."""
        wall_s, boottime_s = float(value["wall_s"]), float(value["boottime_s"])
        # Agents before this one did not write it.
        span_s = float(value.get("span_s", math.inf))
        if not (math.isfinite(wall_s) and math.isfinite(boottime_s)) or math.isnan(span_s):
            raise ValueError("no moment of any clock")
        return cls(wall_s, boottime_s, str(value["boot_id"]), span_s)

    def written(self) -> dict[str, Any]:
        return self._asdict()

    def surely_passed(self, now: Clocks) -> bool:
        """The clock that knows best says so: for what must not end too early."""
        if now.boot_id == self.boot_id:
            return now.boottime_s >= self.boottime_s
        return now.wall_s >= self.wall_s

    def may_have_passed(self, now: Clocks) -> bool:
        """One clock says so: for what must not last too long. A new boot has taken as long as the
        whole time at the latest when it is as old as that."""
        ahead = self.boottime_s if now.boot_id == self.boot_id else self.span_s
        return now.wall_s >= self.wall_s or now.boottime_s >= ahead

    def left_s(self, now: Clocks) -> float:
        """Seconds to go, at most; by the clock that cannot be set, in the same boot."""
        if now.boot_id == self.boot_id:
            return max(0.0, self.boottime_s - now.boottime_s)
        return max(0.0, self.wall_s - now.wall_s)
