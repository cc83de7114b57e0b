# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: carries a policy out: look, decide, destroy, say what became of it.

What is destroyed is destroyed by the same work as an order's: the same engines, and a fresh look
at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ..destroy import outcomes
from ..destroy.engines.registry import engines_named
from ..destroy.executor import execute
from ..destroy.model import DestroyOptions, Plan, Target
from ..destroy.outcomes import Result
from ..errors import SocketsError
from ..guard.reason import Reason
from ..host.host import Host
from ..host.namespaces import Identity
from ..messages import describe
from ..netlink.connection import collector_paused
from ..sockets.session import NamespaceSession
from .decide import HOLD, Decision, Enforced, Engine
from .evaluate import Judgement, Unseen, Violation, judge, look_at_all, milliseconds
from .model import Policy

__all__ = ["Enforced", "Pass", "enforce_once", "run_pass"]

# A look that ended longer ago than this is too old to act on: it is made once more.
MOMENT_MS = 200

# While holds are waited for, it is looked so often, and not more often than that.
_SHORTEST_WAIT_MS = 500
_LOOKS = 60

# Decision.withheld of a pass before the last.
_WAITING = "waiting"

_NO_LONGER = Reason("changed", "it is gone, or no longer violates the policy")


@dataclass(frozen=True)
class Pass:
    """One pass over all namespaces. done: what became of each of decision.destroy."""

    looks: tuple[Judgement | Unseen, ...]
    decision: Decision
    done: tuple[Enforced, ...]
    began_ms: int
    ended_ms: int

    @property
    def not_evaluated(self) -> tuple[Unseen, ...]:
        return tuple(look for look in self.looks if isinstance(look, Unseen))

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        return tuple(look for look in self.looks if isinstance(look, Judgement))

    @property
    def blind(self) -> tuple[tuple[str, str | None, SocketsError], ...]:
        """Of what nothing is known, and why: a namespace (None), or one rule's sockets in it."""
        return (
            *((each.label, None, each.error) for each in self.not_evaluated),
            *(
                (look.namespace.name, rule, error)
                for look in self.judgements
                for rule, error in look.failed.items()
            ),
        )


def run_pass(
    host: Host,
    policy: Policy,
    engine: Engine,
    *,
    withheld: str | None = None,
    check: bool = False,
    engine_name: str = "netlink",
    one_holder: bool = False,
) -> Pass:
    """Look into every namespace, decide, and destroy what is to be destroyed.

    withheld: why nothing may be destroyed now; None: the policy decides. check: touch nothing, and
    tell the outcome that is to be expected of each. engine_name: out of engines.registry; raises
    EngineUnavailable. one_holder: as judge takes it. Namespaces that cannot be looked at are
    Unseen, and raise nothing.
    """
    engines_named(engine_name)
    # Many objects are made; what makes passes again and again collects in between.
    with collector_paused():
        return _pass(host, policy, engine, withheld, check, engine_name, one_holder)


def _pass(
    host: Host,
    policy: Policy,
    engine: Engine,
    withheld: str | None,
    check: bool,
    engine_name: str,
    one_holder: bool,
) -> Pass:
    began_ms = milliseconds(host)
    looks = look_at_all(
        host,
        policy,
        guarded=lambda violation: engine.is_due(violation, milliseconds(host)),
        engine=engine_name,
        one_holder=one_holder,
    )
    engine.see(looks)
    decision = engine.decide(milliseconds(host), withheld=withheld)
    doomed: dict[Identity, list[Violation]] = {}
    for violation in decision.destroy:
        doomed.setdefault(violation.namespace, []).append(violation)
    done: list[Enforced] = []
    for look in looks:
        if isinstance(look, Judgement) and look.namespace.identity in doomed:
            meant = doomed[look.namespace.identity]
            done += _destroy(host, policy, look, meant, check, engine_name)
    if not check:
        engine.done(done, milliseconds(host))
    return Pass(tuple(looks), decision, tuple(done), began_ms, milliseconds(host))


