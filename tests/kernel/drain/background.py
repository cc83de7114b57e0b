# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drains in namespaces of the lab, in the foreground or in the background of a test."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from linuxnet_sockets.destroy.model import DestroyOptions
from linuxnet_sockets.drain.drain import drain
from linuxnet_sockets.drain.model import DrainCommand, Report
from linuxnet_sockets.guard.limits import MaxSockets
from linuxnet_sockets.guard.options import Guard
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import connection, destroy_events
from linuxnet_sockets.query.record import extensions
from linuxnet_sockets.selector.parse import parse_selector
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import LabNamespace
from tests.support.topologies.waiting import until

# The test process holds the sockets, so the guard must not protect them as its own.
UNGUARDED = Guard(
    control_connection=False, ssh_sessions=False, loopback=False, listeners=False, kernel=False
)


def command_of(
    where: LabNamespace | Sequence[LabNamespace],
    match: Any,
    *,
    guard: Guard = UNGUARDED,
    max_sockets: MaxSockets | None = None,
    rate: float | None = None,
    check: bool = False,
    **options: Any,
) -> DrainCommand:
    spaces = [where] if isinstance(where, LabNamespace) else where
    return DrainCommand(
        parse_selector(match, names=Host(), role="destroy"),
        namespaces.resolve([space.name for space in spaces]),
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


class BackgroundDrain:
    """A drain in a thread. The constructor returns after its first snapshot.

    The grace period ends when the test calls end_grace.
    """

    def __init__(self, threads: ThreadPoolExecutor, command: DrainCommand, **seams: Any) -> None:
        self.waits = 0
        self.opened = 0
        self._ahead = 0.0
        host = Host(**seams)
        wait_for_events, host_sleep = host.wait_for_destroy_events, host.sleep

        def wait_for_destroy_events(
            sockets: Sequence[destroy_events.DestroyEventListener], seconds: float
        ) -> bool:
            self.waits += 1
            return wait_for_events(sockets, seconds)

        def sleep(seconds: float) -> None:
            self.waits += 1
            host_sleep(seconds)

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
        until(lambda: self.waits or self._report.done(), "the drain is waiting")
        assert not self._report.done()

    @property
    def is_done(self) -> bool:
        return self._report.done()

    def next_snapshot(self) -> None:
        """Wait for a complete snapshot that starts after this call."""
        before = self.opened
        until(lambda: self.opened > before + 1, "another snapshot")

    def end_grace(self) -> Report:
        """End the grace period and return the report."""
        self._ahead = 1000.0
        return self.report()

    def report(self) -> Report:
        return self._report.result(timeout=30)


Start = Callable[..., BackgroundDrain]


def close(held: HeldSocket) -> None:
    """Close both ends, the target first."""
    for sock in (held.target, held.peer):
        assert sock is not None
        sock.close()


def cookies(report: Report, outcome: str) -> set[int | None]:
    return {result.socket.cookie for result in report.results if result.outcome == outcome}
