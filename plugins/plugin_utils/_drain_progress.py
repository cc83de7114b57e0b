# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: how far a drain has come, as lines for the person who waits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

# Seconds of a step. The first are short, since many drains are. Then a step is long beside what it
# costs to start the module once more.
_FIRST_STEPS = (1, 2, 5)
_STEP = 10

# A line comes at least so often, in seconds, also when there is no news.
_QUIET = 10

_NEWS = ("by_state", "ended", "arrived", "outcomes")


def steps() -> Iterator[int]:
    """Seconds of each step, without end."""
    yield from _FIRST_STEPS
    while True:
        yield _STEP


class Progress:
    """Says in a line how far the drain of a host has come. Results are those of socket_drain."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._told: Mapping[str, Any] = {}
        self._told_at = 0.0

    def line(self, result: Mapping[str, Any], now: float) -> str | None:
        """What an unfinished step found; None where that is no news.

        now: seconds of a clock that only goes forward.
        """
        told = self._told
        if told and now < self._told_at + _QUIET and all(result[key] == told[key] for key in _NEWS):
            return None
        self._told, self._told_at = result, now
        return self._line(
            _left(result),
            _growth(result["ended"], told.get("ended"), "ended"),
            _growth(_destroyed(result), _destroyed(told) if told else None, "destroyed"),
            _growth(result["arrived"], told.get("arrived"), "arrived"),
            f"{math.ceil(result['grace_left'])} s of grace left",
        )

    def preview(self, result: Mapping[str, Any]) -> str:
        """What check mode found to do."""
        outcomes: Mapping[str, int] = result["outcomes"]
        return self._line(
            f"{result['left'] + sum(outcomes.values()) - _protected(result)} to drain",
            f"{_protected(result)} protected" if _protected(result) else "",
        )

    def end(self, result: Mapping[str, Any]) -> str:
        """What became of it."""
        return self._line(
            f"{result['ended']} ended by themselves",
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
    protected: int = result["outcomes"].get("protected", 0)
    return protected


def _growth(count: int, before: int | None, word: str) -> str:
    """How many in all, and how many more than the last time; nothing where there is none."""
    more = f" (+{count - before})" if before is not None and count > before else ""
    return f"{count} {word}{more}" if count else ""


def _left(result: Mapping[str, Any]) -> str:
    """How many are left, the most frequent state first."""
    states = sorted(result["by_state"].items(), key=lambda item: (-item[1], item[0]))
    words = ", ".join(f"{count} {state}" for state, count in states)
    return f"{result['left']} left" + (f" ({words})" if words else "")