def _destroy(
    host: Host,
    policy: Policy,
    look: Judgement,
    doomed: Sequence[Violation],
    check: bool,
    engine_name: str,
) -> list[Enforced]:
    """What became of these violations of one namespace, all of which may be destroyed."""
    settled: list[Enforced] = []
    meant = doomed
    try:
        if milliseconds(host) - look.ended_ms > MOMENT_MS:
            meant, settled = _judged_anew(host, policy, look, doomed, engine_name)
        if not meant:
            return settled
        plan = Plan(look.namespace, [Target(violation.socket) for violation in meant])
        options = DestroyOptions(policy.guard, engine=engine_name, check=check)
        report = execute(host, [plan], options)
    except SocketsError as error:
        return settled + [_survived(each, error) for each in meant]
    return settled + [Enforced(*each) for each in zip(meant, report.results)]


def _survived(violation: Violation, error: SocketsError) -> Enforced:
    reason = Reason("error", describe(error))
    return Enforced(violation, Result(violation.socket, outcomes.SURVIVED, reason))


def _judged_anew(
    host: Host, policy: Policy, look: Judgement, doomed: Sequence[Violation], engine_name: str
) -> tuple[list[Violation], list[Enforced]]:
    """Those that still violate the same rule and are still not protected, as they are now; and the
    results of the others."""
    wanted = {(each.rule.name, each.key) for each in doomed}
    with NamespaceSession(host, look.namespace) as session:
        again = judge(
            session,
            policy,
            guarded=lambda each: (each.rule.name, each.key) in wanted,
            engine=engine_name,
        )
    now = {(each.rule.name, each.key): each for each in again.violations}
    meant: list[Violation] = []
    settled: list[Enforced] = []
    for violation in doomed:
        fresh = now.get((violation.rule.name, violation.key))
        failure = again.failed.get(violation.rule.name)
        if failure is not None:
            settled.append(_survived(violation, failure))
        elif fresh is None:
            gone = Result(violation.socket, outcomes.ALREADY_GONE, _NO_LONGER)
            settled.append(Enforced(violation, gone))
        elif fresh.protected is not None:
            protected = Result(fresh.socket, outcomes.PROTECTED, fresh.protected)
            settled.append(Enforced(fresh, protected))
        else:
            meant.append(fresh)
    return meant, settled


def enforce_once(
    host: Host, policy: Policy, *, check: bool = False, engine_name: str = "netlink"
) -> Pass:
    """Look, wait until the holds of what was seen are over, look again, and destroy what is due.

    While it waits it looks now and then, so that what is in order again for a moment is seen. The
    pass that is returned is the last, the only one that destroys.
    Raises EngineUnavailable.
    """
    engine = Engine(policy)
    act = partial(run_pass, host, policy, engine, check=check, engine_name=engine_name)
    if policy.longest_hold_ms:
        first = act(withheld=_WAITING)
        end_ms = _end_of(first.decision, first.ended_ms)
        part_ms = max(_SHORTEST_WAIT_MS, (end_ms - first.began_ms) // _LOOKS)
        latest_ms = first.ended_ms + 2 * policy.longest_hold_ms
        while end_ms - milliseconds(host) > part_ms:
            host.sleep(part_ms / 1000)
            again = act(withheld=_WAITING)
            # A look that could not be made has put the ends off.
            end_ms = max(end_ms, min(latest_ms, _end_of(again.decision, first.ended_ms)))
        while milliseconds(host) < end_ms:
            host.sleep((end_ms - milliseconds(host)) / 1000)
    return act()


def _end_of(decision: Decision, seen_ms: int) -> int:
    """When the last hold is over of what was seen by then."""
    holds = (
        each.until_ms
        for each in decision.findings
        if each.status == HOLD and each.since_ms <= seen_ms
    )
    return max((until for until in holds if until is not None), default=0)
