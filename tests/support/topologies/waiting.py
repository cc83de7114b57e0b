# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for the kernel: for what is true soon, not for a fixed time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# An emulated processor takes many times as long for everything (tests/kernel_matrix/guest/init).
_PATIENCE = 6 if os.environ.get("LINUXNET_SOCKETS_EMULATED") else 1


def until(look: Callable[[], T], what: str, *, seconds: float = 5.0) -> T:
    """Look again until the answer is true in Python's sense; that answer.

    Raises AssertionError, with what was waited for and the last answer, when the time is over.
    """
    seconds *= _PATIENCE
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not in {seconds} s; last seen: {answer!r}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
