# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals end the demo only after everything that it made is removed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interrupts:
    """Raise Interrupted on a signal, but not while resources are created or removed."""

    def __init__(self) -> None:
        self._deferred = False
        self._pending = 0
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._deferred:
            self._pending = number
        else:
            raise Interrupted(number)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer signals to the end of the block."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._pending:
            number, self._pending = self._pending, 0
            raise Interrupted(number)
