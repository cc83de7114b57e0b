# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Poll a condition instead of waiting for a fixed time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# An emulated processor is many times slower (tests/kernel_matrix/guest/init).
_TIMEOUT_FACTOR = 6 if os.environ.get("LINUXNET_SOCKETS_EMULATED") else 1


def until(condition: Callable[[], T], description: str, *, seconds: float = 5.0) -> T:
    """Call the condition until its result is truthy, and return that result.

    Raises AssertionError with the description and the last result after the timeout.
    """
    seconds *= _TIMEOUT_FACTOR
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{description}: not in {seconds} s; last result: {result!r}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
