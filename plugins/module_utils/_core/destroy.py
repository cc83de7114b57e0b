# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: destroys the selected sockets and says what became of each.

Look and guard first, in every namespace; then the limit; then the work, namespace by namespace.
Nothing is taken from an answer alone: an outcome is what a fresh look shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from . import outcomes, vocabulary
from .engines.base import Engine
from .engines.netlink import NetlinkEngine
from .engines.registry import engines_named
from .errors import HandlerMissing, NamespaceDenied, NamespaceNotFound, SocketsError
from .guard.options import Guard
from .guard.reason import Reason
from .host import Host
from .kin import spared_with_kin
from .limits import Excess, MaxSockets
from .look import View, find
from .namespaces import Namespace
from .outcomes import Result
from .pace import Pace
from .passes import run_passes
from .selector.parse import Selector
from .subject import Subject
from .wire import inet_diag
from .wire.netlink import collector_paused
from .words import describe


@dataclass(frozen=True)
class Order:
    """What is to be destroyed, and within which bounds.

    selector: parsed for the role "destroy". pace_per_second: at most so many a second; None for
    as fast as it goes. engine: a name of engines.registry. check: tell, and touch nothing.
    extensions: more bits of idiag_ext to ask for, so that the results' records are full.
    """

    selector: Selector
    namespaces: Sequence[Namespace]
    guard: Guard
    max_sockets: MaxSockets | None = None
    pace_per_second: float | None = None
    engine: str = "netlink"
    check: bool = False
    extensions: int = 0


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


@dataclass(frozen=True)
class _Plan:
    """The selected sockets of one namespace, and for each why it is spared, or None."""

    namespace: Namespace
    subjects: list[Subject]
    reasons: list[Reason | None]
    population: int
    unlisted: set[str]

    @property
    def unprotected(self) -> list[Subject]:
        if not any(self.reasons):
            return self.subjects
        return [subject for subject, reason in zip(self.subjects, self.reasons) if reason is None]


def destroy(host: Host, order: Order) -> Report:
    """Destroy what the order selects and its guard does not spare.

    With order.check the same plan is made, and each outcome is what is to be expected.
    Raises what find raises, EngineUnavailable, and for a namespace that cannot be entered
    NamespaceNotFound or NamespaceDenied, all before anything is destroyed; one that `all` found
    and that is gone by now is left out. What a Connection raises after that ends it early too, but
    not once something was destroyed: then those that it left have it as their reason, and count as
    `survived`.
    """
    engines = engines_named(order.engine)
    # An order that takes its time leaves the collector to its work.
    with collector_paused() if order.pace_per_second is None else nullcontext():
        return _destroy(host, order, engines)


def _destroy(host: Host, order: Order, engines: Sequence[Engine]) -> Report:
    plans: list[_Plan] = []
    for namespace in order.namespaces:
        try:
            plans.append(_plan(host, namespace, order))
        except NamespaceNotFound:
            if namespace.asked:
                raise
    unlisted = frozenset().union(*(plan.unlisted for plan in plans))
    excess = _excess(order.max_sockets, plans)
    if excess is not None:
        spared = [result for plan in plans for result in _results(plan, outcomes.LIMIT, None)]
        return Report(spared, excess, unlisted)
    pace = Pace(order.pace_per_second, monotonic=host.monotonic, sleep=host.sleep)
    results: list[Result] = []
    for plan in plans:
        try:
            results += _carry_out(host, plan, engines, pace, check=order.check)
        except SocketsError as error:
            # What has already happened must be told.
            if order.check or not any(each.outcome in outcomes.CHANGING for each in results):
                raise
            results += _results(plan, outcomes.SURVIVED, None, _failure(error))
    return Report(results, None, unlisted)


def _plan(host: Host, namespace: Namespace, order: Order) -> _Plan:
    with View(host, namespace) as view:
        environment = view.environment()
        subjects = find(
            view,
            order.selector,
            extensions=order.guard.extensions | order.extensions,
            owners=order.guard.needs_owners,
            environment=environment,
        )
        reasons = order.guard.watch(environment).reasons(subjects) if subjects else []
        if order.engine != NetlinkEngine.name:
            reasons = spared_with_kin(view, order.guard, subjects, reasons)
        population = 0
        if order.max_sockets is not None and order.max_sockets.share is not None:
            population = _population(view, order)
        return _Plan(namespace, subjects, reasons, population, view.unlisted)


