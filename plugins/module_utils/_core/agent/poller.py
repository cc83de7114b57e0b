# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Waiting for descriptors and signals with poll(2)."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


class Poller:
    """Waits for descriptors and signals of this process. Use signals in the main thread only."""

    def __init__(self) -> None:
        self._wakeup_reader, self._wakeup_writer = socket.socketpair()
        self._wakeup_reader.setblocking(False)
        self._wakeup_writer.setblocking(False)

    def on_signals(self, handlers: Mapping[int, Callable[[], None]]) -> None:
        """Call a handler for each of these signals. A signal also ends poll()."""
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)
        for number in handlers:
            signal.signal(number, lambda number, _frame: handlers[number]())

    def poll(
        self,
        seconds: float,
        sources: Iterable[HasDescriptor],
        *,
        writers: Iterable[HasDescriptor] = (),
        block_signals: Iterable[int] = (),
    ) -> set[int]:
        """Wait, and return the readable descriptors, and the writable ones of the writers.

        seconds: the timeout. block_signals: signals to block during the wait. The kernel keeps
        one of each pending (signal(7)), so a flood of them costs nothing.
        """
        poller = select.poll()
        for source in (self._wakeup_reader, *sources):
            poller.register(source, select.POLLIN)
        for writer in writers:
            poller.register(writer, select.POLLOUT)
        with _signals_blocked(list(block_signals)):
            ready = {descriptor for descriptor, _event in poller.poll(seconds * 1000)}
        if self._wakeup_reader.fileno() in ready:
            self._wakeup_reader.recv(4096)
        return ready

    def close(self) -> None:
        self._wakeup_reader.close()
        self._wakeup_writer.close()


@contextmanager
def _signals_blocked(signals: list[int]) -> Iterator[None]:
    if not signals:
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
