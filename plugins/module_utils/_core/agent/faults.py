# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Tracks operations that may fail without stopping the agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import SocketsError
from ..messages import describe, os_error_text
from .reporter import Reporter
from .state import AgentState

T = TypeVar("T")


class FaultTracker:
    """Reports the first failure of an operation and its recovery.

    An operation is a verb phrase, such as "write status.json". In between, the failure is in
    AgentState.faults.
    """

    def __init__(self, state: AgentState, reporter: Reporter) -> None:
        self._state = state
        self._reporter = reporter

    def run(self, operation: str, work: Callable[[], T]) -> T | None:
        """Return the result of the work; None if it raised OSError or SocketsError."""
        try:
            result = work()
        except OSError as error:
            self.set(operation, f"cannot {operation}: {os_error_text(error)}")
        except SocketsError as error:
            self.set(operation, f"cannot {operation}: {describe(error)}")
        else:
            self.set(operation, None, recovered=f"recovered: {operation}")
            return result
        return None

    def set(self, operation: str, text: str | None, *, recovered: str = "") -> None:
        """Set or clear a fault. text: the error; None: there is none."""
        if text is None:
            self._state.faults.pop(operation, None)
        else:
            self._state.faults[operation] = text
        self._reporter.set_condition(operation, text, ended=recovered)
