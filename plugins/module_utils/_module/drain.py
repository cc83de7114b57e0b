# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the work of socket_drain."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._core.destroy.outcomes import Result
from .._core.drain.drain import DrainCommand, Progress, Report, drain
from .._core.drain.model import ARRIVALS, CLOSED, INCLUDE, UNTIL
from .._core.drain.quiescence import Bytes
from .._core.drain.resume_token import from_resume, to_resume
from .._core.drain.tracker import Key
from .._core.guard.reason import OWNER_UNREADABLE
from .._core.host.host import Host
from .._core.query import record
from .._core.sockets.socket import Socket
from .._core.values import parse_duration_ms
from . import outcomes
from .arguments import Spec
from .destroy import namespaces_of, options_of, selector_of
from .info import checked_limit, unlisted_warnings
from .run import Answer, Request

# Options that say how the work is cut up, and not what it is.
_OF_A_STEP = frozenset({"step", "resume", "limit"})
_SHORTEST_STEP_MS = 100
# So many newcomers are named in a message.
_NAMED = 3
# As record.sort_key, of records.
_ORDER = ("namespace", "protocol", "local", "local_port", "remote", "remote_port", "cookie")


def argument_spec() -> Spec:
    """The options that socket_drain has of its own."""
    return {
        "until": {"type": "str", "choices": list(UNTIL), "default": CLOSED},
        "settle": {"type": "str", "default": "1s"},
        "grace": {"type": "str", "default": "60s"},
        "destroy": {"type": "bool", "default": True},
        "arrivals": {"type": "str", "choices": list(ARRIVALS), "default": INCLUDE},
        "step": {"type": "str"},
        "resume": {"type": "dict"},
    }


def work(request: Request, host: Host) -> Answer:
    """Wait for what matches and is not protected, and destroy the rest; or one step of that."""
    options = request.options
    limit = checked_limit(options["limit"])
    digest = _digest(request)
    progress: Progress | None = None
    if options["resume"] is not None:
        progress = from_resume(options["resume"], host, digest)
    report = drain(host, _command(request, host, progress), progress)
    result = _result(report, limit, request)
    result["resume"] = None if report.finished else to_resume(report.progress, host, digest)
    warnings = [*unlisted_warnings(report.unlisted), *_unreadable(report)]
    return Answer(result, failure=_failure(report), warnings=warnings)


def _digest(request: Request) -> str:
    """Of all that must be the same in every step of one drain."""
    meant = {key: value for key, value in request.options.items() if key not in _OF_A_STEP}
    text = json.dumps(meant, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _command(request: Request, host: Host, progress: Progress | None) -> DrainCommand:
    options = request.options
    step = options["step"]
    return DrainCommand(
        selector_of(request, host),
        # A resumed drain keeps its namespaces, whatever their names are now.
        namespaces_of(request, host) if progress is None else progress.namespaces,
        options_of(request, host),
        until=options["until"],
        settle=parse_duration_ms(options["settle"], ("settle",)) / 1000,
        grace=parse_duration_ms(options["grace"], ("grace",)) / 1000,
        destroy=options["destroy"],
        arrivals=options["arrivals"],
        step=None
        if step is None
        else parse_duration_ms(step, ("step",), low_ms=_SHORTEST_STEP_MS) / 1000,
    )


def _result(report: Report, limit: int, request: Request) -> dict[str, Any]:
    progress = report.progress
    listed = _lists(report, limit)
    result: dict[str, Any] = {
        "changed": report.changed,
        "finished": report.finished,
        "drained": report.drained,
        "matched": report.matched,
        "ended": progress.ended,
        "arrived": progress.arrived,
        "left": len(report.left),
        "by_state": report.by_state,
        "outcomes": report.counts,
        "sent": progress.sent,
        "lost": _bytes(progress.lost),
        "elapsed": round(report.elapsed, 3),
        "grace_left": round(report.grace_left, 3),
        "engine": request.options["engine"],
        **listed,
        "truncated": sum(map(len, listed.values())) < _whole(report),
    }
    if request.diff:
        result["diff"] = outcomes.diff(report.results, limit)
    return result


def _whole(report: Report) -> int:
    """How many entries all lists would have."""
    return len(report.results) + (len(report.left) if report.finished else 0)


def _lists(report: Report, limit: int) -> dict[str, list[dict[str, Any]]]:
    listed = outcomes.lists(report.results, limit, lambda result: _entry(report, result))
    left: Iterable[Socket] = report.left.values() if report.finished else ()
    first = heapq.nsmallest(limit, left, key=record.sort_key)
    listed["remaining"] = [
        {**record.record(sock), **_marked(report, sock.identity)} for sock in first
    ]
    return listed


def _entry(report: Report, result: Result) -> dict[str, Any]:
    return {**outcomes.entry(result), **_marked(report, result.socket.identity)}


def _marked(report: Report, key: Key) -> dict[str, Any]:
    mark = report.marks.get(key)
    if mark is None:
        return {"arrived": None, "sent": None, "lost": None}
    lost = None if mark.lost is None else _bytes(mark.lost)
    return {"arrived": mark.arrived, "sent": mark.sent, "lost": lost}


def _bytes(lost: Bytes) -> dict[str, int]:
    return {f"{name}_bytes": count for name, count in lost._asdict().items()}


def _unreadable(report: Report) -> list[str]:
    """That nobody waited for some, since nobody knows whose they are."""
    reasons = (result.reason for result in report.results)
    count = sum(reason is not None and reason.rule == OWNER_UNREADABLE for reason in reasons)
    said = (
        f"{count} connections were neither waited for nor destroyed, because this user cannot read "
        "which processes hold them, and they might be SSH sessions: run with become, or set "
        "protect.ssh_sessions to false."
    )
    return [said] if count else []


def _failure(report: Report) -> str | None:
    """What failed and what to do; None where nothing did."""
    done = report.progress.destroyed
    if report.refused:
        shown = heapq.nsmallest(_NAMED, report.refused, key=record.sort_key)
        lines = [outcomes.line(sock, connected=True) for sock in shown]
        more = len(report.refused) - len(shown)
        return (
            f"{len(report.refused)} connections came while it waited, and arrivals is fail: "
            f"{'; '.join(lines)}{f'; and {more} more' if more else ''}. {_touched(done)} What is "
            "left is listed in remaining. Keep new ones out first, or use arrivals: include or "
            "ignore."
        )
    if report.exceeded is not None:
        if done:
            return outcomes.too_many(
                report.exceeded, f"{done} had been destroyed before, and no more"
            )
        return outcomes.too_many(report.exceeded)
    return outcomes.undone(report.counts, report.matched)


def _touched(done: int) -> str:
    return f"{done} had been destroyed before, and no more." if done else "Nothing was destroyed."


def joined(results: Sequence[Mapping[str, Any]], limit: int) -> dict[str, Any]:
    """The result of a whole drain from those of its steps, in order.

    Counts are those of the last step, which has them for all. What each step destroyed is in its
    own list; here they are one, in the order of records and cut at limit.
    """
    whole = dict(results[-1])
    destroyed = [entry for result in results for entry in result.get("destroyed", ())]
    destroyed.sort(key=lambda entry: [entry[key] for key in _ORDER])
    whole["destroyed"] = destroyed[:limit]
    whole["truncated"] = len(destroyed) > limit or any(
        result.get("truncated", False) for result in results
    )
    diffs = [result["diff"] for result in results if "diff" in result]
    if diffs:
        whole["diff"] = {key: "".join(each[key] for each in diffs) for key in ("before", "after")}
    return whole
