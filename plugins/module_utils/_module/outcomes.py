# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what became of sockets, as lists, as a diff and as a sentence."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .._core.destroy import outcomes
from .._core.destroy.model import Report
from .._core.destroy.outcomes import Result
from .._core.guard.limits import MaxSocketsExceeded
from .._core.query.record import record, sort_key
from .._core.sockets.socket import Socket

# What to do about the outcomes that fail a task.
_ADVICE = {
    outcomes.SURVIVED: (
        "they are still there, or could not be looked at again: see their reason_detail, and run "
        "it again"
    ),
    outcomes.BUSY: "the kernel does not let go of them while a thread waits on them: run it again",
    outcomes.NOT_PERMITTED: (
        "engine netlink takes CAP_NET_ADMIN in the user namespace that owns the network namespace, "
        "engine pidfd the right to trace the processes that hold them: run with become, or as root"
    ),
    outcomes.UNSUPPORTED_PROTOCOL: (
        "the kernel cannot destroy sockets of this kind: leave their protocol out, try "
        "engine: auto, or end the process that holds them"
    ),
    outcomes.KERNEL_WITHOUT_DESTROY: (
        "this kernel was built without CONFIG_INET_DIAG_DESTROY, or is too old for their state: "
        "try engine: auto, or use a kernel that has it"
    ),
}


def entry(result: Result) -> dict[str, Any]:
    """The record of a socket, and what became of it."""
    reason = result.reason
    return {
        **record(result.socket),
        "outcome": result.outcome,
        "engine": result.engine,
        "reason": None if reason is None else reason.rule,
        "reason_detail": None if reason is None else reason.detail,
    }


def lists(
    results: Iterable[Result], limit: int, make: Callable[[Result], dict[str, Any]] = entry
) -> dict[str, list[dict[str, Any]]]:
    """destroyed, protected and survivors, each in the order of records, and at most so many. make:
    what each is told as."""
    sorted_out: dict[str, list[Result]] = {"destroyed": [], "protected": [], "survivors": []}
    for result in results:
        sorted_out[_list_of(result.outcome)].append(result)
    return {
        name: [make(result) for result in _first(members, limit)]
        for name, members in sorted_out.items()
    }


def _list_of(outcome: str) -> str:
    if outcome in outcomes.CHANGING:
        return "destroyed"
    return "survivors" if outcome in outcomes.FAILING else "protected"


def _first(results: Iterable[Result], limit: int) -> list[Result]:
    return heapq.nsmallest(limit, results, key=lambda result: sort_key(result.socket))


def diff(results: Iterable[Result], limit: int) -> dict[str, str]:
    """The sockets that change, one on a line, before and after."""
    changed = [result for result in results if result.outcome in outcomes.CHANGING]
    shown = _first(changed, limit)
    before = [line(result.socket, connected=True) for result in shown]
    after = [
        line(result.socket, connected=False)
        for result in shown
        if result.outcome == outcomes.DISCONNECTED
    ]
    if len(changed) > len(shown):
        before.append(f"and {len(changed) - len(shown)} more")
    return {"before": _text(before), "after": _text(after)}


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def line(sock: Socket, *, connected: bool) -> str:
    """A socket in one line, for people."""
    words = [sock.protocol]
    if connected:
        words.append(sock.state)
    words.append(_endpoint(sock.local, sock.local_port))
    if connected and sock.has_remote:
        words += ["->", _endpoint(sock.remote, sock.remote_port)]
    if sock.uid is not None:
        words.append(f"user {sock.user or sock.uid}")
    words += [f"namespace {sock.snapshot.namespace.name}", f"sk:{sock.cookie_hex}"]
    return " ".join(words)


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def failure(report: Report) -> str | None:
    """What failed and what to do; None where nothing did."""
    if report.exceeded is not None:
        return too_many(report.exceeded)
    return undone(report.counts, report.matched)


def undone(counts: Mapping[str, int], matched: int) -> str | None:
    """Which of so many selected sockets should have been destroyed, and what to do; None: all that
    should have been were."""
    if outcomes.FAILING.isdisjoint(counts):
        return None
    parts = [
        f"{counts[outcome]} {outcome} ({_ADVICE[outcome]})"
        for outcome in outcomes.OUTCOMES
        if outcome in outcomes.FAILING and outcome in counts
    ]
    failed = sum(counts[outcome] for outcome in outcomes.FAILING if outcome in counts)
    return (
        f"{failed} of the {matched} selected sockets could not be destroyed: "
        f"{'; '.join(parts)}. They are listed in survivors."
    )


def too_many(exceeded: MaxSocketsExceeded, touched: str = "none was touched") -> str:
    """That max_sockets refused. touched: what was done all the same."""
    limit = exceeded.limit
    if limit.share is not None:
        allowed = f"{limit.share:.0%} of the {exceeded.population} unprotected ones"
    else:
        allowed = str(limit.number)
    return (
        f"{exceeded.selected} sockets would be destroyed, but max_sockets allows {allowed}: "
        f"{touched}. They are listed in survivors. If they are meant, raise max_sockets; if not, "
        "narrow the selector."
    )
