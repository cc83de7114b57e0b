# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Verdicts on sockets, and the verdicts that a snapshot requests."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..sockets.slots import Slot, SlotStore


class Verdict(NamedTuple):
    """One verdict on one socket, such as `close_wait`.

    for_ms: lower bound of its duration in milliseconds, from the kernel's clocks; None: no bound.
    evidence: the values behind it. Names of numbers end with their unit (_ms, _bytes).
    """

    verdict: str
    for_ms: int | None
    evidence: dict[str, Any]


# The requested verdicts of a snapshot: the shortest duration in milliseconds for each.
REQUESTED: Slot[dict[str, int]] = Slot("requested verdicts")


def request_verdict(snapshot: SlotStore, verdict: str, for_ms: int) -> None:
    """Have the records of this snapshot name a verdict that has held for at least for_ms."""
    requested = snapshot.get_or_create(REQUESTED, dict)
    requested[verdict] = min(for_ms, requested.get(verdict, for_ms))


def requested_for_ms(snapshot: SlotStore) -> dict[str, int]:
    """The durations given to request_verdict, by verdict."""
    return snapshot.get(REQUESTED) or {}


def show_verdicts(snapshot: SlotStore) -> None:
    """Have the records of this snapshot name the verdicts that are known of their sockets."""
    snapshot.get_or_create(REQUESTED, dict)


def shows_verdicts(snapshot: SlotStore) -> bool:
    """Whether records of this snapshot name verdicts."""
    return snapshot.get(REQUESTED) is not None
