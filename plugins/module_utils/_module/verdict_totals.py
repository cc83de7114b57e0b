# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: how many sockets of a namespace have which verdict.

The sockets themselves are let go of as they pass, however many they are: only names are kept, and
of those that nobody was heard of on, their ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .._core.netlink import inet_diag
from .._core.sockets.session import NamespaceSession
from .._core.sockets.snapshot import Snapshot
from .._core.sockets.socket import Socket
from .._core.verdicts import stuck
from .._core.verdicts.route_state import EXTENSIONS, RouteState
from .._core.verdicts.stranded import STRANDED
from .._core.verdicts.stuck import STUCK
from .._core.verdicts.superseded import (
    DEFAULT_SILENT_MS,
    PeerActivity,
    Slot,
    peer_key,
    silence_ms,
)

# So many sockets' routes are asked for at once, and so many are held meanwhile.
_AT_ONCE = 2048

Counts = Counter[tuple[str, str]]


class Judged:
    """What was found of one socket: the names of its verdicts, and if it is silent, its place.

    silent: (ends, cookie, for how many milliseconds).
    """

    __slots__ = ("silent", "stranded", "stuck")

    def __init__(self, stuck_as: tuple[str, ...]) -> None:
        self.stuck = stuck_as
        self.stranded: tuple[str, ...] = ()
        self.silent: tuple[Slot, int, int] | None = None


_SOUND: tuple[str, ...] = ()


class VerdictTotals:
    """Judges the sockets of one look as they are listed."""

    extensions = inet_diag.extension_bits([inet_diag.INFO]) | EXTENSIONS

    def __init__(self, session: NamespaceSession, snapshot: Snapshot) -> None:
        self._view = session
        self._environment = snapshot
        self._waiting: list[tuple[Judged, Socket]] = []

    def judged(self, sock: Socket) -> Judged:
        """The verdicts upon it: complete when totals() is asked for."""
        found = stuck.verdicts(sock)
        judged = Judged(tuple(each.verdict for each in found) if found else _SOUND)
        slot, silent = peer_key(sock), silence_ms(sock)
        if slot is not None and silent is not None and silent >= DEFAULT_SILENT_MS:
            judged.silent = slot, sock.cookie, silent
        if sock.has_remote:
            self._waiting.append((judged, sock))
            if len(self._waiting) >= _AT_ONCE:
                self._ask()
        return judged

    def _ask(self) -> None:
        route_state = RouteState.of(self._environment)
        route_state.load(sock for _judged, sock in self._waiting)
        for judged, sock in self._waiting:
            found = route_state.verdicts(sock)
            if found:
                judged.stranded = tuple(each.verdict for each in found)
        self._waiting = []

    def totals(self, found: Sequence[Judged]) -> Counts:
        """How many of these have each verdict, by (key of a record, name)."""
        if self._waiting:
            self._ask()
        counts: Counts = Counter()
        for judged in found:
            counts.update(("stuck", name) for name in judged.stuck)
            counts.update(("stranded", name) for name in judged.stranded)
        silent = [judged.silent for judged in found if judged.silent is not None]
        counts["superseded", ""] = self._superseded(silent)
        return counts

    def _superseded(self, silent: Sequence[tuple[Slot, int, int]]) -> int:
        activity = PeerActivity.of(self._environment)
        activity.load(self._view.diag, self._environment, (slot for slot, *_rest in silent))
        return sum(
            bool(activity.find_successor(slot, cookie, silent_ms))
            and activity.is_service_port(self._environment, slot[1])
            for slot, cookie, silent_ms in silent
        )


def nested_verdicts(counts: Counts) -> dict[str, Any]:
    """{stuck: {name: count}, stranded: {name: count}, superseded: count}, with every name."""
    return {
        "stuck": {name: counts["stuck", name] for name in STUCK},
        "stranded": {name: counts["stranded", name] for name in STRANDED},
        "superseded": counts["superseded", ""],
    }
