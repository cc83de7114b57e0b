# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clock, suspend and persistent disk of a guest of tools/test-kernels.

Functions that set the clock or suspend the machine first check that it is such a guest. If that is
not certain, they raise NotAGuestError and change nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel_matrix import guest_token

DAY_S = 86_400.0
# A directory on a disk that persists across reboots (tests/kernel_matrix/guest/init).
PERSISTENT = Path("/persistent")
_POWER = Path("/sys/power")
_ALARM = Path("/sys/class/rtc/rtc0/wakealarm")


class NotAGuestError(Exception):
    """This machine is not a guest, so tests must not change its clock or power state."""


def _check_guest() -> None:
    """Raise NotAGuestError on any other machine. Not an assert, which python -O removes."""
    reason = guest_token.not_a_guest()
    if reason is not None:
        raise NotAGuestError(reason)


def require_guest() -> None:
    """Skip the test on any other machine."""
    reason = guest_token.not_a_guest()
    if reason is not None:
        pytest.skip(reason)


def persistent_disk(start: int) -> Path:
    """Skip the test without a persistent disk, or if this is not start number `start`."""
    require_guest()
    if not PERSISTENT.is_mount():
        pytest.skip("this guest has no persistent disk")
    if guest_token.start() != start:
        pytest.skip(f"requires start number {start} of a guest")
    return PERSISTENT


def boottime() -> float:
    """Seconds since boot, including suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _suspended_s() -> float:
    """Seconds suspended since the boot (clock_gettime(2))."""
    return boottime() - time.monotonic()


def step(seconds: float) -> None:
    """Set CLOCK_REALTIME forward or back. Raises NotAGuestError."""
    _check_guest()
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


@contextlib.contextmanager
def restored_clock() -> Iterator[None]:
    """Restore the clock at the end, to the time that it would show without changes.

    Raises NotAGuestError.
    """
    _check_guest()
    right = time.time() - boottime()
    try:
        yield
    finally:
        step(right + boottime() - time.time())


def why_no_suspend() -> str | None:
    """Reason why the guest cannot suspend to RAM, or None if it can."""
    try:
        if "mem" not in (_POWER / "state").read_text().split():
            return "this kernel cannot suspend to memory"
        if "deep" not in (_POWER / "mem_sleep").read_text():
            return "this machine supports only suspend-to-idle"
    except OSError as error:
        return f"this kernel cannot suspend: {error}"
    return None if _ALARM.exists() else "this machine has no wake-up alarm"


def sleep(seconds: int) -> float:
    """Suspend to RAM until the RTC alarm. Returns the suspended seconds that the kernel counts.

    Raises NotAGuestError.
    """
    _check_guest()
    before = _suspended_s()
    (_POWER / "mem_sleep").write_text("deep")
    _ALARM.write_text("0")
    _ALARM.write_text(f"+{seconds}")
    (_POWER / "state").write_text("mem")
    return _suspended_s() - before
