# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Outcomes of sockets as lists of entries, as a diff and as failures."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..destroy import outcomes
from ..destroy.outcomes import Result
from ..errors import Failure, OwnersUnreadable, PortsShared, SocketsNotDestroyed, TooManySockets
from ..guard.limits import MaxSocketsExceeded
from ..guard.reason import SHARED_PORT, Reason
from ..messages import socket_text
from ..query.record import record, sort_key


def entry(result: Result) -> dict[str, Any]:
    """The record of a socket, with outcome, engine, reason and reason_detail."""
    reason = result.reason
    return {
        **record(result.socket),
        "outcome": result.outcome,
        "engine": result.engine,
        "reason": None if reason is None else reason.rule,
        "reason_detail": None if reason is None else reason.detail,
    }


def protection(reason: Reason | None) -> dict[str, str | None]:
    """Which rule of the guard protects a socket: protected_by and protected_detail."""
    if reason is None:
        return {"protected_by": None, "protected_detail": None}
    return {"protected_by": reason.rule, "protected_detail": reason.detail}


def lists(
    results: Iterable[Result],
    limit: int,
    make: Callable[[Result], dict[str, Any]] = entry,
    keep: Callable[[Result], bool] = lambda _result: False,
) -> dict[str, list[dict[str, Any]]]:
    """The lists destroyed, protected and survivors.

    Each is in the order of records and has at most `limit` entries. make: builds an entry. keep:
    whether a list that is too long keeps this entry rather than others.
    """
    sorted_out: dict[str, list[Result]] = {"destroyed": [], "protected": [], "survivors": []}
    for result in results:
        sorted_out[_list_of(result.outcome)].append(result)
    return {
        name: [make(result) for result in _first(members, limit, keep)]
        for name, members in sorted_out.items()
    }


def _list_of(outcome: str) -> str:
    if outcome in outcomes.CHANGING:
        return "destroyed"
    return "survivors" if outcome in outcomes.FAILING else "protected"


def _first(
    results: Iterable[Result],
    limit: int,
    keep: Callable[[Result], bool] = lambda _result: False,
) -> list[Result]:
    kept = heapq.nsmallest(
        limit, results, key=lambda result: (not keep(result), sort_key(result.socket))
    )
    return sorted(kept, key=lambda result: sort_key(result.socket))


def diff(results: Iterable[Result], limit: int) -> dict[str, str]:
    """The sockets that change, one in a line, before and after."""
    changed = [result for result in results if result.outcome in outcomes.CHANGING]
    shown = _first(changed, limit)
    before = [socket_text(record(result.socket)) for result in shown]
    after = [
        socket_text(record(result.socket), connected=False)
        for result in shown
        if result.outcome == outcomes.DISCONNECTED
    ]
    if len(changed) > len(shown):
        before.append(f"and {len(changed) - len(shown)} more")
    return {"before": _text(before), "after": _text(after)}


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def shared_port_warnings(results: Iterable[Result]) -> tuple[PortsShared, ...]:
    """The warning that disconnected sockets share their port with others; empty if none does."""
    count = sum(
        result.outcome in outcomes.CHANGING
        and result.reason is not None
        and result.reason.rule == SHARED_PORT
        for result in results
    )
    return (PortsShared(count),) if count else ()


def not_destroyed(counts: Mapping[str, int], matched: int) -> tuple[Failure, ...]:
    """The failure that sockets which should have been destroyed were not; empty if all were.

    counts: how often each outcome occurred, without `limit`. matched: how many were selected.
    """
    if outcomes.FAILING.isdisjoint(counts):
        return ()
    return (SocketsNotDestroyed(counts, matched),)


def owners_unreadable(results: Iterable[Result]) -> tuple[OwnersUnreadable, ...]:
    """A warning if sockets are protected because their owners are unreadable; else empty."""
    reasons = (result.reason for result in results)
    count = sum(reason is not None and reason.owner_unreadable for reason in reasons)
    return (OwnersUnreadable(count),) if count else ()


def too_many(exceeded: MaxSocketsExceeded, destroyed: int = 0) -> Failure:
    """The failure that max_sockets allows fewer. destroyed: how many were destroyed before."""
    limit = exceeded.limit
    return TooManySockets(
        exceeded.selected, limit.number, limit.share, exceeded.population, destroyed
    )
