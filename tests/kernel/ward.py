# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that are watched: for how long the core says that they are stuck, and for how long
they really have been, by the clock of the test."""

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
from tests.support.topologies.bed import Bed, Live
from tests.support.topologies.states import Held
from tests.support.topologies.stuck import Steps
from tests.support.topologies.topology import Lab, LabNamespace, Pair

_INFO = inet_diag.extension_bits([inet_diag.INFO])
# Longer than anything here lasts.
_EVER_MS = 1 << 17
# (namespace's name, local port, remote port)
Key = tuple[str, int, int]


class Span(NamedTuple):
    """When something began, on time.monotonic(): not before earliest, not after latest."""

    earliest: float
    latest: float


class Sample(NamedTuple):
    """What one look said of one socket: for each verdict its proven milliseconds, or None.

    before, after: when the look began and ended. subject: for a failing test to show.
    """

    before: float
    after: float
    bounds: Mapping[str, int | None]
    socket: Socket


@dataclass
class Case:
    """A connection with what is known of it.

    connected, early, late: when the steps were taken.
    """

    name: str
    held: Held
    connected: Span
    early: Span
    late: Span
    live: Live | None
    samples: list[Sample] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return self.held.where.name, self.held.local[1], self.held.remote[1]


def bounds(sock: Socket) -> dict[str, int | None]:
    """For each verdict: the longest time for which it is true; None: not even for none."""
    return {name: _bound(sock, name) for name in stuck.STUCK}


def _bound(sock: Socket, name: str) -> int | None:
    if not stuck.evaluate(sock, name, 0):
        return None
    if stuck.evaluate(sock, name, _EVER_MS):
        return _EVER_MS
    least, most = 0, _EVER_MS
    while most - least > 1:
        middle = (least + most) // 2
        if stuck.evaluate(sock, name, middle):
            least = middle
        else:
            most = middle
    return least


class Ward:
    """Two pairs of namespaces, full of cases. The plain one does without timestamps (RFC 7323);
    in the other one each timeout of a SYN is twice the last one, as before Linux 6.5."""

    def __init__(self, lab: Lab) -> None:
        self._pairs = {True: Pair(lab), False: Pair(lab)}
        self._pairs[True].client.sysctl("ipv4/tcp_timestamps", 0)
        with contextlib.suppress(OSError):
            self._pairs[False].client.sysctl("ipv4/tcp_syn_linear_timeouts", 0)
        self.cases: dict[str, Case] = {}

    def admit(
        self, wanted: Mapping[str, tuple[Callable[[Bed], Steps], str, bool]], age: float
    ) -> None:
        """Make the cases, by name: (function, kind, whether in the plain pair).

        age: seconds between what is done early and what is done late.
        """
        made: dict[str, tuple[Steps, Span]] = {}
        for name, (function, kind, plain) in wanted.items():
            before = time.monotonic()
            steps = function(Bed(self._pairs[plain], kind))
            made[name] = steps, Span(before, time.monotonic())
        with ThreadPoolExecutor(len(made)) as threads:
            jobs = {
                name: threads.submit(_timed, steps.early) for name, (steps, _span) in made.items()
            }
            early = {name: job.result() for name, job in jobs.items()}
        time.sleep(age)
        for name, (steps, connected) in made.items():
            late = _timed(steps.late)
            live = None if steps.turn is None else Live(steps.turn, steps.pause)
            self.cases[name] = Case(name, steps.held, connected, early[name], late, live)

    def watch(self, seconds: float, pause: float) -> None:
        """Look at all, again and again."""
        over = time.monotonic() + seconds
        by_key = {case.key: case for case in self.cases.values()}
        while time.monotonic() < over:
            for where in self._namespaces():
                before = time.monotonic()
                sockets = look(where)
                after = time.monotonic()
                for sock in sockets:
                    case = by_key.get((where.name, sock.local_port, sock.remote_port))
                    if case is not None:
                        sample = Sample(before, after, bounds(sock), sock)
                        case.samples.append(sample)
            time.sleep(pause)

    def _namespaces(self) -> Iterator[LabNamespace]:
        for pair in self._pairs.values():
            yield pair.client
            yield pair.server

    def found(self, selector: Mapping[str, Any]) -> set[str]:
        """The cases for whose sockets the selector is true."""
        keys = {
            (where.name, sock.local_port, sock.remote_port)
            for where in self._namespaces()
            for sock in look(where, selector)
        }
        return {name for name, case in self.cases.items() if case.key in keys}

    def records(self) -> dict[str, dict[str, Any]]:
        """The record of each case's socket, as far as there is one, with its verdicts."""
        keys = {case.key: name for name, case in self.cases.items()}
        return {
            keys[key]: record(sock, ["verdicts"])
            for where in self._namespaces()
            for sock in look(where)
            if (key := (where.name, sock.local_port, sock.remote_port)) in keys
        }

    def release(self) -> None:
        """End what goes on. Raises what went wrong meanwhile."""
        for case in self.cases.values():
            if case.live is not None:
                case.live.stop()


def _timed(step: Callable[[], object]) -> Span:
    before = time.monotonic()
    step()
    return Span(before, time.monotonic())


def look(where: LabNamespace, selector: Mapping[str, Any] | None = None) -> list[Socket]:
    """The TCP sockets of a namespace, in every state, for which the selector is true."""
    (namespace,) = namespaces.resolve([where.name])
    host = Host()
    match = {"protocol": "tcp", "state": "all", **(selector or {})}
    with NamespaceSession(host, namespace) as session:
        return find(session, parse_selector(match, names=host), extensions=_INFO)
