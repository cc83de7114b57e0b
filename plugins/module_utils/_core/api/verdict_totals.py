# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""How many sockets of a namespace have which verdict.

The sockets are not kept, so memory stays small however many there are. Only the names of their
verdicts are, and the ends of silent connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..netlink import inet_diag
from ..sockets.session import NamespaceSession
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from ..verdicts import stuck
from ..verdicts.route_state import EXTENSIONS, RouteState
from ..verdicts.stranded import STRANDED
from ..verdicts.stuck import STUCK
from ..verdicts.superseded import (
    DEFAULT_SILENT_MS,
    PeerActivity,
    PeerKey,
    peer_key,
    silence_ms,
)

# How many sockets' routes are looked up at once; as many sockets are kept until then.
_BATCH = 2048

Counts = Counter[tuple[str, str]]


class SocketVerdicts:
    """The names of one socket's verdicts.

    silent: (ends, cookie, silent for how many milliseconds); None unless nothing was received.
    """

    __slots__ = ("silent", "stranded", "stuck")

    def __init__(self, stuck_as: tuple[str, ...]) -> None:
        self.stuck = stuck_as
        self.stranded: tuple[str, ...] = ()
        self.silent: tuple[PeerKey, int, int] | None = None


_NONE: tuple[str, ...] = ()


class VerdictTotals:
    """Evaluates the sockets of one snapshot while they are dumped."""

    extensions = inet_diag.extension_bits([inet_diag.INFO]) | EXTENSIONS

    def __init__(self, session: NamespaceSession, snapshot: Snapshot) -> None:
        self._session = session
        self._snapshot = snapshot
        self._pending: list[tuple[SocketVerdicts, Socket]] = []

    def verdicts_of(self, sock: Socket) -> SocketVerdicts:
        """Its verdicts; `stranded` is complete once totals() was called."""
        found = stuck.verdicts(sock)
        verdicts = SocketVerdicts(tuple(each.verdict for each in found) if found else _NONE)
        peer, silent = peer_key(sock), silence_ms(sock)
        if peer is not None and silent is not None and silent >= DEFAULT_SILENT_MS:
            verdicts.silent = peer, sock.cookie, silent
        if sock.has_remote:
            self._pending.append((verdicts, sock))
            if len(self._pending) >= _BATCH:
                self._look_up_routes()
        return verdicts

    def _look_up_routes(self) -> None:
        route_state = RouteState.of(self._snapshot)
        route_state.load(sock for _verdicts, sock in self._pending)
        for verdicts, sock in self._pending:
            found = route_state.verdicts(sock)
            if found:
                verdicts.stranded = tuple(each.verdict for each in found)
        self._pending = []

    def totals(self, found: Sequence[SocketVerdicts]) -> Counts:
        """How many of these have each verdict, by (key of a record, name)."""
        if self._pending:
            self._look_up_routes()
        counts: Counts = Counter()
        for verdicts in found:
            counts.update(("stuck", name) for name in verdicts.stuck)
            counts.update(("stranded", name) for name in verdicts.stranded)
        silent = [verdicts.silent for verdicts in found if verdicts.silent is not None]
        counts["superseded", ""] = self._superseded(silent)
        return counts

    def _superseded(self, silent: Sequence[tuple[PeerKey, int, int]]) -> int:
        activity = PeerActivity.of(self._snapshot)
        activity.load(self._session.diag, self._snapshot, (peer for peer, *_rest in silent))
        return sum(
            bool(activity.find_successor(peer, cookie, silent_ms))
            and activity.is_service_port(self._snapshot, peer[1])
            for peer, cookie, silent_ms in silent
        )


def nested_verdicts(counts: Counts) -> dict[str, Any]:
    """{stuck: {name: count}, stranded: {name: count}, superseded: count}, with every name."""
    return {
        "stuck": {name: counts["stuck", name] for name in STUCK},
        "stranded": {name: counts["stranded", name] for name in STRANDED},
        "superseded": counts["superseded", ""],
    }
