# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clock, suspend and persistent disk of a guest of tools/test-kernels.

Functions that set the clock or suspend the machine first check that it is such a guest. If that is
not certain, they raise NotOursError and change nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel_matrix import ours

DAY_S = 86_400.0
# A directory on a disk that persists across reboots (tests/kernel_matrix/guest/init).
LASTING = Path("/lasting")
_POWER = Path("/sys/power")
_ALARM = Path("/sys/class/rtc/rtc0/wakealarm")


class NotOursError(Exception):
    """This machine is not a guest, so tests must not change its clock or power state."""


def _must_be_ours() -> None:
    """Raise NotOursError on any other machine. Not an assert, which python -O removes."""
    reason = ours.not_ours()
    if reason is not None:
        raise NotOursError(reason)


def only_in_a_guest() -> None:
    """Skip the test on any other machine."""
    reason = ours.not_ours()
    if reason is not None:
        pytest.skip(reason)


def lasting_disk(start: int) -> Path:
    """Skip the test without a persistent disk, or if this is not start number `start`."""
    only_in_a_guest()
    if not LASTING.is_mount():
        pytest.skip("this guest has no disk that outlasts it")
    if ours.start() != start:
        pytest.skip(f"for the start number {start} of a guest")
    return LASTING


def boottime() -> float:
    """Seconds since the boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _asleep_s() -> float:
    """Seconds suspended since the boot (clock_gettime(2))."""
    return boottime() - time.monotonic()


def step(seconds: float) -> None:
    """Set CLOCK_REALTIME forward or back. Raises NotOursError."""
    _must_be_ours()
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


@contextlib.contextmanager
def clock_set_right() -> Iterator[None]:
    """Restore the clock at the end, to the time that it would show without changes.

    Raises NotOursError.
    """
    _must_be_ours()
    right = time.time() - boottime()
    try:
        yield
    finally:
        step(right + boottime() - time.time())


def cannot_sleep() -> str | None:
    """Why the guest cannot suspend to RAM, or None if it can."""
    try:
        if "mem" not in (_POWER / "state").read_text().split():
            return "this kernel cannot suspend to memory"
        if "deep" not in (_POWER / "mem_sleep").read_text():
            return "this machine cannot suspend to memory, but only idle"
    except OSError as error:
        return f"this kernel has no way to suspend: {error}"
    return None if _ALARM.exists() else "this machine has no clock that could wake it"


def sleep(seconds: int) -> float:
    """Suspend to RAM until an alarm of the clock. Return for how many seconds, by the kernel.

    Raises NotOursError.
    """
    _must_be_ours()
    before = _asleep_s()
    (_POWER / "mem_sleep").write_text("deep")
    _ALARM.write_text("0")
    _ALARM.write_text(f"+{seconds}")
    (_POWER / "state").write_text("mem")
    return _asleep_s() - before
