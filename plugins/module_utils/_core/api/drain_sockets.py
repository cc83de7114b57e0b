# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Drain sockets: wait until connections end, then destroy the rest; in one call or in steps."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..destroy.outcomes import Result
from ..drain.drain import drain as execute
from ..drain.model import CLOSED, INCLUDE, DrainCommand, Progress, Report
from ..drain.quiescence import PendingBytes
from ..drain.resume_token import decode_resume_token, encode_resume_token
from ..drain.tracker import Key
from ..errors import Failure, NewConnections, ResultWarning
from ..host.host import Host
from ..query import record
from ..selector.parse import parse_selector
from ..sockets.socket import Socket
from ..values import parse_duration_ms
from . import results
from .destroy_sockets import guard_selectors, parse_options
from .namespaces import namespaces_named, unlisted_warnings
from .options import DEFAULT_LIMIT, MIN_STEP_MS, checks_options
from .selector_warnings import selector_warnings
from .task import printable_dict

# How many new connections a failure names.
_MAX_EXAMPLES = 3
# As record.sort_key, of records.
_ORDER = ("namespace", "protocol", "local", "local_port", "remote", "remote_port", "cookie")

# Seconds between calls of `progress`.
_PROGRESS_S = 2.0


@dataclass(frozen=True)
class DrainResult:
    """The result of drain, or of one step of it.

    Entries of the lists are records with ``arrived``, ``sent`` and ``lost``; those of destroyed,
    protected and survivors have ``outcome``, ``engine``, ``reason`` and ``reason_detail`` too. A
    list that is cut at ``limit`` keeps those with data in flight. Counts cover all steps so far.

    Attributes:
        changed: whether at least one socket was destroyed or disconnected; in check mode, would be.
        finished: whether the drain is over; False after a step that another has to follow.
        drained: whether nothing is left that the drain waits for.
        matched: how many sockets matched at any time.
        ended: how many closed on their own.
        arrived: how many began to match after the start.
        left: how many are still waited for.
        by_state: how many are left, by state.
        outcomes: how often each outcome occurred.
        sent: how many of the destroyed sockets had no data in flight.
        lost: bytes that were destroyed with them, by ``unsent_bytes`` and others.
        elapsed: seconds since the start.
        grace_left: seconds until the grace period is over.
        engine: the engine that was requested.
        destroyed: sockets that were destroyed or disconnected; of this step only.
        protected: sockets that the guard protected; once finished.
        survivors: sockets that should have been destroyed and still exist; once finished.
        remaining: sockets that are left; once finished.
        truncated: whether a list was cut at ``limit``.
        resume: the token for the next step; None once finished.
        diff: ``before`` and ``after`` as text, one socket in a line; None unless requested.
        warnings: protocols that the kernel cannot list, owners that cannot be read, and
            disconnected sockets on shared ports.
        failures: why the drain failed; empty on success.
    """

    changed: bool
    finished: bool
    drained: bool
    matched: int
    ended: int
    arrived: int
    left: int
    by_state: dict[str, int]
    outcomes: dict[str, int]
    sent: int
    lost: dict[str, int]
    elapsed: float
    grace_left: float
    engine: str
    destroyed: list[dict[str, Any]]
    protected: list[dict[str, Any]]
    survivors: list[dict[str, Any]]
    remaining: list[dict[str, Any]]
    truncated: bool
    resume: dict[str, Any] | None = None
    diff: dict[str, str] | None = None
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    @printable_dict
    def to_dict(self) -> dict[str, Any]:
        """Return the result of the module socket_drain."""
        result: dict[str, Any] = {
            "changed": self.changed,
            "finished": self.finished,
            "drained": self.drained,
            "matched": self.matched,
            "ended": self.ended,
            "arrived": self.arrived,
            "left": self.left,
            "by_state": self.by_state,
            "outcomes": self.outcomes,
            "sent": self.sent,
            "lost": self.lost,
            "elapsed": self.elapsed,
            "grace_left": self.grace_left,
            "engine": self.engine,
            "destroyed": self.destroyed,
            "protected": self.protected,
            "survivors": self.survivors,
            "remaining": self.remaining,
            "truncated": self.truncated,
            "resume": self.resume,
        }
        if self.diff is not None:
            result["diff"] = self.diff
        return result


