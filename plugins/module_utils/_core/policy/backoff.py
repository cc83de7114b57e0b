# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Backoff per user and destination, for clients that reconnect after each destroy.

A client that reconnects uses another local port each time, so the local port does not count. The
third connection in a row is the last to be destroyed at once. Then each one lives for two seconds
at least, and no longer: a user must not gain time by reconnecting. While attempts fail, the delay
doubles up to five minutes.
"""

from __future__ import annotations

from typing import NamedTuple

from ..host.namespaces import Identity

# The delay starts after this number of destroyed connections in a row.
FREE_ATTEMPTS = 3
_FIRST_DELAY_MS = 2_000
MAX_DELAY_MS = 300_000
# The count starts again after this time without a destroyed connection.
_RESET_MS = 2 * MAX_DELAY_MS
MAX_DESTINATIONS = 4_096


class Destination(NamedTuple):
    """Endpoints of a connection without the local port. Addresses of 4 or 16 bytes.

    uid: of the socket's user, who must not delay the destruction of the sockets of others. None:
    it has none.
    """

    namespace: Identity
    protocol: str
    local: bytes
    remote: bytes
    remote_port: int
    uid: int | None


class Delay(NamedTuple):
    """Backoff of one destination. Milliseconds of CLOCK_MONOTONIC.

    attempts: how often in a row its connections were destroyed. last_ms: when that happened last.
    until_ms: its connections are not destroyed before.
    """

    attempts: int
    last_ms: int
    until_ms: int


class Backoff:
    """Delays by destination. Above MAX_DESTINATIONS it forgets the least recently destroyed."""

    def __init__(self) -> None:
        # In the order of last_ms.
        self._delays: dict[Destination, Delay] = {}

    def __len__(self) -> int:
        return len(self._delays)

    def until_ms(self, destination: Destination, now_ms: int) -> int | None:
        """When the delay of a destination ends; None: there is none now."""
        delay = self._delays.get(destination)
        if delay is None or delay.until_ms <= now_ms:
            return None
        return delay.until_ms

    def record(self, destination: Destination, now_ms: int, *, failed: bool) -> None:
        """Record an attempt to destroy connections to a destination.

        failed: a connection still exists, so the delay starts at once.
        """
        known = self._delays.pop(destination, None)
        if known is not None and now_ms - known.last_ms >= _RESET_MS:
            known = None
        attempts = 1 if known is None else known.attempts + 1
        if failed:
            attempts = max(attempts, FREE_ATTEMPTS)
        doublings = min(max(attempts - FREE_ATTEMPTS, 0), 32)
        delay_ms = 0 if attempts < FREE_ATTEMPTS else _FIRST_DELAY_MS << doublings
        longest_ms = MAX_DELAY_MS if failed else _FIRST_DELAY_MS
        self._delays[destination] = Delay(attempts, now_ms, now_ms + min(delay_ms, longest_ms))
        if len(self._delays) > MAX_DESTINATIONS:
            del self._delays[next(iter(self._delays))]

    def active(self, now_ms: int) -> dict[Destination, Delay]:
        """Destinations whose delay has not ended."""
        return {
            destination: delay
            for destination, delay in self._delays.items()
            if delay.until_ms > now_ms
        }

    def expire(self, now_ms: int) -> None:
        """Forget destinations without a destroyed connection for ten minutes."""
        self._delays = {
            destination: delay
            for destination, delay in self._delays.items()
            if now_ms - delay.last_ms < _RESET_MS
        }