def _population(view: View, order: Order) -> int:
    """The unprotected sockets of the selected protocols, in every state and of both families."""
    environment = view.environment()
    subjects: list[Subject] = []
    for protocol in order.selector.protocols:
        for family in vocabulary.FAMILIES.values():
            try:
                socks = inet_diag.dump(
                    view.diag,
                    protocol,
                    family,
                    vocabulary.state_mask(vocabulary.ALL_STATES),
                    order.guard.extensions,
                )
            except HandlerMissing:
                break
            subjects += [Subject(sock, environment) for sock in socks]
    if order.guard.needs_owners:
        environment.load_owners({subject.inode for subject in subjects} - {0})
    return order.guard.watch(environment).reasons(subjects).count(None)


def _excess(limit: MaxSockets | None, plans: Sequence[_Plan]) -> Excess | None:
    if limit is None:
        return None
    count = sum(plan.reasons.count(None) for plan in plans)
    population = sum(plan.population for plan in plans)
    if limit.allows(count, population):
        return None
    return Excess(count, limit, None if limit.share is None else population)


def _results(
    plan: _Plan, outcome: str, engine: str | None, why: Reason | None = None
) -> list[Result]:
    """The plan's results where every socket that is not spared has the same outcome."""
    return [
        Result(subject, outcome, why, engine)
        if reason is None
        else Result(subject, outcomes.PROTECTED, reason)
        for subject, reason in zip(plan.subjects, plan.reasons)
    ]


def _failure(error: SocketsError) -> Reason:
    """Why nothing more could be done, where something was done before."""
    return Reason("error", describe(error))


def _carry_out(
    host: Host, plan: _Plan, engines: Sequence[Engine], pace: Pace, *, check: bool
) -> list[Result]:
    unprotected = plan.unprotected
    if not unprotected:
        return _results(plan, outcomes.PROTECTED, None)
    try:
        with View(host, plan.namespace) as view:
            decided = _decide(view, unprotected, engines, pace, check=check)
    except NamespaceNotFound:
        # It went away since the look; what is in it, if it lives on, cannot be reached.
        return _results(plan, outcomes.SURVIVED, engines[0].name)
    except NamespaceDenied:
        return _results(plan, outcomes.NOT_PERMITTED, engines[0].name)
    if len(decided) == len(plan.subjects):
        return decided
    result = iter(decided)
    return [
        next(result) if reason is None else Result(subject, outcomes.PROTECTED, reason)
        for subject, reason in zip(plan.subjects, plan.reasons)
    ]


# What one engine cannot do, and another may.
_FOR_THE_NEXT = frozenset({outcomes.UNSUPPORTED_PROTOCOL, outcomes.KERNEL_WITHOUT_DESTROY})


def _decide(
    view: View,
    subjects: Sequence[Subject],
    engines: Sequence[Engine],
    pace: Pace,
    *,
    check: bool,
) -> list[Result]:
    """The result of each of these sockets, none of which is spared.

    The engines are tried one after the other; where the last leaves a socket alone, what the one
    before it said stands, with the last one's reason.
    """
    results = _by_engine(view, subjects, engines[0], pace, check=check)
    for engine in engines[1:]:
        left = [index for index, each in enumerate(results) if each.outcome in _FOR_THE_NEXT]
        try:
            again = _by_engine(view, [subjects[index] for index in left], engine, pace, check=check)
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
    view: View, subjects: Sequence[Subject], engine: Engine, pace: Pace, *, check: bool
) -> list[Result]:
    """Results by one engine; `engine` is None in those of sockets that it left alone."""
    if not subjects:
        return []
    declined = engine.declines(view, subjects)
    taken = subjects
    if any(declined):
        taken = [subject for subject, each in zip(subjects, declined) if each is None]
    found: list[str] = []
    failure: Reason | None = None
    if check:
        found = engine.forecast(view, taken)
    else:
        try:
            for part in pace.slices(taken):
                found += run_passes(view, engine, part)
        except SocketsError as error:
            if outcomes.CHANGING.isdisjoint(found):
                raise
            failure = _failure(error)
    results = outcomes.results(taken, found, engine.name)
    results += [Result(each, outcomes.SURVIVED, failure) for each in taken[len(found) :]]
    if taken is subjects:
        return results
    done = iter(results)
    return [
        next(done) if each is None else Result(subject, each.outcome, each.reason)
        for subject, each in zip(subjects, declined)
    ]