@checks_options
def drain(
    match: Mapping[str, Any],
    *,
    namespaces: Sequence[str] = ("current",),
    protect: Mapping[str, Any] | None = None,
    max_sockets: int | str | None = None,
    pace: int | str | None = None,
    engine: str = "netlink",
    until: str = CLOSED,
    settle: int | str = "1s",
    grace: int | str = "60s",
    destroy: bool = True,
    arrivals: str = INCLUDE,
    step: int | str | None = None,
    resume: Mapping[str, Any] | None = None,
    progress: Callable[[DrainResult], None] | None = None,
    limit: int = DEFAULT_LIMIT,
    check: bool = False,
    diff: bool = False,
    host: Host | None = None,
) -> DrainResult:
    """Wait until the sockets that match have ended, then destroy the rest.

    Example::

        def show(state):
            print(state.left, "left,", state.grace_left, "s of grace")

        result = api.drain({"local_port": 8080}, grace="5m", until="sent", progress=show)

    Args:
        match: a selector with a key beyond protocol and family, or with ``state`` written out.
        namespaces: network namespaces: ``current``, a name, ``pid:N``, a path, or ``all``.
        protect: switches of the guard, such as ``{"loopback": False}``, and ``selectors``.
        max_sockets: a number, or a share such as ``25%`` of the unprotected sockets. Where more
            would be destroyed, none is.
        pace: the highest rate, such as ``100/s``; None for as fast as possible.
        engine: ``netlink``, ``bpf``, ``pidfd``, or ``auto``.
        until: ``closed`` waits for the end; ``sent`` also for quiescence: nothing in flight.
        settle: how long a connection must be without data to be quiescent, such as ``1s``. A bare
            number is seconds, here and below.
        grace: how long to wait at most.
        destroy: whether to destroy the sockets left after ``grace``.
        arrivals: how to treat connections that begin to match during the drain: ``include``,
            ``ignore`` or ``fail``.
        step: return after this duration even if the drain is not finished; at least 100ms.
        resume: ``resume`` of the step before, with all other options as they were.
        progress: is called with the state of the drain about every 2 seconds until it is finished.
            Not used where ``step`` is given.
        limit: the longest length of each list of the result.
        check: report the expected outcomes, wait for nothing and change nothing.
        diff: fill ``diff``.
        host: the machine to work on; the default is this one.

    Returns:
        DrainResult: counts, and the outcome of each socket.

    Raises:
        InputError: an option, a part of the selector or ``resume`` is wrong.
        ProtectFileError: a protection file cannot be read or parsed.
        EngineUnavailable: the engine does not work on this kernel.
        NamespaceNotFound, NamespaceDenied: a namespace does not exist or cannot be entered.
        HandlerMissing: the kernel cannot list a protocol that the selector names.
        NetlinkError, NetlinkTimeout, DumpInterrupted, MalformedMessage: the kernel did not answer
            as it should, and nothing was destroyed yet.
    """
    drains = _Drain(
        host or Host(),
        {
            "match": match,
            "namespaces": namespaces,
            "protect": protect,
            "max_sockets": max_sockets,
            "pace": pace,
            "engine": engine,
            "until": until,
            "settle": settle,
            "grace": grace,
            "destroy": destroy,
            "arrivals": arrivals,
        },
        limit=limit,
        check=check,
        diff=diff,
    )
    if progress is None or step is not None:
        seconds = None
        if step is not None:
            seconds = parse_duration_ms(step, ("step",), low_ms=MIN_STEP_MS) / 1000
        return drains.step(seconds, resume)
    steps: list[DrainResult] = []
    while True:
        steps.append(drains.step(_PROGRESS_S, resume))
        if steps[-1].finished:
            return _whole(steps, limit)
        resume = steps[-1].resume
        progress(steps[-1])


