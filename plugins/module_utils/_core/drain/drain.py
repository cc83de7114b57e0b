# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The drain: wait until connections end, then destroy the rest.

Each round takes a snapshot of every namespace, compares it with the tracked connections, and
decides what to destroy. Destroy notifications only bring the next round forward. The destroy
package destroys and verifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from ..destroy import outcomes
from ..destroy.engines.registry import engines_named
from ..destroy.executor import execute
from ..destroy.model import Plan, check_max_sockets
from ..destroy.outcomes import Result
from ..destroy.verify import find_ended
from ..errors import NamespaceNotFound, SocketsError
from ..guard.limits import MaxSocketsExceeded
from ..guard.reason import NO_OWNER_RULES, Reason
from ..host.host import Host
from ..host.namespaces import Namespace
from ..messages import describe
from ..netlink import constants
from ..sockets.session import NamespaceSession
from ..sockets.socket import Socket
from .model import FAIL, IGNORE, SENT, DrainCommand, Progress, Report, SocketDetails
from .observe import Observation, is_quiescent, observe
from .poll_interval import PollInterval
from .quiescence import pending_bytes, quiescent_for
from .tracker import AWAITED, IGNORED, PROTECTED, Key

# Seconds. With options.rate, one round destroys for no longer than this before the next snapshot.
_MAX_DESTROY_S = 1.0
# Seconds. The kernel's clocks have a resolution of up to ten milliseconds.
_CLOCK_RESOLUTION_S = 0.01


def drain(host: Host, command: DrainCommand, progress: Progress | None = None) -> Report:
    """Wait until the selected connections end, for at most command.grace seconds.

    Then destroy the rest if command.destroy says so. If a snapshot after the first fails, the next
    round repeats it until the grace period is over.

    progress: of the steps before; the drain updates it. Raises what destroy raises, unless a socket
    is already destroyed.
    """
    engines_named(command.options.engine)
    with PollInterval(host) as interval:
        return _Drain(host, command, progress).run(interval)


