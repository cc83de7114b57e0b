# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Writes status.json and the metrics."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from ..host.files import write_atomic
from ..text import printable_values
from .clocks import Clocks
from .faults import FaultTracker
from .metrics import collect, render
from .paths import STATUS
from .sd_notify import SystemdNotifier
from .state import AgentState
from .status import build_status, summary

# While passes follow each other without a break, the status is written this often.
_INTERVAL_S = 1.0


class StatusWriter:
    """Writes the agent state into files.

    file: status.json. metrics_file: None: no metrics. outdated: whether the files are older than
    what they show. last: the last content of status.json; None: there is none.
    """

    def __init__(
        self,
        file: str,
        metrics_file: str | None,
        state: AgentState,
        faults: FaultTracker,
        systemd: SystemdNotifier,
        clocks: Callable[[], Clocks],
    ) -> None:
        self._file = file
        self._metrics_file = metrics_file
        self._state = state
        self._faults = faults
        self._systemd = systemd
        self._clocks = clocks
        self._written = -math.inf
        self.outdated = False
        self.last: dict[str, Any] | None = None

    def due(self, now: float, *, busy: bool) -> bool:
        """Return whether to write. busy: a pass is due, so that writing can wait for a while."""
        return self.outdated and (not busy or now - self._written >= _INTERVAL_S)

    def write(self, now: float) -> None:
        """Write both files."""
        self.outdated, self._written = False, now
        clocks = self._clocks()
        metrics_file = self._metrics_file
        if metrics_file is not None:
            metrics = render(collect(self._state, clocks))
            self._faults.run("write metrics", lambda: write_atomic(metrics_file, metrics))
        # After the metrics, so that a reader of a new status finds the matching metrics.
        self.last = printable_values(build_status(self._state, clocks))
        status = json.dumps(self.last, indent=1) + "\n"
        self._faults.run(f"write {STATUS}", lambda: write_atomic(self._file, status))
        self._systemd.status(summary(self._state))
