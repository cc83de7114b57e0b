# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Options, targets, plans and reports of destroying sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ..guard.limits import MaxSockets, MaxSocketsExceeded
from ..guard.options import Guard
from ..guard.reason import Reason
from ..host.namespaces import Namespace
from ..sockets.socket import Socket
from . import outcomes
from .outcomes import Result


@dataclass(frozen=True)
class DestroyOptions:
    """How to destroy sockets, whichever sockets they are.

    engine: a name of engines.registry. rate: sockets per second at most; None: no limit.
    max_sockets: above it nothing is destroyed. check: forecast the outcomes and destroy nothing.
    extensions: more idiag_ext bits to request, so that the records of the results are complete.
    """

    guard: Guard
    engine: str = "netlink"
    rate: float | None = None
    max_sockets: MaxSockets | None = None
    check: bool = False
    extensions: int = 0


class Target(NamedTuple):
    """A selected socket, and why the guard protects it; None: it does not."""

    socket: Socket
    protected_by: Reason | None = None


def make_targets(sockets: Iterable[Socket], reasons: Iterable[Reason | None]) -> list[Target]:
    """One target for each socket and its reason."""
    # Target(...) without its Python frame: 20,000 sockets pass through here.
    new = tuple.__new__
    return [new(Target, pair) for pair in zip(sockets, reasons)]


@dataclass(frozen=True)
class Plan:
    """The targets of one namespace.

    population: the base of a max_sockets share, which counts the unprotected sockets of all
    selected protocols; 0 if max_sockets is no share. unlisted: protocols that the selector admits
    and that the kernel cannot list.
    """

    namespace: Namespace
    targets: Sequence[Target]
    population: int = 0
    unlisted: frozenset[str] = frozenset()

    @cached_property
    def unprotected(self) -> list[Socket]:
        """The sockets to destroy, in the order of the targets."""
        return [socket for socket, protected_by in self.targets if protected_by is None]


def check_max_sockets(
    limit: MaxSockets | None, plans: Sequence[Plan], destroyed_before: int = 0
) -> MaxSocketsExceeded | None:
    """Compare the unprotected targets of all plans with the limit; None: it is not exceeded.

    destroyed_before: sockets already destroyed that count against the same limit.
    """
    if limit is None:
        return None
    count = destroyed_before + sum(len(plan.unprotected) for plan in plans)
    population = destroyed_before + sum(plan.population for plan in plans)
    if limit.allows(count, population):
        return None
    return MaxSocketsExceeded(count, limit, None if limit.share is None else population)


@dataclass(frozen=True)
class Report:
    """The outcome of every target.

    results: one for each target, in the order of the plans. exceeded: set if max_sockets was
    exceeded, and nothing was destroyed. unlisted: as Plan.unlisted, of all plans.
    """

    results: list[Result]
    exceeded: MaxSocketsExceeded | None = None
    unlisted: frozenset[str] = frozenset()

    @property
    def matched(self) -> int:
        """The number of targets."""
        return len(self.results)

    @property
    def counts(self) -> dict[str, int]:
        """The number of targets by outcome, without zeros, in the order of OUTCOMES."""
        counted = Counter(result.outcome for result in self.results)
        return {outcome: counted[outcome] for outcome in outcomes.OUTCOMES if counted[outcome]}

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that handled at least one socket."""
        return tuple(sorted({result.engine for result in self.results if result.engine}))

    @property
    def changed(self) -> bool:
        """Whether at least one socket was destroyed or disconnected."""
        return not outcomes.CHANGING.isdisjoint(self.counts)

    @property
    def failed(self) -> bool:
        """Whether at least one outcome counts as a failure."""
        return not outcomes.FAILING.isdisjoint(self.counts)
