# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drains on a fake machine with a scripted clock."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from linuxnet_sockets.destroy.model import DestroyOptions
from linuxnet_sockets.drain.drain import drain
from linuxnet_sockets.drain.model import DrainCommand, Progress, Report
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.query.record import extensions
from linuxnet_sockets.selector.parse import parse_selector
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_machine import FakeMachine, connection

ALL = {"state": "all", "protocol": ["tcp", "udp"]}
QUIET = {"last_data_sent": 60_000, "last_data_recv": 60_000}


class FakeDestroyEvents:
    """Destroy notifications of one namespace.

    lost: the next call of take_cookies reports dropped notifications.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.cookies: list[int] = []
        self.lost = False
        self.closed = False

    def fileno(self) -> int:
        return -1

    def take_cookies(self) -> frozenset[int] | None:
        lost, self.lost = self.lost, False
        cookies, self.cookies = self.cookies, []
        return None if lost else frozenset(cookies)

    def close(self) -> None:
        self.closed = True


class Timeline(FakeMachine):
    """A fake machine whose clock advances only in waits, and by snapshot_takes_s per snapshot.

    snapshots: the time of each snapshot in seconds since the start. listeners: all that were ever
    opened. without_subscription: opening a listener fails.
    """

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.now = 1000.0
        self.snapshots: list[float] = []
        self.listeners: list[FakeDestroyEvents] = []
        self.without_subscription = False
        self.snapshot_takes_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    @property
    def host(self) -> Host:
        return dataclasses.replace(
            super().host,
            open_netlink=self._open,
            open_destroy_events=self._listen,
            wait_for_destroy_events=self._wait,
        )

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Run the action at a time, in seconds since the start."""
        heapq.heappush(self._events, (1000.0 + seconds, next(self._numbers), action))

    def ends(self, seconds: float, *socks: FakeSocket, notify: bool = True) -> None:
        """Remove the sockets at a time; notify: with destroy notifications."""

        def end() -> None:
            for sock in socks:
                self.sockets.remove(sock)
                if notify:
                    self.notify(sock.cookie)

        self.at(seconds, end)

    def notify(self, cookie: int, name: str = "current") -> None:
        for listener in self.listeners:
            if listener.name == name and not listener.closed:
                listener.cookies.append(cookie)

    def sleep(self, seconds: float) -> None:
        self._advance(self.now + seconds, lambda: False)

    def _wait(self, listeners: Sequence[FakeDestroyEvents], seconds: float) -> bool:
        def is_ready() -> bool:
            return any(listener.cookies or listener.lost for listener in listeners)

        return is_ready() or self._advance(self.now + seconds, is_ready)

    def _advance(self, until: float, is_ready: Callable[[], bool]) -> bool:
        while self._events and self._events[0][0] <= until:
            at, _number, action = heapq.heappop(self._events)
            self.now = max(self.now, at)
            action()
            if is_ready():
                return True
        self.now = max(self.now, until)
        return False

    def _open(self, namespace: Namespace, protocol: int) -> Any:
        if protocol == 4:
            self.snapshots.append(round(self.now - 1000.0, 3))
            self.sleep(self.snapshot_takes_s)
        return self.open(namespace, protocol)

    def _listen(self, namespace: Namespace) -> FakeDestroyEvents:
        if self.without_subscription:
            raise OSError(1, "not permitted")
        self.listeners.append(FakeDestroyEvents(namespace.name))
        return self.listeners[-1]

    def run(
        self,
        match: Any = None,
        *,
        protect: Any = None,
        namespaces: Sequence[Namespace] | None = None,
        progress: Progress | None = None,
        destroy_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> Report:
        command = DrainCommand(
            parse_selector(ALL if match is None else match, names=self.host, role="destroy"),
            namespaces or [self.namespace],
            DestroyOptions(
                self.guard(protect), extensions=extensions(()), **(destroy_options or {})
            ),
            **options,
        )
        report = drain(self.host, command, progress)
        assert [sock for sock in self.kernel.opened if not sock.closed] == []
        assert [listener for listener in self.listeners if not listener.closed] == []
        return report

    def connect(self, port: int, **fields: Any) -> FakeSocket:
        """Add an established TCP connection that the guard does not protect."""
        return self.add(connection(local_port=port, **fields))


def outcomes_of(report: Report) -> dict[int, str]:
    return {result.socket.cookie: result.outcome for result in report.results}


def left_of(report: Report) -> list[int]:
    return [cookie for _name, _protocol, cookie in report.left]
