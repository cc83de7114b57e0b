# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: destroys the selected sockets and says what became of each.

Look and guard first, in every namespace; then the limit; then the work, namespace by namespace.
Nothing is taken from an answer alone: an outcome is what a fresh look shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Optional

from ..errors import NamespaceDenied, NamespaceNotFound, SocketsError
from ..guard.limits import Excess
from ..guard.reason import Reason
from ..host.host import Host
from ..messages import describe
from ..netlink.connection import collector_paused
from ..sockets.session import NamespaceSession, for_each_namespace
from ..sockets.socket import Socket
from . import outcomes
from .converge import run_passes
from .engines.base import Engine
from .engines.registry import engines_named
from .outcomes import Result
from .planner import Order, Plan, excess, make_plan
from .rate_limit import Pace

__all__ = ["Order", "Report", "destroy", "destroy_planned"]

# Seconds after which a judgement is too old to act on.
_STALE = 1.0
_NO_LONGER_SELECTED = Reason("changed", "it is gone, or is no longer what was selected")


@dataclass(frozen=True)
class Report:
    """What became of every selected socket.

    results: one for each, in the order of the namespaces. excess: set where max_sockets was
    exceeded, so that nothing was destroyed. unlisted: protocols that could have been meant, but
    that the kernel cannot list.
    """

    results: list[Result]
    excess: Excess | None = None
    unlisted: frozenset[str] = frozenset()

    @property
    def matched(self) -> int:
        return len(self.results)

    @property
    def counts(self) -> dict[str, int]:
        """How often each outcome came, for those that did, in the order of the closed list."""
        counted = Counter(result.outcome for result in self.results)
        return {outcome: counted[outcome] for outcome in outcomes.OUTCOMES if counted[outcome]}

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that took sockets on."""
        return tuple(sorted({result.engine for result in self.results if result.engine}))

    @property
    def changed(self) -> bool:
        return not outcomes.CHANGING.isdisjoint(self.counts)

    @property
    def failed(self) -> bool:
        return not outcomes.FAILING.isdisjoint(self.counts)


def destroy(host: Host, order: Order) -> Report:
    """Destroy what the order selects and its guard does not spare.

    With order.check the same plan is made, and each outcome is what is to be expected.
    Raises what find raises, EngineUnavailable, and for a namespace that cannot be entered
    NamespaceNotFound or NamespaceDenied, all before anything is destroyed; one that `all` found
    and that is gone by now is left out. What a Connection raises after that ends it early too, but
    not once something was destroyed: then those that it left have it as their reason, and count as
    `survived`.
    """
    engines_named(order.engine)
    unlimited = replace(order, max_sockets=None)
    # An order that takes its time leaves the collector to its work.
    with collector_paused() if order.pace_per_second is None else nullcontext():
        plans = list(
            for_each_namespace(host, order.namespaces, lambda session: make_plan(session, order))
        )
        return destroy_planned(host, order, plans, lambda session: make_plan(session, unlimited))


def destroy_planned(
    host: Host,
    order: Order,
    plans: Sequence[Plan],
    look_anew: Callable[[NamespaceSession], Plan],
    *,
    before: int = 0,
) -> Report:
    """As destroy, of what was planned this moment.

    look_anew(view): what the plan of a namespace would be now, for those whose turn comes late.
    before: how many were destroyed already under the same limit.
    """
    engines = engines_named(order.engine)
    unlisted = frozenset().union(*(plan.unlisted for plan in plans))
    over = excess(order.max_sockets, plans, before)
    if over is not None:
        protected = [result for plan in plans for result in _results(plan, outcomes.LIMIT, None)]
        return Report(protected, over, unlisted)
    pace = Pace(order.pace_per_second, monotonic=host.monotonic, sleep=host.sleep)
    results: list[Result] = []
    for plan in plans:
        try:
            results += _carry_out(host, plan, order, engines, pace, look_anew)
        except SocketsError as error:
            # What has already happened must be told.
            if order.check or not any(each.outcome in outcomes.CHANGING for each in results):
                raise
            results += _results(plan, outcomes.SURVIVED, None, _failure(error))
    return Report(results, None, unlisted)


def _results(
    plan: Plan, outcome: str, engine: str | None, why: Reason | None = None
) -> list[Result]:
    """The plan's results where every socket that is not protected has the same outcome."""
    return [
        Result(sock, outcome, why, engine)
        if reason is None
        else Result(sock, outcomes.PROTECTED, reason)
        for sock, reason in zip(plan.sockets, plan.reasons)
    ]


def _failure(error: SocketsError) -> Reason:
    """Why nothing more could be done, where something was done before."""
    return Reason("error", describe(error))


