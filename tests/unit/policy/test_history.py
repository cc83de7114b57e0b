# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of histories: whatever happens, the engine destroys nothing that it may not.

Sockets come to violate rules and cease to, looks fail, events are lost (no look is made), the
machine sleeps, the agent restarts, reads its policy again, takes another one, is paused. Beside the
engine an account is kept of each look, and what the engine decides is held against that.
"""

from __future__ import annotations

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
from linuxnet_sockets.policy.budget import Kept
from linuxnet_sockets.policy.decide import Decision, Enforced, Engine
from linuxnet_sockets.policy.evaluate import Judgement, Unseen
from tests.support import policy_documents as policies
from tests.unit.policy.looks import HERE, THERE, Place, decoded, look, unseen

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


class Seen(NamedTuple):
    """One look at one namespace, by its rules. None: it could not be made, or nothing is known of
    the time before it."""

    began_ms: int
    ended_ms: int
    violating: dict[str, set[int]] | None


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000_000
        self.violating: set[tuple[str, PlacedSocket]] = set()
        self.protected: set[PlacedSocket] = set()
        self.accounts: dict[Place, list[Seen]] = {}
        self.destroyed: list[tuple[int, int]] = []
        self.decision: Decision | None = None

    @initialize(most=st.integers(1, 4), on_excess=st.sampled_from(["refuse", "pace"]))
    def begin(self, most: int, on_excess: str) -> None:
        limits = {"max_sockets": most, "per": "5s", "on_excess": on_excess}
        self.port, self.limits = 4, limits
        self._read()
        self.kept = Kept()
        self._start()
        self._forget()

    def _read(self) -> None:
        changed = {**RULES[-1], "match": {"remote_port": self.port}}
        self.policy = policies.policy(*RULES[:-1], changed, limits=self.limits)

    def _start(self) -> None:
        self.engine = Engine(
            self.policy, longest_gap_ms=20_000, kept=self.kept, keep=self._write_down
        )

    def _write_down(self, kept: Kept) -> None:
        self.kept = kept

    def _forget(self) -> None:
        self.accounts = {place: [] for place in PLACES}

    def _forget_rule(self, name: str) -> None:
        for account in self.accounts.values():
            for seen in account:
                if seen.violating is not None:
                    seen.violating[name] = set()

    # What happens.

    @rule(what=st.sampled_from(["restart", "reload", "change", "sleep", "protect"]), data=st.data())
    def now_and_then(self, what: str, data: st.DataObject) -> None:
        if what == "protect":
            self.protected ^= {(data.draw(st.sampled_from(PLACES)), data.draw(COOKIES))}
        elif what == "sleep":
            self.engine.interrupted()
            for account in self.accounts.values():
                account.append(Seen(self.now_ms, self.now_ms, None))
        elif what == "restart":
            self._forget()
            self._start()
        else:
            if what == "change":
                self.port += 1
                self._forget_rule("soon")
            self._read()
            self.engine.reload(self.policy)

    @rule(
        names=st.sets(st.sampled_from(list(HOLDS)), min_size=1, max_size=2),
        place=st.sampled_from(PLACES),
        cookies=st.sets(COOKIES, min_size=1, max_size=2),
        later_ms=st.sampled_from([0, 1, 500, 1_000]),
    )
    def an_event_is_lost(
        self, names: set[str], place: Place, cookies: set[int], later_ms: int
    ) -> None:
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
        took_ms=st.sampled_from([0, 0, 0, 7, 400]),
        outcome=st.sampled_from(["destroyed", "destroyed", "survived", "already_gone", "busy"]),
        withheld=st.sampled_from([None, None, None, "paused"]),
    )
    def an_event(
        self,
        names: set[str],
        place: Place,
        cookies: set[int],
        later_ms: int,
        failing: tuple[Place, ...],
        took_ms: int,
        outcome: str,
        withheld: str | None,
    ) -> None:
        """Some sockets come to violate, or cease to, and it is looked at once or after a while."""
        self._flap(names, place, cookies)
        self.now_ms += later_ms
        self._pass(set(failing), took_ms, outcome, withheld)

    @precondition(lambda self: self.decision is not None and self.decision.next_ms is not None)
    @rule(outcome=st.sampled_from(["destroyed", "survived"]))
    def it_wakes_by_itself(self, outcome: str) -> None:
        assert self.decision is not None
        assert self.decision.next_ms is not None
        self.now_ms = max(self.now_ms, self.decision.next_ms)
        self._pass(set(), 0, outcome, None)

    # What the engine makes of it.

    def _looks(self, failing: set[Place], took_ms: int) -> list[Judgement | Unseen]:
        looks: list[Judgement | Unseen] = []
        for place in PLACES:
            account = self.accounts[place]
            if place in failing:
                looks.append(unseen(place))
                account.append(Seen(self.now_ms, self.now_ms, None))
                continue
            if account and self.now_ms - account[-1].ended_ms > 20_000:
                account.append(Seen(self.now_ms, self.now_ms, None))
            seen = {
                name: {each for at, (where, each) in self.violating if (at, where) == (name, place)}
                for name in HOLDS
            }
            sockets: dict[str, list[PlacedSocket]] = {
                name: [decoded(each, place) for each in sorted(cookies)]
                for name, cookies in seen.items()
            }
            protected = {each: "kernel" for where, each in self.protected if where is place}
            looks.append(
                look(self.policy, self.now_ms, sockets, place, took_ms=took_ms, protected=protected)
            )
            account.append(Seen(self.now_ms, self.now_ms + took_ms, seen))
        return looks

    def _pass(self, failing: set[Place], took_ms: int, outcome: str, withheld: str | None) -> None:
        self.engine.see(self._looks(failing, took_ms))
        self.now_ms += took_ms
        self.decision = self.engine.decide(self.now_ms, withheld=withheld)
        self._check(self.decision, failing, withheld)
        done: list[Enforced] = []
        for violation in self.decision.destroy:
            done.append(Enforced(violation, Result(violation.socket, outcome)))
            if outcome in ("destroyed", "already_gone"):
                socket = self._socket(violation)
                self.violating = {each for each in self.violating if each[1] != socket}
        if outcome in ("destroyed", "survived"):
            self.destroyed.append((self.now_ms, len(done)))
        self.engine.done(done, self.now_ms)

    def _socket(self, violation: Any) -> PlacedSocket:
        snapshot = violation.socket.snapshot
        return snapshot, violation.socket.cookie

    def _check(self, decision: Decision, failing: set[Place], withheld: str | None) -> None:
        destroyed = [self._socket(each) for each in decision.destroy]
        assert len(set(destroyed)) == len(destroyed)
        if withheld is not None:
            assert destroyed == []
        for violation in decision.destroy:
            place, cookie = self._socket(violation)
            name = violation.rule.name
            assert (name, (place, cookie)) in self.violating
            assert (place, cookie) not in self.protected
            assert place not in failing
            assert name != "watch"
            assert self._violated_ms(name, place, cookie) >= HOLDS[name]
            earlier = [each for each in HOLDS_IN_ORDER if each != "watch"]
            for other in earlier[: earlier.index(name)]:
                if (other, (place, cookie)) in self.violating:
                    assert self._violated_ms(other, place, cookie) < HOLDS[other]
        if self.policy.limits.on_excess == "refuse" and decision.excess is not None:
            assert destroyed == []

    def _violated_ms(self, name: str, place: Place, cookie: int) -> int:
        """For how long up to the last look, as it was seen: from the end of the first to the begin
        of the last of looks that show it one after the other."""
        stretches: list[list[Seen]] = [[]]
        for seen in reversed(self.accounts[place]):
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
    def no_stretch_of_time_sees_more_destroyed_than_the_limit(self) -> None:
        for at, _count in self.destroyed:
            within = [count for when, count in self.destroyed if at <= when < at + PER_MS]
            assert sum(within) <= self.policy.limits.max_sockets

    def teardown(self) -> None:
        """When nothing happens any more, everything that violates, and may go, goes."""
        if not hasattr(self, "policy"):
            return
        limits = self.policy.limits
        self.now_ms += 2 * 600_000
        for _turn in range(200):
            self._pass(set(), 0, "destroyed", None)
            assert self.decision is not None
            if self.decision.next_ms is None:
                break
            assert self.decision.next_ms > self.now_ms
            self.now_ms = self.decision.next_ms
        else:
            raise AssertionError("it never comes to rest")
        left = {
            socket
            for name, socket in self.violating
            if name != "watch" and socket not in self.protected
        }
        if limits.on_excess == "pace" or len(left) <= limits.max_sockets:
            assert left == set()


HOLDS_IN_ORDER = [each["name"] for each in RULES]

TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=100, stateful_step_count=40)
