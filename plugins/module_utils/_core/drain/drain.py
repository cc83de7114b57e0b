# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: waits for connections to end, and destroys what is left.

Each round looks afresh, takes what it sees for the truth, and decides. Notices of the kernel only
bring the next round on; the work of destroying, and its proof, is that of every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..destroy import outcomes
from ..destroy.engines.registry import engines_named
from ..destroy.executor import execute
from ..destroy.model import Plan, check_max_sockets
from ..destroy.outcomes import Result
from ..errors import NamespaceNotFound, SocketsError
from ..guard.limits import MaxSocketsExceeded
from ..guard.reason import Reason
from ..host.host import Host
from ..host.namespaces import Namespace
from ..messages import describe
from ..netlink import constants
from ..sockets.session import NamespaceSession
from ..sockets.socket import Socket
from .model import FAIL, IGNORE, SENT, DrainCommand
from .observe import Survey, is_sent, survey
from .poll_interval import Pauses
from .progress import Progress
from .quiescence import bytes_of, still_for
from .report import Mark, Report
from .tracker import IGNORED, PROTECTED, WAITED

__all__ = ["DrainCommand", "Progress", "Report", "drain"]

# Seconds. A paced order destroys for no longer than this before it looks at the others again.
_PACED = 1.0
# The kernel's clocks tell milliseconds, some of them in steps of four or ten.
_CLOCK_STEP = 0.01


def drain(host: Host, command: DrainCommand, progress: Progress | None = None) -> Report:
    """Wait for what the order selects, at most for its grace, and destroy the rest if it says so.

    progress: of the steps before; it is changed. Raises what destroy raises, as long as nothing was
    destroyed. A look that fails is made again as long as there is time.
    """
    engines_named(command.options.engine)
    with Pauses(host) as pauses:
        return _Drain(host, command, progress).run(pauses)


