# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Destruction of planned targets.

The limit is checked first. Then each namespace is handled in turn. An engine's answer alone proves
nothing: a new dump decides the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from ..errors import NamespaceDenied, NamespaceNotFound, SocketsError
from ..guard.options import Guard
from ..guard.reason import NO_OWNER_RULES, Reason
from ..guard.shared_ports import reasons_by_port
from ..host.host import Host
from ..messages import describe
from ..sockets.session import NamespaceSession
from ..sockets.socket import Socket
from . import outcomes
from .converge import destroy_until_stable
from .engines import registry
from .engines.base import Engine
from .model import DestroyOptions, Plan, Report, Target, check_max_sockets
from .outcomes import Result
from .rate_limit import RateLimiter
from .verify import find_ended

# The current plan of a namespace, for targets whose turn comes late.
Replan = Callable[[NamespaceSession], Plan]

# Seconds after which a rate-limited run plans again before it destroys more.
_MAX_PLAN_AGE = 1.0
_NO_LONGER_SELECTED = Reason("changed", "it closed, or no longer matches the selector")


def execute(
    host: Host,
    plans: Sequence[Plan],
    options: DestroyOptions,
    *,
    replan: Replan | None = None,
    destroyed_before: int = 0,
) -> Report:
    """Destroy the unprotected targets of plans made a moment ago.

    replan: with options.rate, makes the current plan of a namespace when the first is too old;
    None: act on the first. destroyed_before: as check_max_sockets takes it. Raises
    EngineUnavailable, and the errors of netlink and namespaces until a socket is destroyed; see
    command.destroy.
    """
    engines = registry.engines_named(options.engine)
    unlisted = frozenset().union(*(plan.unlisted for plan in plans))
    exceeded = check_max_sockets(options.max_sockets, plans, destroyed_before)
    if exceeded is not None:
        untouched = [result for plan in plans for result in _uniform(plan, outcomes.LIMIT, None)]
        return Report(untouched, exceeded, unlisted)
    limiter = RateLimiter(options.rate, monotonic=host.monotonic, sleep=host.sleep)
    results: list[Result] = []
    for plan in plans:
        try:
            results += _execute_plan(host, plan, options, engines, limiter, replan)
        except SocketsError as error:
            # The report must name the sockets that were destroyed before the error.
            if options.check or not _has_changed(results):
                raise
            results += _uniform(plan, outcomes.SURVIVED, None, _error_reason(error))
    return Report(_without_ended(host, plans, results), None, unlisted)


def _without_ended(host: Host, plans: Sequence[Plan], results: Sequence[Result]) -> list[Result]:
    """The results, with `already_gone` for sockets that ended before the guard found their owners.

    The guard protects a socket without a visible owner. One that closed during the walk over the
    processes looks the same, so a new dump decides.
    """
    checked = list(results)
    for plan in plans:
        doubtful = {
            index: result.socket
            for index, result in enumerate(checked)
            if result.outcome == outcomes.PROTECTED
            and result.reason is not None
            and result.reason.rule in NO_OWNER_RULES
            and result.socket.snapshot.namespace.name == plan.namespace.name
        }
        if not doubtful:
            continue
        with suppress(SocketsError), NamespaceSession(host, plan.namespace) as session:
            ended = find_ended(session, list(doubtful.values()))
            for index, socket in doubtful.items():
                if socket.cookie in ended:
                    checked[index] = Result(socket, outcomes.ALREADY_GONE)
    return checked


def _has_changed(results: Sequence[Result]) -> bool:
    return any(result.outcome in outcomes.CHANGING for result in results)


def _uniform(
    plan: Plan, outcome: str, engine: str | None, reason: Reason | None = None
) -> list[Result]:
    """The results of a plan whose unprotected targets all have the same outcome."""
    return [
        Result(socket, outcome, reason, engine)
        if protected_by is None
        else Result(socket, outcomes.PROTECTED, protected_by)
        for socket, protected_by in plan.targets
    ]


def _error_reason(error: SocketsError) -> Reason:
    """The reason of targets that are left because of an error."""
    return Reason("error", describe(error))


def _execute_plan(
    host: Host,
    plan: Plan,
    options: DestroyOptions,
    engines: Sequence[Engine],
    limiter: RateLimiter,
    replan: Replan | None,
) -> list[Result]:
    """One result for each target of the plan."""
    unprotected = plan.unprotected
    if not unprotected:
        return _uniform(plan, outcomes.PROTECTED, None)
    try:
        if options.rate is None or options.check:
            with NamespaceSession(host, plan.namespace) as session:
                results = _destroy(
                    session, unprotected, engines, options.guard, check=options.check
                )
        else:
            results = _destroy_slowly(host, plan, options.guard, engines, limiter, replan)
    except NamespaceNotFound:
        # The namespace is gone since it was planned. Its sockets may live on, out of reach.
        return _uniform(plan, outcomes.SURVIVED, engines[0].name)
    except NamespaceDenied:
        return _uniform(plan, outcomes.NOT_PERMITTED, engines[0].name)
    if len(results) == len(plan.targets):
        return results
    next_result = iter(results)
    return [
        next(next_result)
        if protected_by is None
        else Result(socket, outcomes.PROTECTED, protected_by)
        for socket, protected_by in plan.targets
    ]


