# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stateful test of the Decider: no history of events makes it destroy a socket it must not.

Sockets start and cease to violate rules, evaluations fail, events are lost (no evaluation), the
host suspends, the agent restarts, reloads the same or another policy, or is paused. The test
records every evaluation, and checks each decision against these records.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from linuxnet_sockets.destroy.outcomes import Result
from linuxnet_sockets.errors import NotEvaluated
from linuxnet_sockets.policy.budget import BudgetSnapshot
from linuxnet_sockets.policy.decide import Decider
from linuxnet_sockets.policy.findings import Decision, Evaluation, ViolationResult
from tests.support import policy_documents as policies
from tests.unit.policy.evaluations import HERE, THERE, Place, decoded, evaluation, not_evaluated

PLACES = (HERE, THERE)
HOLDS = {"at-once": 0, "soon": 1_000, "later": 3_000, "watch": 500}
RULES = [
    policies.rule("at-once", hold=0, match={"remote_port": 1}),
    policies.rule("watch", hold="500ms", match={"remote_port": 2}, action="report"),
    policies.rule("later", hold="3s", match={"remote_port": 3}),
    policies.rule("soon", hold="1s", match={"remote_port": 4}),
]
PER_MS = 5_000
COOKIES = st.integers(1, 3)

PlacedSocket = tuple[Place, int]


