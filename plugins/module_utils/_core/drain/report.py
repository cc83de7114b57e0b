# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what came of a drain, or of one step of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..destroy import outcomes
from ..destroy.outcomes import Result
from ..guard.limits import MaxSocketsExceeded
from ..sockets.socket import Socket
from .progress import Progress
from .quiescence import Bytes
from .tracker import PROTECTED, Key


class Mark(NamedTuple):
    """What a drain tells of a socket beside its record, as it was last seen.

    arrived: it came after the beginning. sent: nothing was on its way, and had not been for long
    enough. lost: what was; None where that is not known.
    """

    arrived: bool
    sent: bool
    lost: Bytes | None


@dataclass
class Report:
    """progress: of all steps so far. finished: false where another step has to follow.

    results: one for each socket that was destroyed in this step and, once finished, for each that
    was protected or that should have been destroyed. left: what is waited for still, or would have
    been destroyed if the order said so. refused: newcomers that ended the drain. exceeded: set
    where max_sockets was exceeded. marks: of the sockets in results and left. elapsed, grace_left:
    seconds. drained: nothing is left that the order waits for.
    """

    progress: Progress
    finished: bool = False
    results: list[Result] = field(default_factory=list)
    left: dict[Key, Socket] = field(default_factory=dict)
    refused: list[Socket] = field(default_factory=list)
    exceeded: MaxSocketsExceeded | None = None
    unlisted: frozenset[str] = frozenset()
    marks: dict[Key, Mark] = field(default_factory=dict)
    elapsed: float = 0.0
    grace_left: float = 0.0
    drained: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """How often each outcome came in all steps, in the order of the closed list."""
        counted = Counter(self.progress.counts)
        counted[outcomes.PROTECTED] = self.progress.watchlist.count(PROTECTED)
        return {outcome: counted[outcome] for outcome in outcomes.OUTCOMES if counted[outcome]}

    @property
    def by_state(self) -> dict[str, int]:
        """Of what is left, the most frequent state first."""
        return dict(Counter(sock.state for sock in self.left.values()).most_common())

    @property
    def matched(self) -> int:
        """All that were ever meant."""
        return self.progress.ended + sum(self.counts.values()) + len(self.left)

    @property
    def changed(self) -> bool:
        return not outcomes.CHANGING.isdisjoint(self.counts)

    @property
    def failed(self) -> bool:
        return bool(self.refused) or not outcomes.FAILING.isdisjoint(self.counts)

    def add(self, results: Iterable[Result]) -> None:
        """Take up what became of sockets; those are not left any more."""
        for result in results:
            self.results.append(result)
            self.left.pop(result.socket.identity, None)
            if result.outcome != outcomes.PROTECTED:
                self.progress.counts[result.outcome] += 1
