# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stuck connections, sampled repeatedly: the duration that the core proves, and the real one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.query.find import find
from linuxnet_sockets.query.record import record
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from linuxnet_sockets.verdicts import stuck
from tests.support.topologies.connection_factory import ConnectionFactory, RepeatedAction
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.stuck import StuckScenario
from tests.support.topologies.topology import Lab, LabNamespace, Pair

_INFO = inet_diag.extension_bits([inet_diag.INFO])
# Longer than any test here.
_MAX_MS = 1 << 17
# (name of the namespace, local port, remote port)
Key = tuple[str, int, int]


class Span(NamedTuple):
    """Time at which a step was taken, in seconds of time.monotonic(): between both."""

    earliest: float
    latest: float


class Sample(NamedTuple):
    """One sample of a socket.

    before, after: start and end of the dump, in seconds of time.monotonic(). bounds: the proven
    milliseconds of each verdict, or None. socket: for the output of a failing test.
    """

    before: float
    after: float
    bounds: Mapping[str, int | None]
    socket: Socket


@dataclass
class Case:
    """A connection, the times of its steps, and its samples."""

    name: str
    held: HeldSocket
    connected: Span
    early: Span
    late: Span
    live: RepeatedAction | None
    samples: list[Sample] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return self.held.where.name, self.held.local[1], self.held.remote[1]


def bounds(sock: Socket) -> dict[str, int | None]:
    """Longest duration in milliseconds for which each verdict is true; None if it is not true."""
    return {name: _bound(sock, name) for name in stuck.STUCK}


def _bound(sock: Socket, name: str) -> int | None:
    if not stuck.evaluate(sock, name, 0):
        return None
    if stuck.evaluate(sock, name, _MAX_MS):
        return _MAX_MS
    low, high = 0, _MAX_MS
    while high - low > 1:
        middle = (low + high) // 2
        if stuck.evaluate(sock, name, middle):
            low = middle
        else:
            high = middle
    return low


class StuckCases:
    """Two pairs of namespaces with the cases.

    The plain pair has TCP timestamps (RFC 7323) disabled. In the other pair the SYN timeout doubles
    with each retry, as before Linux 6.5 (tcp_syn_linear_timeouts).
    """

    def __init__(self, lab: Lab) -> None:
        self._pairs = {True: Pair(lab), False: Pair(lab)}
        self._pairs[True].client.sysctl("ipv4/tcp_timestamps", 0)
        with contextlib.suppress(OSError):
            self._pairs[False].client.sysctl("ipv4/tcp_syn_linear_timeouts", 0)
        self.cases: dict[str, Case] = {}

    def create(
        self,
        definitions: Mapping[str, tuple[Callable[[ConnectionFactory], StuckScenario], str, bool]],
        age: float,
    ) -> None:
        """Create the cases, by name: (function, kind, whether in the plain pair).

        age: seconds between the early and the late step.
        """
        made: dict[str, tuple[StuckScenario, Span]] = {}
        for name, (function, kind, plain) in definitions.items():
            before = time.monotonic()
            steps = function(ConnectionFactory(self._pairs[plain], kind))
            made[name] = steps, Span(before, time.monotonic())
        with ThreadPoolExecutor(len(made)) as threads:
            jobs = {
                name: threads.submit(_timed, steps.early) for name, (steps, _span) in made.items()
            }
            early = {name: job.result() for name, job in jobs.items()}
        time.sleep(age)
        for name, (steps, connected) in made.items():
            late = _timed(steps.late)
            live = None if steps.repeated is None else RepeatedAction(steps.repeated, steps.pause)
            self.cases[name] = Case(name, steps.held, connected, early[name], late, live)

    def sample(self, seconds: float, pause: float) -> None:
        """Sample all cases repeatedly, with a pause in seconds between two dumps."""
        deadline = time.monotonic() + seconds
        by_key = {case.key: case for case in self.cases.values()}
        while time.monotonic() < deadline:
            for where in self._namespaces():
                before = time.monotonic()
                sockets = dump_sockets(where)
                after = time.monotonic()
                for sock in sockets:
                    case = by_key.get((where.name, sock.local_port, sock.remote_port))
                    if case is not None:
                        case.samples.append(Sample(before, after, bounds(sock), sock))
            time.sleep(pause)

    def _namespaces(self) -> Iterator[LabNamespace]:
        for pair in self._pairs.values():
            yield pair.client
            yield pair.server

    def matching(self, selector: Mapping[str, Any]) -> set[str]:
        """Names of the cases whose sockets match the selector."""
        keys = {
            (where.name, sock.local_port, sock.remote_port)
            for where in self._namespaces()
            for sock in dump_sockets(where, selector)
        }
        return {name for name, case in self.cases.items() if case.key in keys}

    def records(self) -> dict[str, dict[str, Any]]:
        """Records with verdicts, by name of the case. Cases without a socket are omitted."""
        keys = {case.key: name for name, case in self.cases.items()}
        return {
            keys[key]: record(sock, ["verdicts"])
            for where in self._namespaces()
            for sock in dump_sockets(where)
            if (key := (where.name, sock.local_port, sock.remote_port)) in keys
        }

    def release(self) -> None:
        """Stop the background traffic. Raises the errors that occurred in it."""
        for case in self.cases.values():
            if case.live is not None:
                case.live.stop()


def _timed(step: Callable[[], object]) -> Span:
    before = time.monotonic()
    step()
    return Span(before, time.monotonic())


def dump_sockets(where: LabNamespace, selector: Mapping[str, Any] | None = None) -> list[Socket]:
    """TCP sockets of a namespace in every state that match the selector."""
    (namespace,) = namespaces.resolve([where.name])
    host = Host()
    match = {"protocol": "tcp", "state": "all", **(selector or {})}
    with NamespaceSession(host, namespace) as session:
        return find(session, parse_selector(match, names=host), extensions=_INFO)