class Recorded(NamedTuple):
    """One evaluation of one namespace. violating: cookies by rule; None: a gap."""

    began_ms: int
    ended_ms: int
    violating: dict[str, set[int]] | None


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000_000
        self.violating: set[tuple[str, PlacedSocket]] = set()
        self.protected: set[PlacedSocket] = set()
        self.records: dict[Place, list[Recorded]] = {}
        # Time and rule of each destroyed socket. All sockets belong to one user.
        self.destroyed: list[tuple[int, str]] = []
        self.decision: Decision | None = None

    @initialize(
        most=st.integers(1, 4),
        on_excess=st.sampled_from(["refuse", "pace"]),
        scope=st.sampled_from(["total", "rule_and_user"]),
    )
    def begin(self, most: int, on_excess: str, scope: str) -> None:
        limits = {"max_sockets": most, "per": "5s", "on_excess": on_excess, "scope": scope}
        self.port, self.limits = 4, limits
        self._read()
        self.saved = BudgetSnapshot()
        self._start()
        self._forget()

    def _read(self) -> None:
        changed = {**RULES[-1], "match": {"remote_port": self.port}}
        self.policy = policies.policy(*RULES[:-1], changed, limits=self.limits)

    def _start(self) -> None:
        self.decider = Decider(self.policy, max_gap_ms=20_000, budget=self.saved, save=self._save)

    def _save(self, budget: BudgetSnapshot) -> None:
        self.saved = budget

    def _forget(self) -> None:
        self.records = {place: [] for place in PLACES}

    def _forget_rule(self, name: str) -> None:
        for record in self.records.values():
            for seen in record:
                if seen.violating is not None:
                    seen.violating[name] = set()

    # Events.

    @rule(what=st.sampled_from(["restart", "reload", "change", "sleep", "protect"]), data=st.data())
    def other_event(self, what: str, data: st.DataObject) -> None:
        if what == "protect":
            self.protected ^= {(data.draw(st.sampled_from(PLACES)), data.draw(COOKIES))}
        elif what == "sleep":
            self.decider.mark_gap()
            for record in self.records.values():
                record.append(Recorded(self.now_ms, self.now_ms, None))
        elif what == "restart":
            self._forget()
            self._start()
        else:
            if what == "change":
                self.port += 1
                self._forget_rule("soon")
            self._read()
            self.decider.reload(self.policy)

    @rule(
        names=st.sets(st.sampled_from(list(HOLDS)), min_size=1, max_size=2),
        place=st.sampled_from(PLACES),
        cookies=st.sets(COOKIES, min_size=1, max_size=2),
        later_ms=st.sampled_from([0, 1, 500, 1_000]),
    )
    def lost_event(self, names: set[str], place: Place, cookies: set[int], later_ms: int) -> None:
        self._flap(names, place, cookies)
        self.now_ms += later_ms

    def _flap(self, names: set[str], place: Place, cookies: set[int]) -> None:
        self.violating ^= {(name, (place, cookie)) for name in names for cookie in cookies}

    @rule(
        names=st.sets(st.sampled_from(list(HOLDS)), max_size=2),
        place=st.sampled_from(PLACES),
        cookies=st.sets(COOKIES, max_size=2),
        later_ms=st.sampled_from([0, 1, 499, 500, 500, 999, 1_000, 3_000, 30_000]),
        failing=st.sampled_from([*[()] * 6, (HERE,), (THERE,)]),
        duration_ms=st.sampled_from([0, 0, 0, 7, 400]),
        outcome=st.sampled_from(["destroyed", "destroyed", "survived", "already_gone", "busy"]),
        inhibited_by=st.sampled_from([None, None, None, "paused"]),
        places=st.sampled_from([PLACES, PLACES, (HERE,), (THERE,)]),
    )
    def event(
        self,
        names: set[str],
        place: Place,
        cookies: set[int],
        later_ms: int,
        failing: tuple[Place, ...],
        duration_ms: int,
        outcome: str,
        inhibited_by: str | None,
        places: tuple[Place, ...],
    ) -> None:
        """Sockets start or cease to violate; a pass of some places follows, at once or later."""
        self._flap(names, place, cookies)
        self.now_ms += later_ms
        self._pass(set(failing), duration_ms, outcome, inhibited_by, places)

    @precondition(lambda self: self.decision is not None and self.decision.next_pass_ms is not None)
    @rule(outcome=st.sampled_from(["destroyed", "survived"]))
    def next_pass_ms_arrives(self, outcome: str) -> None:
        assert self.decision is not None
        assert self.decision.next_pass_ms is not None
        self.now_ms = max(self.now_ms, self.decision.next_pass_ms)
        self._pass(set(), 0, outcome, None)

    # Passes.

    def _evaluations(
        self, failing: set[Place], duration_ms: int, places: tuple[Place, ...]
    ) -> list[Evaluation | NotEvaluated]:
        evaluations: list[Evaluation | NotEvaluated] = []
        for place in places:
            record = self.records[place]
            if place in failing:
                evaluations.append(not_evaluated(place))
                record.append(Recorded(self.now_ms, self.now_ms, None))
                continue
            if record and self.now_ms - record[-1].ended_ms > 20_000:
                record.append(Recorded(self.now_ms, self.now_ms, None))
            seen = {
                name: {each for at, (where, each) in self.violating if (at, where) == (name, place)}
                for name in HOLDS
            }
            sockets: dict[str, list[PlacedSocket]] = {
                name: [decoded(each, place) for each in sorted(cookies)]
                for name, cookies in seen.items()
            }
            protected = {each: "kernel" for where, each in self.protected if where is place}
            evaluations.append(
                evaluation(
                    self.policy,
                    self.now_ms,
                    sockets,
                    place,
                    duration_ms=duration_ms,
                    protected=protected,
                )
            )
            record.append(Recorded(self.now_ms, self.now_ms + duration_ms, seen))
        return evaluations

    def _pass(
        self,
        failing: set[Place],
        duration_ms: int,
        outcome: str,
        inhibited_by: str | None,
        places: tuple[Place, ...] = PLACES,
    ) -> None:
        evaluations = self._evaluations(failing, duration_ms, places)
        # A pass of all places forgets others, and there are none.
        self.decider.observe(evaluations, forget_others=places == PLACES)
        self.now_ms += duration_ms
        self.decision = self.decider.decide(self.now_ms, inhibited_by=inhibited_by)
        self._check(self.decision, failing, inhibited_by)
        results: list[ViolationResult] = []
        for violation in self.decision.to_destroy:
            results.append(ViolationResult(violation, Result(violation.socket, outcome)))
            if outcome in ("destroyed", "already_gone"):
                socket = self._socket(violation)
                self.violating = {each for each in self.violating if each[1] != socket}
        if outcome in ("destroyed", "survived"):
            self.destroyed += [(self.now_ms, each.violation.rule.name) for each in results]
        self.decider.record_results(results, self.now_ms)

    def _socket(self, violation: Any) -> PlacedSocket:
        snapshot = violation.socket.snapshot
        return snapshot, violation.socket.cookie

    def _check(self, decision: Decision, failing: set[Place], inhibited_by: str | None) -> None:
        destroyed = [self._socket(each) for each in decision.to_destroy]
        assert len(set(destroyed)) == len(destroyed)
        if inhibited_by is not None:
            assert destroyed == []
        for violation in decision.to_destroy:
            place, cookie = self._socket(violation)
            name = violation.rule.name
            assert (name, (place, cookie)) in self.violating
            assert (place, cookie) not in self.protected
            assert place not in failing
            assert name != "watch"
            assert self._recorded_hold_ms(name, place, cookie) >= HOLDS[name]
            earlier = [each for each in HOLDS_IN_ORDER if each != "watch"]
            for other in earlier[: earlier.index(name)]:
                if (other, (place, cookie)) in self.violating:
                    assert self._recorded_hold_ms(other, place, cookie) < HOLDS[other]
        if self.policy.limits.on_excess == "refuse":
            rules = {each.rule for each in decision.budget_exceeded}
            assert destroyed == [] or None not in rules
            assert not any(violation.rule.name in rules for violation in decision.to_destroy)

    def _recorded_hold_ms(self, name: str, place: Place, cookie: int) -> int:
        """How long the socket has violated the rule, according to the records.

        From the end of the first to the start of the last of consecutive evaluations that show it.
        """
        stretches: list[list[Recorded]] = [[]]
        for seen in reversed(self.records[place]):
            if seen.violating is None:
                stretches.append([])
            elif cookie in seen.violating[name]:
                stretches[-1].append(seen)
            else:
                break
        return sum(
            max(0, stretch[0].began_ms - stretch[-1].ended_ms) for stretch in stretches if stretch
        )

    @invariant()
    def budget_holds_for_every_window(self) -> None:
        limits = self.policy.limits
        for at, _rule in self.destroyed:
            within = Counter(name for when, name in self.destroyed if at <= when < at + PER_MS)
            assert sum(within.values()) <= limits.max_total
            if limits.scope == "rule_and_user":
                assert max(within.values()) <= limits.max_sockets

    def teardown(self) -> None:
        """Without further events, every violation that may be destroyed is destroyed."""
        if not hasattr(self, "policy"):
            return
        limits = self.policy.limits
        self.now_ms += 2 * 600_000
        for _turn in range(200):
            self._pass(set(), 0, "destroyed", None)
            assert self.decision is not None
            if self.decision.next_pass_ms is None:
                break
            assert self.decision.next_pass_ms > self.now_ms
            self.now_ms = self.decision.next_pass_ms
        else:
            raise AssertionError("next_pass_ms is set in every pass")
        left = {
            socket
            for name, socket in self.violating
            if name != "watch" and socket not in self.protected
        }
        # Few enough for every limit, whichever rule counts them.
        if limits.on_excess == "pace" or len(left) <= limits.max_sockets:
            assert left == set()


HOLDS_IN_ORDER = [each["name"] for each in RULES]

TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=100, stateful_step_count=40)
