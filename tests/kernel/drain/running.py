# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drains in namespaces of the lab, and such as go on while a test goes on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from linuxnet_sockets.destroy.model import DestroyOptions
from linuxnet_sockets.drain.drain import drain
from linuxnet_sockets.drain.model import DrainCommand
from linuxnet_sockets.drain.report import Report
from linuxnet_sockets.guard.limits import MaxSockets
from linuxnet_sockets.guard.options import Guard
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import connection, destroy_events
from linuxnet_sockets.query.record import extensions
from linuxnet_sockets.selector.parse import parse_selector
from tests.support.topologies.states import Held
from tests.support.topologies.topology import LabNamespace
from tests.support.topologies.waiting import until

# The test holds the sockets itself, so its own and its ancestors' must not be protected.
OPEN = Guard(
    control_connection=False, ssh_sessions=False, loopback=False, listeners=False, kernel=False
)


def command_of(
    where: LabNamespace | Sequence[LabNamespace],
    match: Any,
    *,
    guard: Guard = OPEN,
    max_sockets: MaxSockets | None = None,
    rate: float | None = None,
    check: bool = False,
    **options: Any,
) -> DrainCommand:
    spaces = [where] if isinstance(where, LabNamespace) else where
    return DrainCommand(
        parse_selector(match, names=Host(), role="destroy"),
        namespaces.resolve([each.name for each in spaces]),
        DestroyOptions(
            guard,
            max_sockets=max_sockets,
            rate=rate,
            check=check,
            extensions=extensions(()),
        ),
        **options,
    )


def run(where: LabNamespace | Sequence[LabNamespace], match: Any, **options: Any) -> Report:
    return drain(Host(), command_of(where, match, **options))


class Running:
    """A drain in a thread of its own; it has looked for the first time when this is there.

    Its grace is over when the test says so.
    """

    def __init__(self, threads: ThreadPoolExecutor, command: DrainCommand, **seams: Any) -> None:
        self.waits = 0
        self.opened = 0
        self._ahead = 0.0
        host = Host(**seams)
        listened, slept = host.wait_for_destroy_events, host.sleep

        def wait_for_destroy_events(
            sockets: Sequence[destroy_events.DestroyEventListener], seconds: float
        ) -> bool:
            self.waits += 1
            return listened(sockets, seconds)

        def sleep(seconds: float) -> None:
            self.waits += 1
            slept(seconds)

        def open_netlink(
            namespace: namespaces.Namespace, protocol: int
        ) -> connection.NetlinkSocket:
            self.opened += protocol == connection.NETLINK_SOCK_DIAG
            return namespaces.open_netlink(namespace, protocol)

        host = dataclasses.replace(
            host,
            open_netlink=open_netlink,
            wait_for_destroy_events=wait_for_destroy_events,
            sleep=sleep,
            monotonic=lambda: time.monotonic() + self._ahead,
        )
        self._report: Future[Report] = threads.submit(drain, host, command)
        until(lambda: self.waits or self._report.done(), "the drain waits")
        assert not self._report.done()

    @property
    def over(self) -> bool:
        return self._report.done()

    def looked(self) -> None:
        """It has looked once more since this was called: the look after that one has begun."""
        before = self.opened
        until(lambda: self.opened > before + 1, "another look")

    def last(self) -> Report:
        """What comes of it when its time is over now."""
        self._ahead = 1000.0
        return self.report()

    def report(self) -> Report:
        return self._report.result(timeout=30)


Start = Callable[..., Running]


def close(held: Held) -> None:
    """Both ends, the target's first."""
    for sock in (held.target, held.peer):
        assert sock is not None
        sock.close()


def cookies(report: Report, outcome: str) -> set[int | None]:
    return {result.socket.cookie for result in report.results if result.outcome == outcome}