class _Drain:
    """One drain, which may take several steps.

    options: the options that must be the same in every step, as the user wrote them.
    """

    def __init__(
        self, host: Host, options: Mapping[str, Any], *, limit: int, check: bool, diff: bool
    ) -> None:
        self._host = host
        self._options = options
        self._limit = limit
        self._check = check
        self._diff = diff
        text = json.dumps(dict(options), sort_keys=True, default=str)
        self._digest = hashlib.sha256(text.encode()).hexdigest()

    def step(self, seconds: float | None, resume: Mapping[str, Any] | None) -> DrainResult:
        """Drain for a number of seconds, or to the end if it is None."""
        progress: Progress | None = None
        if resume is not None:
            progress = decode_resume_token(resume, self._host, self._digest)
        command = self._command(seconds, progress)
        selectors = [command.selector, *guard_selectors(command.options.guard)]
        # A later step has the processes that earlier ones may have ended.
        of_selectors = (
            selector_warnings(self._host, command.namespaces, selectors) if progress is None else ()
        )
        report = execute(self._host, command, progress)
        return self._result(report, of_selectors)

    def _command(self, seconds: float | None, progress: Progress | None) -> DrainCommand:
        options = self._options
        return DrainCommand(
            parse_selector(options["match"], names=self._host, role="destroy"),
            # A resumed drain keeps its namespaces, whatever their names are now.
            namespaces_named(self._host, options["namespaces"])
            if progress is None
            else progress.namespaces,
            parse_options(
                self._host,
                protect=options["protect"],
                max_sockets=options["max_sockets"],
                pace=options["pace"],
                engine=options["engine"],
                check=self._check,
            ),
            until=options["until"],
            settle=parse_duration_ms(options["settle"], ("settle",)) / 1000,
            grace=parse_duration_ms(options["grace"], ("grace",)) / 1000,
            destroy=options["destroy"],
            arrivals=options["arrivals"],
            step=seconds,
        )

    def _result(self, report: Report, of_selectors: Sequence[ResultWarning]) -> DrainResult:
        progress = report.progress
        listed = _lists(report, self._limit)
        complete = len(report.results) + (len(report.left) if report.finished else 0)
        return DrainResult(
            changed=report.changed,
            finished=report.finished,
            drained=report.drained,
            matched=report.matched,
            ended=progress.ended,
            arrived=progress.arrived,
            left=len(report.left),
            by_state=report.by_state,
            outcomes=report.counts,
            sent=progress.sent,
            lost=_bytes(progress.lost),
            elapsed=round(report.elapsed, 3),
            grace_left=round(report.grace_left, 3),
            engine=self._options["engine"],
            **listed,
            truncated=sum(map(len, listed.values())) < complete,
            resume=None
            if report.finished
            else encode_resume_token(progress, self._host, self._digest),
            diff=results.diff(report.results, self._limit) if self._diff else None,
            warnings=(
                *of_selectors,
                *unlisted_warnings(report.unlisted),
                *results.owners_unreadable(report.results),
                *results.shared_port_warnings(report.results),
            ),
            failures=_failures(report),
        )


def _lists(report: Report, limit: int) -> dict[str, list[dict[str, Any]]]:
    listed = results.lists(
        report.results,
        limit,
        lambda result: _entry(report, result),
        keep=lambda result: _has_pending_bytes(report, result),
    )
    left: Iterable[Socket] = report.left.values() if report.finished else ()
    first = heapq.nsmallest(limit, left, key=record.sort_key)
    listed["remaining"] = [
        {**record.record(sock), **_details(report, sock.identity)} for sock in first
    ]
    return listed


def _entry(report: Report, result: Result) -> dict[str, Any]:
    return {**results.entry(result), **_details(report, result.socket.identity)}


def _has_pending_bytes(report: Report, result: Result) -> bool:
    details = report.details.get(result.socket.identity)
    return details is not None and details.lost is not None and any(details.lost)


def _details(report: Report, key: Key) -> dict[str, Any]:
    details = report.details.get(key)
    if details is None:
        return {"arrived": None, "sent": None, "lost": None}
    lost = None if details.lost is None else _bytes(details.lost)
    return {"arrived": details.arrived, "sent": details.sent, "lost": lost}


def _bytes(lost: PendingBytes) -> dict[str, int]:
    return {f"{name}_bytes": count for name, count in lost._asdict().items()}


def _failures(report: Report) -> tuple[Failure, ...]:
    destroyed = report.progress.destroyed
    if report.forbidden_arrivals:
        first = heapq.nsmallest(_MAX_EXAMPLES, report.forbidden_arrivals, key=record.sort_key)
        examples = tuple(map(record.record, first))
        return (NewConnections(len(report.forbidden_arrivals), examples, destroyed),)
    if report.exceeded is not None:
        return (results.too_many(report.exceeded, destroyed),)
    return results.not_destroyed(report.counts, report.matched)


def _whole(steps: Sequence[DrainResult], limit: int) -> DrainResult:
    """The result of a whole drain from those of its steps, in order."""
    joined = join_steps([result.to_dict() for result in steps], limit)
    return replace(
        steps[-1],
        destroyed=joined["destroyed"],
        truncated=joined["truncated"],
        diff=joined.get("diff"),
    )


def join_steps(steps: Sequence[Mapping[str, Any]], limit: int) -> dict[str, Any]:
    """The result of a whole drain from those of its steps, in order, all as to_dict() gives them.

    The last step has the counts of all. Each step lists only the sockets that it destroyed; here
    they
    are one list, in the order of records and cut at limit.
    """
    whole = dict(steps[-1])
    destroyed = [entry for result in steps for entry in result.get("destroyed", ())]
    destroyed.sort(key=lambda entry: [entry[key] for key in _ORDER])
    whole["destroyed"] = destroyed[:limit]
    whole["truncated"] = len(destroyed) > limit or any(
        result.get("truncated", False) for result in steps
    )
    diffs = [result["diff"] for result in steps if "diff" in result]
    if diffs:
        whole["diff"] = {key: "".join(part[key] for part in diffs) for key in ("before", "after")}
    return whole