def _carry_out(
    host: Host,
    plan: Plan,
    order: Order,
    engines: Sequence[Engine],
    pace: Pace,
    look_anew: Callable[[NamespaceSession], Plan],
) -> list[Result]:
    unprotected = plan.unprotected
    if not unprotected:
        return _results(plan, outcomes.PROTECTED, None)
    try:
        if order.pace_per_second is None or order.check:
            with NamespaceSession(host, plan.namespace) as session:
                decided = _decide(session, unprotected, engines, check=order.check)
        else:
            decided = _paced(host, plan, engines, pace, look_anew)
    except NamespaceNotFound:
        # It went away since the look; what is in it, if it lives on, cannot be reached.
        return _results(plan, outcomes.SURVIVED, engines[0].name)
    except NamespaceDenied:
        return _results(plan, outcomes.NOT_PERMITTED, engines[0].name)
    if len(decided) == len(plan.sockets):
        return decided
    result = iter(decided)
    return [
        next(result) if reason is None else Result(sock, outcomes.PROTECTED, reason)
        for sock, reason in zip(plan.sockets, plan.reasons)
    ]


def _paced(
    host: Host,
    plan: Plan,
    engines: Sequence[Engine],
    pace: Pace,
    look_anew: Callable[[NamespaceSession], Plan],
) -> list[Result]:
    """The result of each socket that the plan does not spare, slice by slice.

    By its turn a socket may be in order again, or be protected: one that was judged longer ago
    than _STALE is judged anew. What is no longer selected is `already_gone`. The plan's own limit
    was kept; what came since is not touched.
    """
    results: list[Result] = []
    verdicts, at = _verdicts(plan), host.monotonic()
    unprotected = plan.unprotected
    try:
        for part in pace.slices(unprotected):
            with NamespaceSession(host, plan.namespace) as session:
                if host.monotonic() - at > _STALE:
                    verdicts, at = _verdicts(look_anew(session)), host.monotonic()
                results += _as_judged(session, part, verdicts, engines)
    except SocketsError as error:
        if not any(each.outcome in outcomes.CHANGING for each in results):
            raise
        left = unprotected[len(results) :]
        results += [Result(each, outcomes.SURVIVED, _failure(error)) for each in left]
    return results


_Verdicts = dict[tuple[str, str, int], tuple[Socket, Optional[Reason]]]


def _verdicts(plan: Plan) -> _Verdicts:
    """Each selected socket, as it was seen, and why it is protected, or None; by its identity."""
    return {sock.identity: (sock, reason) for sock, reason in zip(plan.sockets, plan.reasons)}


def _as_judged(
    session: NamespaceSession,
    sockets: Sequence[Socket],
    verdicts: _Verdicts,
    engines: Sequence[Engine],
) -> list[Result]:
    now = [verdicts.get(sock.identity) for sock in sockets]
    meant = [each[0] for each in now if each is not None and each[1] is None]
    done = iter(_decide(session, meant, engines, check=False))
    results: list[Result] = []
    for sock, verdict in zip(sockets, now):
        if verdict is None:
            results.append(Result(sock, outcomes.ALREADY_GONE, _NO_LONGER_SELECTED))
        elif verdict[1] is not None:
            results.append(Result(sock, outcomes.PROTECTED, verdict[1]))
        else:
            results.append(next(done))
    return results


# What one engine cannot do, and another may.
_FOR_THE_NEXT = frozenset({outcomes.UNSUPPORTED_PROTOCOL, outcomes.KERNEL_WITHOUT_DESTROY})


def _decide(
    session: NamespaceSession,
    sockets: Sequence[Socket],
    engines: Sequence[Engine],
    *,
    check: bool,
) -> list[Result]:
    """The result of each of these sockets, none of which is protected.

    The engines are tried one after the other; where the last leaves a socket alone, what the one
    before it said stands, with the last one's reason.
    """
    results = _by_engine(session, sockets, engines[0], check=check)
    for engine in engines[1:]:
        left = [index for index, each in enumerate(results) if each.outcome in _FOR_THE_NEXT]
        try:
            again = _by_engine(session, [sockets[index] for index in left], engine, check=check)
        except SocketsError as error:
            if check or not any(each.outcome in outcomes.CHANGING for each in results):
                raise
            again = [results[index]._replace(reason=_failure(error)) for index in left]
        for index, result in zip(left, again):
            if result.engine is not None:
                results[index] = result
            elif result.reason is not None:
                results[index] = results[index]._replace(reason=result.reason)
    return results


def _by_engine(
    session: NamespaceSession, sockets: Sequence[Socket], engine: Engine, *, check: bool
) -> list[Result]:
    """Results by one engine; `engine` is None in those of sockets that it left alone."""
    if not sockets:
        return []
    declined = engine.declines(session, sockets)
    taken = sockets
    if any(declined):
        taken = [sock for sock, each in zip(sockets, declined) if each is None]
    found = engine.forecast(session, taken) if check else run_passes(session, engine, taken)
    results = outcomes.results(taken, found, engine.name)
    if taken is sockets:
        return results
    done = iter(results)
    return [
        next(done) if each is None else Result(sock, each.outcome, each.reason)
        for sock, each in zip(sockets, declined)
    ]
