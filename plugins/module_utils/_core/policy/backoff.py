# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: leaves alone for a while what comes back again and again.

A client whose connections are destroyed connects anew, each time from another port of its own. The
first few of these are destroyed as they come; after that the waits double.
"""

from __future__ import annotations

from typing import NamedTuple

from ..host.namespaces import Identity

# So many times in a row nothing is waited for.
FREE_ROUNDS = 3
_FIRST_MS = 2_000
LONGEST_MS = 300_000
# Without being destroyed for so long it begins anew.
_FORGOTTEN_MS = 2 * LONGEST_MS
MOST_TARGETS = 4_096


class Target(NamedTuple):
    """Where connections lead: their ends without the local port. Addresses of 4 or 16 bytes."""

    namespace: Identity
    protocol: str
    local: bytes
    remote: bytes
    remote_port: int


class Waiting(NamedTuple):
    """rounds: how often in a row it was destroyed. until_ms: nothing is destroyed before."""

    rounds: int
    last_ms: int
    until_ms: int


class BackOff:
    """Exponential, for each target by itself. Beyond MOST_TARGETS that which was destroyed longest
    ago is forgotten."""

    def __init__(self) -> None:
        self._targets: dict[Target, Waiting] = {}

    def __len__(self) -> int:
        return len(self._targets)

    def until_ms(self, target: Target, now_ms: int) -> int | None:
        """Before when the target is left alone; None: it is not."""
        waiting = self._targets.get(target)
        if waiting is None or waiting.until_ms <= now_ms:
            return None
        return waiting.until_ms

    def note(self, target: Target, now_ms: int, *, failed: bool) -> None:
        """Connections to the target were destroyed, or could not be: then it is waited at once."""
        known = self._targets.pop(target, None)
        if known is not None and now_ms - known.last_ms >= _FORGOTTEN_MS:
            known = None
        rounds = 1 if known is None else known.rounds + 1
        if failed:
            rounds = max(rounds, FREE_ROUNDS)
        doubled = min(max(rounds - FREE_ROUNDS, 0), 32)
        delay = 0 if rounds < FREE_ROUNDS else min(_FIRST_MS << doubled, LONGEST_MS)
        # Put behind the others: so the first is the one that was destroyed longest ago.
        self._targets[target] = Waiting(rounds, now_ms, now_ms + delay)
        if len(self._targets) > MOST_TARGETS:
            del self._targets[next(iter(self._targets))]

    def waiting(self, now_ms: int) -> dict[Target, Waiting]:
        """The targets that are left alone now."""
        return {
            target: waiting
            for target, waiting in self._targets.items()
            if waiting.until_ms > now_ms
        }

    def forget_old(self, now_ms: int) -> None:
        self._targets = {
            target: waiting
            for target, waiting in self._targets.items()
            if now_ms - waiting.last_ms < _FORGOTTEN_MS
        }
