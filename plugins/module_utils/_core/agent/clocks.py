# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Deadlines that survive a restart, a reboot and a changed wall clock.

A deadline uses two clocks. The wall clock continues over a reboot, but can be set. CLOCK_BOOTTIME
cannot be set and includes suspend, but restarts at each boot.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..host.host import read_boot_id


class Clocks(NamedTuple):
    """One moment: seconds since the epoch, seconds since boot (CLOCK_BOOTTIME), and the boot."""

    wall_s: float
    boottime_s: float
    boot_id: str


def read_clocks(proc: str) -> Clocks:
    """Read the clocks once. Raises OSError."""
    return clock_reader(proc)()


def clock_reader(proc: str) -> Callable[[], Clocks]:
    """Return a function that reads the clocks and does not raise. Raises OSError itself."""
    boot_id = read_boot_id(proc)
    return lambda: Clocks(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot_id)


class Deadline(NamedTuple):
    """A moment on both clocks, unless one is set or the host reboots.

    span_s: the seconds from its creation to the deadline.
    """

    wall_s: float
    boottime_s: float
    boot_id: str
    span_s: float = math.inf

    @classmethod
    def after(cls, now: Clocks, seconds: float) -> Deadline:
        return cls(now.wall_s + seconds, now.boottime_s + seconds, now.boot_id, seconds)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Deadline:
        """Parse the result of to_dict. Raises KeyError, TypeError, ValueError, OverflowError."""
        wall_s, boottime_s = float(value["wall_s"]), float(value["boottime_s"])
        # Earlier versions did not write span_s.
        span_s = float(value.get("span_s", math.inf))
        if not (math.isfinite(wall_s) and math.isfinite(boottime_s)) or math.isnan(span_s):
            raise ValueError("not a finite time")
        return cls(wall_s, boottime_s, str(value["boot_id"]), span_s)

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()

    def certainly_expired(self, now: Clocks) -> bool:
        """Return whether the most reliable clock has reached it.

        Use it for what must not end early, such as a pause.
        """
        if now.boot_id == self.boot_id:
            return now.boottime_s >= self.boottime_s
        return now.wall_s >= self.wall_s

    def possibly_expired(self, now: Clocks) -> bool:
        """Return whether any clock has reached it.

        Use it for what must not last too long, such as a trial. After a reboot, an uptime of
        span_s proves that the deadline has passed.
        """
        boottime_s = self.boottime_s if now.boot_id == self.boot_id else self.span_s
        return now.wall_s >= self.wall_s or now.boottime_s >= boottime_s

    def remaining_s(self, now: Clocks) -> float:
        """Return the remaining seconds: by CLOCK_BOOTTIME, or after a reboot by the wall clock."""
        if now.boot_id == self.boot_id:
            return max(0.0, self.boottime_s - now.boottime_s)
        return max(0.0, self.wall_s - now.wall_s)
