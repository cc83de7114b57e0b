# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The values of a drain: its options, its progress over all steps, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..destroy import outcomes
from ..destroy.model import DestroyOptions
from ..destroy.outcomes import Result
from ..guard.limits import MaxSocketsExceeded
from ..host.namespaces import Namespace
from ..selector.parse import Selector
from ..sockets.socket import Socket
from .quiescence import PendingBytes
from .tracker import PROTECTED, Key, Tracker

# Values of `until`. closed: the connection is gone or in TIME_WAIT. sent: closed, or quiescent.
CLOSED = "closed"
SENT = "sent"
UNTIL = (CLOSED, SENT)

# Values of `arrivals`: what to do with connections that start to match during the drain.
INCLUDE = "include"
IGNORE = "ignore"
FAIL = "fail"
ARRIVALS = (INCLUDE, IGNORE, FAIL)


@dataclass(frozen=True)
class DrainCommand:
    """Which connections to drain, and how.

    selector: parsed for the role "destroy". options: how the rest is destroyed; with
    options.check the drain does not wait. settle: seconds without data after which a connection
    counts as quiescent. grace: the longest wait in seconds. destroy: whether to destroy the rest.
    step: seconds after which to return, finished or not.
    """

    selector: Selector
    namespaces: Sequence[Namespace]
    options: DestroyOptions
    until: str = CLOSED
    settle: float = 1.0
    grace: float = 60.0
    destroy: bool = True
    arrivals: str = INCLUDE
    step: float | None = None


@dataclass
class Progress:
    """The progress of a drain over all steps so far.

    started: seconds on the clock of Host.monotonic, which all processes of a machine share. ended:
    connections that ended on their own. arrived: connections that started to match after the first
    snapshot. sent: destroyed connections that were quiescent. counts: sockets by outcome, without
    the protected ones, which the tracker counts. lost: bytes lost with destroyed connections.
    """

    started: float
    namespaces: list[Namespace]
    tracker: Tracker = field(default_factory=Tracker)
    ended: int = 0
    arrived: int = 0
    sent: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    lost: PendingBytes = field(default_factory=PendingBytes)

    @property
    def destroyed(self) -> int:
        """The number of sockets that were destroyed or disconnected."""
        return sum(self.counts[outcome] for outcome in outcomes.CHANGING)


class SocketDetails(NamedTuple):
    """Fields that a report adds to the record of a socket, as of its last dump.

    arrived: it started to match after the first snapshot. sent: it was quiescent. lost: its pending
    bytes; None: unknown.
    """

    arrived: bool
    sent: bool
    lost: PendingBytes | None


@dataclass
class Report:
    """The state of a drain after a step.

    progress: of all steps so far. finished: False if another step must follow. results: one for
    each socket destroyed in this step; once finished, also one for each protected socket and for
    each that should have been destroyed. left: connections that the drain waits for, or that
    command.destroy left in place. forbidden_arrivals: arrivals that ended the drain, with
    arrivals=fail. exceeded: set if max_sockets was exceeded. unlisted: protocols that the kernel
    cannot list. details: of the sockets in results and left. elapsed, grace_left: seconds.
    drained: nothing is left that the drain waits for.
    """

    progress: Progress
    finished: bool = False
    results: list[Result] = field(default_factory=list)
    left: dict[Key, Socket] = field(default_factory=dict)
    forbidden_arrivals: list[Socket] = field(default_factory=list)
    exceeded: MaxSocketsExceeded | None = None
    unlisted: frozenset[str] = frozenset()
    details: dict[Key, SocketDetails] = field(default_factory=dict)
    elapsed: float = 0.0
    grace_left: float = 0.0
    drained: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """The number of sockets by outcome, of all steps, in the order of OUTCOMES."""
        counted = Counter(self.progress.counts)
        counted[outcomes.PROTECTED] = self.progress.tracker.count(PROTECTED)
        return {outcome: counted[outcome] for outcome in outcomes.OUTCOMES if counted[outcome]}

    @property
    def by_state(self) -> dict[str, int]:
        """The number of remaining connections by state, the most frequent state first."""
        return dict(Counter(sock.state for sock in self.left.values()).most_common())

    @property
    def matched(self) -> int:
        """The number of connections that the drain covered at any time."""
        return self.progress.ended + sum(self.counts.values()) + len(self.left)

    @property
    def changed(self) -> bool:
        """Whether at least one socket was destroyed or disconnected."""
        return not outcomes.CHANGING.isdisjoint(self.counts)

    @property
    def failed(self) -> bool:
        """Whether an arrival ended the drain, or an outcome counts as a failure."""
        return bool(self.forbidden_arrivals) or not outcomes.FAILING.isdisjoint(self.counts)

    def add(self, results: Iterable[Result]) -> None:
        """Add results, and remove their sockets from those left."""
        for result in results:
            self.results.append(result)
            self.left.pop(result.socket.identity, None)
            if result.outcome != outcomes.PROTECTED:
                self.progress.counts[result.outcome] += 1
