# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Progress of a drain: one line that changes on a terminal, else a line for each change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .terminal import Terminal

_BAR = 20


class DrainState(Protocol):
    """The fields of DrainResult that progress shows."""

    @property
    def matched(self) -> int: ...
    @property
    def ended(self) -> int: ...
    @property
    def arrived(self) -> int: ...
    @property
    def left(self) -> int: ...
    @property
    def by_state(self) -> dict[str, int]: ...
    @property
    def outcomes(self) -> dict[str, int]: ...
    @property
    def grace_left(self) -> float: ...


class DrainProgress:
    """Shows the state of a drain. state: the last one; None before the first."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._shown = ""
        self.state: DrainState | None = None

    def __call__(self, state: DrainState) -> None:
        self.state = state
        text = progress_text(state)
        grace = f"{state.grace_left:.0f} s of grace left"
        if self._terminal.is_terminal:
            self._terminal.replace_line(f"{_bar(state)} {text}, {grace}")
        elif text != self._shown:
            self._terminal.line(f"{text}, {grace}")
            self._terminal.stream.flush()
        self._shown = text

    def finish(self) -> None:
        """Erase the line of a terminal."""
        if self._shown and self._terminal.is_terminal:
            self._terminal.clear_line()


def progress_text(state: DrainState) -> str:
    """The counts of a drain that is under way, without the time."""
    parts = [f"{state.left} left{_states(state.by_state)}", f"{state.ended} ended"]
    destroyed = sum(state.outcomes.get(name, 0) for name in ("destroyed", "disconnected"))
    if destroyed:
        parts.append(f"{destroyed} destroyed")
    if state.arrived:
        parts.append(f"{state.arrived} arrived")
    return ", ".join(parts)


def _states(by_state: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{count} {name}" for name, count in by_state.items())
    return f" ({listed})" if listed else ""


def _bar(state: DrainState) -> str:
    total = state.left + state.ended
    done = _BAR if total == 0 else _BAR * state.ended // total
    return f"[{'#' * done}{'.' * (_BAR - done)}]"