class _Drain:
    def __init__(self, host: Host, command: DrainCommand, progress: Progress | None) -> None:
        self._host = host
        self._command = command
        self._first = progress is None
        began = host.monotonic()
        self._progress = progress or Progress(began, list(command.namespaces))
        self._watchlist = self._progress.watchlist
        self._deadline = self._progress.started + command.grace
        self._step_ends = float("inf") if command.step is None else began + command.step
        self._report = Report(self._progress)

    def run(self, pauses: Pauses) -> Report:
        while True:
            now = self._host.monotonic()
            final = now >= self._deadline or self._command.options.check
            cost, news = 0.0, False
            try:
                surveys = self._look(now, final=final)
                cost = self._host.monotonic() - now
            except SocketsError as error:
                if self._first or (final and not self._progress.destroyed):
                    raise
                if final:
                    self._fail(error)
                    return self._finished((), now)
            else:
                news = self._take(surveys, now)
                if self._decide(surveys, now, final=final):
                    return self._finished(surveys, now)
                self._first = False
                labels = {label for label, _protocol, _cookie in self._report.left}
                pauses.listen(each for each in self._progress.namespaces if each.name in labels)
            done = self._host.monotonic()
            if done >= self._step_ends:
                return self._told(done)
            pauses.wait(
                min(self._deadline, self._step_ends, self._next_still(done)),
                {cookie for _label, _protocol, cookie in self._report.left},
                cost=cost,
                progress=news,
            )

    def _look(self, now: float, *, final: bool) -> list[Survey]:
        surveys: list[Survey] = []
        for index, namespace in enumerate(self._progress.namespaces):
            try:
                surveys.append(self._look_into(namespace, now, final=final))
                continue
            except NamespaceNotFound:
                if self._first and namespace.explicit:
                    raise
            # Its name is gone, but processes may still be in it: it is the same namespace.
            followed = self._progress.namespaces[index] = namespace._replace(explicit=False)
            try:
                surveys.append(self._look_into(followed, now, final=final))
            except NamespaceNotFound:
                surveys.append(Survey(followed, [], [], [], frozenset(), [], 0, frozenset()))
        return surveys

    def _look_into(self, namespace: Namespace, now: float, *, final: bool) -> Survey:
        with NamespaceSession(self._host, namespace) as session:
            first = self._first
            return survey(session, self._command, self._watchlist, now, first=first, final=final)

    def _take(self, surveys: Sequence[Survey], now: float) -> bool:
        """Bring what is known up to date; whether anything ended or came."""
        left: list[Socket] = []
        before = self._progress.ended, self._progress.arrived
        ignore = not self._first and self._command.arrivals == IGNORE
        for each in surveys:
            label = each.namespace.name
            there = {sock.identity for sock in each.left}
            # The same connections as before, but protected now.
            there |= {sock.identity for sock, _reason in each.protected if self._knows(sock)}
            gone = [key for key, _entry in self._watchlist.all(WAITED, label) if key not in there]
            for kind in (IGNORED, PROTECTED):
                for key, _entry in list(self._watchlist.all(kind, label)):
                    if key not in each.known:
                        self._watchlist.forget(key)
            for key in gone:
                self._watchlist.done(key)
            for sock, reason in each.protected:
                if not self._knows(sock):
                    self._watchlist.watch(sock, PROTECTED, arrived=not self._first)
                self._watchlist.protect(sock.identity, reason)
            for sock in each.arrivals:
                kind = IGNORED if ignore else WAITED
                self._watchlist.watch(sock, kind, arrived=not self._first)
            left += each.left if ignore else [*each.left, *each.arrivals]
            self._progress.ended += len(gone)
            self._progress.arrived += 0 if self._first else len(each.arrivals)
        for sock in left:
            self._watchlist.seen(sock, now)
        self._report.left = {sock.identity: sock for sock in left}
        self._report.unlisted = frozenset().union(*(each.unlisted for each in surveys))
        return before != (self._progress.ended, self._progress.arrived)

    def _knows(self, sock: Socket) -> bool:
        return self._watchlist.of(sock) is not None

    def _decide(self, surveys: Sequence[Survey], now: float, *, final: bool) -> bool:
        """Destroy what is due; whether the drain is over."""
        command = self._command
        if self._first and command.destroy:
            plans = [each.plan([*each.left, *each.arrivals]) for each in surveys]
            exceeded = check_max_sockets(command.options.max_sockets, plans)
            if exceeded is not None:
                self._refuse(exceeded)
                return True
        if command.arrivals == FAIL and not self._first:
            self._report.refused = [sock for each in surveys for sock in each.arrivals]
            if self._report.refused:
                return True
        if any(each.due for each in surveys):
            try:
                self._destroy(surveys, now, final=final)
            except SocketsError as error:
                # What has already happened must be told.
                if not self._progress.destroyed:
                    raise
                self._fail(error)
        return final or not self._report.left or self._is_enough(now)

    def _is_enough(self, now: float) -> bool:
        """Whether nothing is on its way any more, where that is all that is waited for."""
        return (
            self._command.until == SENT
            and not self._command.destroy
            and all(self._is_sent(sock, now) for sock in self._report.left.values())
        )

    def _is_sent(self, sock: Socket, now: float) -> bool:
        return is_sent(sock, self._watchlist.of(sock), self._command, now)

    def _next_still(self, now: float) -> float:
        """When the next could have been still for long enough."""
        times = [float("inf")]
        if self._command.until == SENT:
            for sock in self._report.left.values():
                entry = self._watchlist.of(sock)
                since = None if entry is None else entry.quiet_since
                still = still_for(sock, 0.0 if since is None else now - since)
                if still is not None and still < self._command.settle:
                    times.append(now + self._command.settle - still + _CLOCK_STEP)
        return min(times)

    def _destroy(self, surveys: Sequence[Survey], now: float, *, final: bool) -> None:
        options = self._command.options
        due = {each.namespace.name: each.due for each in surveys}
        if options.rate is not None and not final:
            room = max(1, int(options.rate * _PACED))
            for label, sockets in due.items():
                due[label] = sockets[:room]
                room -= len(due[label])
        for sockets in due.values():
            self._mark(sockets, now)
        unlimited = replace(self._command, options=replace(options, max_sockets=None))

        def replan(session: NamespaceSession) -> Plan:
            at = self._host.monotonic()
            found = survey(session, unlimited, self._watchlist, at, first=False, final=final)
            return found.plan(found.due)

        report = execute(
            self._host,
            [each.plan(due[each.namespace.name]) for each in surveys],
            options,
            replan=replan,
            destroyed_before=self._progress.destroyed,
        )
        if report.exceeded is not None:
            self._refuse(report.exceeded)
            return
        for result in report.results:
            self._record(result, final=final)

    def _record(self, result: Result, *, final: bool) -> None:
        """Take up what became of one that was due."""
        key, outcome = result.socket.identity, result.outcome
        connected = result.socket.protocol in constants.STREAMS or result.socket.has_remote
        if outcome in outcomes.CHANGING:
            mark = self._report.marks[key]
            self._progress.sent += mark.sent
            self._progress.lost = self._progress.lost.plus(mark.lost)
            self._watchlist.done(key)
            self._report.add([result])
        elif outcome == outcomes.PROTECTED:
            self._watchlist.protect(key, result.reason)
            self._report.add([result])
        elif outcome == outcomes.ALREADY_GONE and connected:
            if final or result.reason is None:
                self._progress.ended += 1
                self._watchlist.done(key)
                del self._report.left[key]
        elif final:
            self._report.add([result])
        else:
            # It may yet end by itself.
            self._watchlist.tried(key)

    def _mark(self, sockets: Sequence[Socket], now: float) -> None:
        for sock in sockets:
            entry = self._watchlist.of(sock)
            self._report.marks[sock.identity] = Mark(
                entry is not None and entry.arrived, self._is_sent(sock, now), bytes_of(sock)
            )

    # Ends.

    def _refuse(self, exceeded: MaxSocketsExceeded) -> None:
        self._report.exceeded = exceeded
        left = list(self._report.left.values())
        self._report.add(Result(sock, outcomes.LIMIT) for sock in left)

    def _fail(self, error: SocketsError) -> None:
        reason = Reason("error", describe(error))
        left = list(self._report.left.values())
        self._report.add(Result(sock, outcomes.SURVIVED, reason) for sock in left)

    def _finished(self, surveys: Sequence[Survey], now: float) -> Report:
        report = self._report
        others = [result.socket for result in report.results]
        self._mark([each for each in others if each.identity not in report.marks], now)
        self._mark(list(report.left.values()), now)
        for each in surveys:
            report.results += [
                Result(sock, outcomes.PROTECTED, reason) for sock, reason in each.protected
            ]
        report.finished = True
        stays = report.failed or outcomes.KERNEL_DEFECT in report.counts
        report.drained = not stays and (not report.left or self._is_enough(now))
        return self._told(self._host.monotonic())

    def _told(self, now: float) -> Report:
        self._report.elapsed = now - self._progress.started
        self._report.grace_left = max(0.0, self._deadline - now)
        return self._report
