# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: sleeps till something happens: a signal, or a descriptor."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


class Waiting:
    """Of one process; signals are for its main thread."""

    def __init__(self) -> None:
        self._wakeup, self._awakened = socket.socketpair()
        self._wakeup.setblocking(False)
        self._awakened.setblocking(False)

    def heed(self, handlers: Mapping[int, Callable[[], None]]) -> None:
        """Call these on signals, which end a wait as well."""
        signal.set_wakeup_fd(self._awakened.fileno(), warn_on_full_buffer=False)
        for number in handlers:
            signal.signal(number, lambda number, _frame: handlers[number]())

    def wait(
        self, seconds: float, watched: Iterable[HasDescriptor], *, later: Iterable[int] = ()
    ) -> set[int]:
        """At most so long; which of these can be read. later: signals that may wait as well: a
        storm of them costs nothing, and one of it is heeded in the end."""
        poller = select.poll()
        for each in (self._wakeup, *watched):
            poller.register(each, select.POLLIN)
        with _put_off(list(later)):
            ready = {descriptor for descriptor, _event in poller.poll(seconds * 1000)}
        if self._wakeup.fileno() in ready:
            self._wakeup.recv(4096)
        return ready

    def close(self) -> None:
        self._wakeup.close()
        self._awakened.close()


@contextmanager
def _put_off(signals: list[int]) -> Iterator[None]:
    """The kernel keeps one of each (signal(7)) till this is over."""
    if not signals:
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