def _destroy_slowly(
    host: Host,
    plan: Plan,
    guard: Guard,
    engines: Sequence[Engine],
    limiter: RateLimiter,
    replan: Replan | None,
) -> list[Result]:
    """One result for each unprotected target, slice by slice.

    A target may stop matching, or become protected, before its turn. So a plan older than
    _MAX_PLAN_AGE is made again. Targets that are no longer selected are `already_gone`. Sockets
    that only the newer plan selects are not destroyed: the limit was checked without them.
    """
    results: list[Result] = []
    current, planned_at = _by_identity(plan), host.monotonic()
    unprotected = plan.unprotected
    try:
        for sockets in limiter.slices(unprotected):
            with NamespaceSession(host, plan.namespace) as session:
                if replan is not None and host.monotonic() - planned_at > _MAX_PLAN_AGE:
                    current, planned_at = _by_identity(replan(session)), host.monotonic()
                results += _destroy_current(session, sockets, current, engines, guard)
    except SocketsError as error:
        if not _has_changed(results):
            raise
        left = unprotected[len(results) :]
        results += [Result(socket, outcomes.SURVIVED, _error_reason(error)) for socket in left]
    return results


_Identity = tuple[str, str, int]


def _by_identity(plan: Plan) -> dict[_Identity, Target]:
    return {target.socket.identity: target for target in plan.targets}


def _destroy_current(
    session: NamespaceSession,
    sockets: Sequence[Socket],
    current: Mapping[_Identity, Target],
    engines: Sequence[Engine],
    guard: Guard,
) -> list[Result]:
    """Destroy those of the sockets that the current targets contain and do not protect."""
    targets = [current.get(socket.identity) for socket in sockets]
    unprotected = [
        target.socket for target in targets if target is not None and target.protected_by is None
    ]
    next_result = iter(_destroy(session, unprotected, engines, guard, check=False))
    results: list[Result] = []
    for socket, target in zip(sockets, targets):
        if target is None:
            results.append(Result(socket, outcomes.ALREADY_GONE, _NO_LONGER_SELECTED))
        elif target.protected_by is not None:
            results.append(Result(socket, outcomes.PROTECTED, target.protected_by))
        else:
            results.append(next(next_result))
    return results


# Outcomes of one engine that make the next engine try.
_TRY_NEXT_ENGINE = frozenset({outcomes.UNSUPPORTED_PROTOCOL, outcomes.KERNEL_WITHOUT_DESTROY})


def _destroy(
    session: NamespaceSession,
    sockets: Sequence[Socket],
    engines: Sequence[Engine],
    guard: Guard,
    *,
    check: bool,
) -> list[Result]:
    """One result for each of these unprotected sockets; the engines are tried in turn.

    Where the last engine declines a socket, the outcome of the engine before it stands, with the
    reason of the last. Disconnected sockets that share their port have that as their reason.
    """
    # Unless the guard protects such sockets, a warning names them.
    shared = {} if guard.shared_port else reasons_by_port(session.snapshot(), sockets)
    results = _destroy_with(session, sockets, engines[0], check=check)
    for engine in engines[1:]:
        left = [index for index, result in enumerate(results) if result.outcome in _TRY_NEXT_ENGINE]
        try:
            retried = _destroy_with(
                session, [sockets[index] for index in left], engine, check=check
            )
        except SocketsError as error:
            if check or not _has_changed(results):
                raise
            retried = [results[index]._replace(reason=_error_reason(error)) for index in left]
        for index, result in zip(left, retried):
            if result.engine is not None:
                results[index] = result
            elif result.reason is not None:
                results[index] = results[index]._replace(reason=result.reason)
    for index, result in enumerate(results if shared else ()):
        if result.outcome == outcomes.DISCONNECTED:
            results[index] = result._replace(reason=shared.get(result.socket.cookie))
    return results


def _destroy_with(
    session: NamespaceSession, sockets: Sequence[Socket], engine: Engine, *, check: bool
) -> list[Result]:
    """One result for each socket, by one engine. Result.engine is None where it declines."""
    if not sockets:
        return []
    declined = engine.declines(session, sockets)
    accepted = sockets
    if any(declined):
        accepted = [socket for socket, reply in zip(sockets, declined) if reply is None]
    found = (
        engine.forecast(session, accepted)
        if check
        else destroy_until_stable(session, engine, accepted)
    )
    results = outcomes.results(accepted, found, engine.name)
    if accepted is sockets:
        return results
    next_result = iter(results)
    return [
        next(next_result) if reply is None else Result(socket, reply.outcome, reply.reason)
        for socket, reply in zip(sockets, declined)
    ]
