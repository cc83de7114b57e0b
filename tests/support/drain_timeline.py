# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up machine on which things happen at their time, and drains that run on it."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from linuxnet_sockets.destroy.model import DestroyOptions
from linuxnet_sockets.drain.drain import drain
from linuxnet_sockets.drain.model import DrainCommand
from linuxnet_sockets.drain.progress import Progress
from linuxnet_sockets.drain.report import Report
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.query.record import extensions
from linuxnet_sockets.selector.parse import parse_selector
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_machine import Machine, connection

ALL = {"state": "all", "protocol": ["tcp", "udp"]}
QUIET = {"last_data_sent": 60_000, "last_data_recv": 60_000}


class FakeDestroyEvents:
    """What is told of in one namespace; lost: None is what the next call gives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[int] = []
        self.lost = False
        self.closed = False

    def fileno(self) -> int:
        return -1

    def take_cookies(self) -> frozenset[int] | None:
        lost, self.lost = self.lost, False
        told, self.told = self.told, []
        return None if lost else frozenset(told)

    def close(self) -> None:
        self.closed = True


class Timeline(Machine):
    """Nothing takes time but waiting, unless look_takes says so, for each look.

    looks: when each namespace was looked at; listening: all that ever were; deaf: none may be.
    """

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.now = 1000.0
        self.looks: list[float] = []
        self.listening: list[FakeDestroyEvents] = []
        self.deaf = False
        self.look_takes = 0.0
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
        """Do it so long after the beginning."""
        heapq.heappush(self._events, (1000.0 + seconds, next(self._numbers), action))

    def ends(self, seconds: float, *socks: FakeSocket, told: bool = True) -> None:
        """They are gone by then, and the kernel says so, or does not."""

        def end() -> None:
            for sock in socks:
                self.sockets.remove(sock)
                if told:
                    self.tell(sock.cookie)

        self.at(seconds, end)

    def tell(self, cookie: int, name: str = "current") -> None:
        for each in self.listening:
            if each.name == name and not each.closed:
                each.told.append(cookie)

    def sleep(self, seconds: float) -> None:
        self._advance(self.now + seconds, lambda: False)

    def _wait(self, notices: Sequence[FakeDestroyEvents], seconds: float) -> bool:
        def woken() -> bool:
            return any(each.told or each.lost for each in notices)

        return woken() or self._advance(self.now + seconds, woken)

    def _advance(self, until: float, enough: Callable[[], bool]) -> bool:
        while self._events and self._events[0][0] <= until:
            at, _number, action = heapq.heappop(self._events)
            self.now = max(self.now, at)
            action()
            if enough():
                return True
        self.now = max(self.now, until)
        return False

    def _open(self, namespace: Namespace, protocol: int) -> Any:
        if protocol == 4:
            self.looks.append(round(self.now - 1000.0, 3))
            self.sleep(self.look_takes)
        return self.open(namespace, protocol)

    def _listen(self, namespace: Namespace) -> FakeDestroyEvents:
        if self.deaf:
            raise OSError(1, "not here")
        self.listening.append(FakeDestroyEvents(namespace.name))
        return self.listening[-1]

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
        assert [each for each in self.kernel.opened if not each.closed] == []
        assert [each for each in self.listening if not each.closed] == []
        return report

    def connect(self, port: int, **fields: Any) -> FakeSocket:
        """An established TCP connection that nothing protects."""
        return self.add(connection(local_port=port, **fields))


def outcomes_of(report: Report) -> dict[int, str]:
    return {result.socket.cookie: result.outcome for result in report.results}


def left_of(report: Report) -> list[int]:
    return [cookie for _label, _protocol, cookie in report.left]
