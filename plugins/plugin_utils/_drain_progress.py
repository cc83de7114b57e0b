# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Progress lines of socket_drain on the controller, and the length of its steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

# Seconds per step. The first steps are short because many drains finish soon. Later steps are
# long compared with the time it takes to start the module again.
_FIRST_STEPS_S = (1, 2, 5)
_STEP_S = 10

# An unchanged drain prints a line this often.
_REPEAT_S = 10

# Result keys whose change prints a line at once.
_WATCHED_KEYS = ("by_state", "ended", "arrived", "outcomes")


def step_seconds() -> Iterator[int]:
    """Yield the length of each step in seconds, without end."""
    yield from _FIRST_STEPS_S
    while True:
        yield _STEP_S


class DrainProgress:
    """Progress lines for the drain of one host. The methods take results of socket_drain."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._reported: Mapping[str, Any] = {}
        self._reported_at = 0.0

    def update(self, result: Mapping[str, Any], now: float) -> str | None:
        """Return a line for an unfinished step, or None if nothing changed since the last line.

        now: seconds of a monotonic clock.
        """
        before = self._reported
        recent = now < self._reported_at + _REPEAT_S
        if before and recent and all(result[key] == before[key] for key in _WATCHED_KEYS):
            return None
        self._reported, self._reported_at = result, now
        return self._line(
            _left(result),
            _growth(result["ended"], before.get("ended"), "ended"),
            _growth(_destroyed(result), _destroyed(before) if before else None, "destroyed"),
            _growth(result["arrived"], before.get("arrived"), "arrived"),
            f"{math.ceil(result['grace_left'])} s of grace left",
        )

    def preview(self, result: Mapping[str, Any]) -> str:
        """Return the line for check mode."""
        outcomes: Mapping[str, int] = result["outcomes"]
        return self._line(
            f"{result['left'] + sum(outcomes.values()) - _protected(result)} to drain",
            f"{_protected(result)} protected" if _protected(result) else "",
        )

    def summary(self, result: Mapping[str, Any]) -> str:
        """Return the line for a finished drain."""
        return self._line(
            f"{result['ended']} ended on their own",
            f"{_destroyed(result)} destroyed",
            f"{_protected(result)} protected" if _protected(result) else "",
            f"{result['arrived']} arrived" if result["arrived"] else "",
            _left(result) if result["left"] else "",
            f"done in {result['elapsed']:.1f} s",
        )

    def _line(self, *parts: str) -> str:
        return f"drain: [{self._host}] {', '.join(part for part in parts if part)}"


def _destroyed(result: Mapping[str, Any]) -> int:
    outcomes: Mapping[str, int] = result["outcomes"]
    return outcomes.get("destroyed", 0) + outcomes.get("disconnected", 0)


def _protected(result: Mapping[str, Any]) -> int:
    count: int = result["outcomes"].get("protected", 0)
    return count


def _growth(count: int, before: int | None, label: str) -> str:
    """Return the total and its increase since the last line; empty if the total is 0."""
    increase = f" (+{count - before})" if before is not None and count > before else ""
    return f"{count} {label}{increase}" if count else ""


def _left(result: Mapping[str, Any]) -> str:
    """Return how many connections remain, with the most frequent state first."""
    states = sorted(result["by_state"].items(), key=lambda item: (-item[1], item[0]))
    counts = ", ".join(f"{count} {state}" for state, count in states)
    return f"{result['left']} left" + (f" ({counts})" if counts else "")
