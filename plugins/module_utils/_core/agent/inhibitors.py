# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Inhibitors: reasons to destroy nothing (a pause, an expired trial)."""

from __future__ import annotations

from collections.abc import Callable

from .clocks import Clocks
from .controls import read_pause, read_trial
from .reporter import Reporter
from .state import PAUSED, UNCONFIRMED, AgentState


class Inhibitors:
    """Reads the pause and the trial from the state directory into the agent state."""

    def __init__(
        self, directory: str, state: AgentState, reporter: Reporter, clocks: Callable[[], Clocks]
    ) -> None:
        self._directory = directory
        self._state = state
        self._reporter = reporter
        self._clocks = clocks

    def refresh(self) -> bool:
        """Read both files again; return whether they or `active` changed."""
        state = self._state
        before = self.active, state.pause, state.trial
        state.controls_read_at = self._clocks()
        state.pause = read_pause(self._directory, state.controls_read_at)
        state.trial = read_trial(self._directory)
        self._reporter.report_controls(state)
        return before != (self.active, state.pause, state.trial)

    @property
    def active(self) -> str | None:
        """The reason to destroy nothing; None if there is none."""
        if self._state.pause is not None:
            return PAUSED
        return UNCONFIRMED if self._state.trial_expired() else None

    def next_expiry_s(self) -> float | None:
        """Return the seconds until the pause or the running trial ends; None: neither ends."""
        pause, trial = self._state.pause, self._state.active_trial()
        ends = [None if pause is None else pause.until]
        if self.active is None:
            ends.append(None if trial is None else trial.until)
        now = self._clocks()
        return min((end.remaining_s(now) for end in ends if end is not None), default=None)