class _Drain:
    def __init__(self, host: Host, command: DrainCommand, progress: Progress | None) -> None:
        self._host = host
        self._command = command
        self._first = progress is None
        began = host.monotonic()
        self._progress = progress or Progress(began, list(command.namespaces))
        self._tracker = self._progress.tracker
        self._deadline = self._progress.started + command.grace
        self._step_ends = float("inf") if command.step is None else began + command.step
        self._report = Report(self._progress)

    def run(self, interval: PollInterval) -> Report:
        while True:
            now = self._host.monotonic()
            final = now >= self._deadline or self._command.options.check
            cost, has_changed = 0.0, False
            try:
                observations = self._observe_all(now, final=final)
                cost = self._host.monotonic() - now
            except SocketsError as error:
                if self._first or (final and not self._progress.destroyed):
                    raise
                if final:
                    self._fail(error)
                    return self._finish((), now)
            else:
                has_changed = self._track(observations, now)
                if self._act(observations, now, final=final):
                    return self._finish(observations, now)
                self._first = False
                names = {name for name, _protocol, _cookie in self._report.left}
                interval.subscribe(
                    namespace for namespace in self._progress.namespaces if namespace.name in names
                )
            done = self._host.monotonic()
            if done >= self._step_ends:
                return self._with_times(done)
            interval.wait(
                min(self._deadline, self._step_ends, self._next_quiescence(done)),
                {cookie for _name, _protocol, cookie in self._report.left},
                cost=cost,
                progress=has_changed,
            )

    def _observe_all(self, now: float, *, final: bool) -> list[Observation]:
        observations: list[Observation] = []
        for index, namespace in enumerate(self._progress.namespaces):
            try:
                observations.append(self._observe(namespace, now, final=final))
                continue
            except NamespaceNotFound:
                if self._first and namespace.explicit:
                    raise
            # The name is gone, but processes may keep the namespace alive.
            unnamed = self._progress.namespaces[index] = namespace._replace(explicit=False)
            try:
                observations.append(self._observe(unnamed, now, final=final))
            except NamespaceNotFound:
                observations.append(Observation.of_missing_namespace(unnamed))
        return observations

    def _observe(self, namespace: Namespace, now: float, *, final: bool) -> Observation:
        with NamespaceSession(self._host, namespace) as session:
            first = self._first
            return observe(session, self._command, self._tracker, now, first=first, final=final)

    def _track(self, observations: Sequence[Observation], now: float) -> bool:
        """Update the tracked connections; return whether any ended or arrived."""
        left: list[Socket] = []
        before = self._progress.ended, self._progress.arrived
        ignore = not self._first and self._command.arrivals == IGNORE
        for observation in observations:
            name = observation.namespace.name
            existing = {sock.identity for sock in observation.left}
            # Tracked connections that the guard protects from now on.
            existing |= {
                sock.identity for sock, _reason in observation.protected if self._is_tracked(sock)
            }
            ended = [
                key
                for key, _tracked in self._tracker.with_status(AWAITED, name)
                if key not in existing
            ]
            for status in (IGNORED, PROTECTED):
                for key, _tracked in list(self._tracker.with_status(status, name)):
                    if key not in observation.matching:
                        self._tracker.remove(key)
            for key in ended:
                self._tracker.finish(key)
            for sock, reason in observation.protected:
                if not self._is_tracked(sock):
                    self._tracker.add(sock, PROTECTED, arrived=not self._first)
                self._tracker.protect(sock.identity, reason)
            for sock in observation.arrivals:
                status = IGNORED if ignore else AWAITED
                self._tracker.add(sock, status, arrived=not self._first)
            left += observation.left if ignore else [*observation.left, *observation.arrivals]
            self._progress.ended += len(ended)
            self._progress.arrived += 0 if self._first else len(observation.arrivals)
        for sock in left:
            self._tracker.update(sock, now)
        self._report.left = {sock.identity: sock for sock in left}
        self._report.unlisted = frozenset().union(
            *(observation.unlisted for observation in observations)
        )
        return before != (self._progress.ended, self._progress.arrived)

    def _is_tracked(self, sock: Socket) -> bool:
        return self._tracker.find(sock) is not None

    def _act(self, observations: Sequence[Observation], now: float, *, final: bool) -> bool:
        """Destroy due connections; return whether the drain is over."""
        command = self._command
        if self._first and command.destroy:
            plans = [
                observation.plan([*observation.left, *observation.arrivals])
                for observation in observations
            ]
            exceeded = check_max_sockets(command.options.max_sockets, plans)
            if exceeded is not None:
                self._exceed(exceeded)
                return True
        if command.arrivals == FAIL and not self._first:
            self._report.forbidden_arrivals = [
                sock for observation in observations for sock in observation.arrivals
            ]
            if self._report.forbidden_arrivals:
                return True
        if any(observation.due for observation in observations):
            try:
                self._destroy(observations, now, final=final)
            except SocketsError as error:
                # The report must name the sockets that are already destroyed.
                if not self._progress.destroyed:
                    raise
                self._fail(error)
        return final or not self._report.left or self._all_sent(now)

    def _all_sent(self, now: float) -> bool:
        """Whether the drain waits only for quiescence, and everything left is quiescent."""
        return (
            self._command.until == SENT
            and not self._command.destroy
            and all(self._is_quiescent(sock, now) for sock in self._report.left.values())
        )

    def _is_quiescent(self, sock: Socket, now: float) -> bool:
        return is_quiescent(sock, self._tracker.find(sock), self._command, now)

    def _next_quiescence(self, now: float) -> float:
        """Return the earliest time at which another connection may become quiescent."""
        times = [float("inf")]
        if self._command.until == SENT:
            for sock in self._report.left.values():
                tracked = self._tracker.find(sock)
                since = None if tracked is None else tracked.empty_since
                seconds = quiescent_for(sock, 0.0 if since is None else now - since)
                if seconds is not None and seconds < self._command.settle:
                    times.append(now + self._command.settle - seconds + _CLOCK_RESOLUTION_S)
        return min(times)

    def _destroy(self, observations: Sequence[Observation], now: float, *, final: bool) -> None:
        options = self._command.options
        due = {observation.namespace.name: observation.due for observation in observations}
        if options.rate is not None and not final:
            available = max(1, int(options.rate * _MAX_DESTROY_S))
            for name, sockets in due.items():
                due[name] = sockets[:available]
                available -= len(due[name])
        for sockets in due.values():
            self._record_details(sockets, now)
        unlimited = replace(self._command, options=replace(options, max_sockets=None))

        def replan(session: NamespaceSession) -> Plan:
            at = self._host.monotonic()
            current = observe(session, unlimited, self._tracker, at, first=False, final=final)
            return current.plan(current.due)

        report = execute(
            self._host,
            [observation.plan(due[observation.namespace.name]) for observation in observations],
            options,
            replan=replan,
            destroyed_before=self._progress.destroyed,
        )
        if report.exceeded is not None:
            self._exceed(report.exceeded)
            return
        for result in report.results:
            self._record_result(result, final=final)

    def _record_result(self, result: Result, *, final: bool) -> None:
        key, outcome = result.socket.identity, result.outcome
        connected = result.socket.protocol in constants.STREAMS or result.socket.has_remote
        if outcome in outcomes.CHANGING:
            details = self._report.details[key]
            self._progress.sent += details.sent
            self._progress.lost = self._progress.lost.plus(details.lost)
            self._tracker.finish(key)
            self._report.add([result])
        elif outcome == outcomes.PROTECTED:
            self._tracker.protect(key, result.reason)
            self._report.add([result])
        elif outcome == outcomes.ALREADY_GONE and connected:
            if final or result.reason is None:
                self._progress.ended += 1
                self._tracker.finish(key)
                del self._report.left[key]
        elif final:
            self._report.add([result])
        else:
            # It may still end on its own.
            self._tracker.mark_attempted(key)

    def _record_details(self, sockets: Sequence[Socket], now: float) -> None:
        for sock in sockets:
            tracked = self._tracker.find(sock)
            self._report.details[sock.identity] = SocketDetails(
                tracked is not None and tracked.arrived,
                self._is_quiescent(sock, now),
                pending_bytes(sock),
            )

    # Ends of the drain.

    def _exceed(self, exceeded: MaxSocketsExceeded) -> None:
        self._report.exceeded = exceeded
        left = list(self._report.left.values())
        self._report.add(Result(sock, outcomes.LIMIT) for sock in left)

    def _fail(self, error: SocketsError) -> None:
        reason = Reason("error", describe(error))
        left = list(self._report.left.values())
        self._report.add(Result(sock, outcomes.SURVIVED, reason) for sock in left)

    def _finish(self, observations: Sequence[Observation], now: float) -> Report:
        report = self._report
        for observation in observations:
            ended = self._ended(observation)
            self._progress.ended += len(ended)
            for key in ended:
                self._tracker.remove(key)
            report.results += [
                Result(sock, outcomes.PROTECTED, reason)
                for sock, reason in observation.protected
                if sock.identity not in ended
            ]
        with_results = [result.socket for result in report.results]
        self._record_details(
            [sock for sock in with_results if sock.identity not in report.details], now
        )
        self._record_details(list(report.left.values()), now)
        report.finished = True
        remains = report.failed or outcomes.KERNEL_DEFECT in report.counts
        report.drained = not remains and (not report.left or self._all_sent(now))
        return self._with_times(self._host.monotonic())

    def _ended(self, observation: Observation) -> set[Key]:
        """Those protected sockets that ended before the guard found their owners."""
        doubtful = [sock for sock, reason in observation.protected if reason.rule in NO_OWNER_RULES]
        if doubtful:
            with suppress(SocketsError):
                with NamespaceSession(self._host, observation.namespace) as session:
                    cookies = find_ended(session, doubtful)
                return {sock.identity for sock in doubtful if sock.cookie in cookies}
        return set()

    def _with_times(self, now: float) -> Report:
        self._report.elapsed = now - self._progress.started
        self._report.grace_left = max(0.0, self._deadline - now)
        return self._report
