# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds: how long a socket must violate a rule before it is destroyed."""

from __future__ import annotations

import pytest

from linuxnet_sockets.policy import holds
from linuxnet_sockets.policy.decide import Decider
from linuxnet_sockets.policy.doubt import NetworkChanges
from linuxnet_sockets.policy.holds import RESTART_WINDOW_MS
from tests.support.policy_documents import policy, rule
from tests.unit.policy.evaluations import (
    HERE,
    THERE,
    decoded,
    evaluation,
    not_evaluated,
    run_pass,
    statuses,
    to_destroy,
)

LOST = NetworkChanges(lost=True)
ONE, TWO, THREE = decoded(1), decoded(2), decoded(3)


def test_hold_delays_destruction() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    first = run_pass(decider, 1_000, evaluation(one, 1_000, [ONE]))
    assert statuses(first) == {1: "hold"}
    assert first.next_pass_ms == 3_000
    assert statuses(run_pass(decider, 2_999, evaluation(one, 2_999, [ONE]))) == {1: "hold"}
    assert to_destroy(run_pass(decider, 3_000, evaluation(one, 3_000, [ONE]))) == [1]


def test_zero_hold_destroys_on_first_evaluation() -> None:
    one = policy(rule(hold=0))
    assert to_destroy(run_pass(Decider(one), 5, evaluation(one, 5, [ONE], duration_ms=3))) == [1]


def test_hold_excludes_duration_of_evaluations() -> None:
    """A hold counts from the end of the first evaluation to the start of the last one."""
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    first = run_pass(decider, 1_000, evaluation(one, 1_000, [ONE], duration_ms=500))
    assert first.next_pass_ms == 3_500
    assert (
        to_destroy(run_pass(decider, 3_499, evaluation(one, 3_499, [ONE], duration_ms=500))) == []
    )
    assert to_destroy(run_pass(decider, 3_500, evaluation(one, 3_500, [ONE], duration_ms=500))) == [
        1
    ]


def test_violation_that_ceases_restarts_hold() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    for now, seen, expected in (
        (0, [ONE, TWO], []),
        (1_900, [TWO], []),
        (2_000, [ONE, TWO], [2]),
        (3_999, [ONE], []),
        (4_000, [ONE], [1]),
    ):
        assert to_destroy(run_pass(decider, now, evaluation(one, now, seen))) == expected


def test_each_rule_has_its_own_hold() -> None:
    two = policy(rule("slow", hold="5s"), rule("quick", hold="1s", match={"remote_port": 443}))
    decider = Decider(two)
    run_pass(decider, 0, evaluation(two, 0, {"slow": [ONE]}))
    run_pass(decider, 1_000, evaluation(two, 1_000, {"slow": [ONE], "quick": [ONE]}))
    decision = run_pass(decider, 2_000, evaluation(two, 2_000, {"slow": [ONE], "quick": [ONE]}))
    assert [(each.violation.rule.name, each.status) for each in decision.findings] == [
        ("slow", "hold"),
        ("quick", "destroy"),
    ]


def test_first_destroying_rule_decides() -> None:
    three = policy(
        rule("watch", action="report", hold=0),
        rule("first", hold=0, match={"remote_port": 443}),
        rule("second", hold=0, match={"remote_port": "1-1000"}),
    )
    decision = run_pass(Decider(three), 0, evaluation(three, 0, [ONE]))
    assert [(each.violation.rule.name, each.status) for each in decision.findings] == [
        ("watch", "reported"),
        ("first", "destroy"),
        ("second", "other_rule"),
    ]


def test_cookie_alone_does_not_identify_socket() -> None:
    """A socket is another one in another namespace, or connected to another peer."""
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    run_pass(decider, 0, evaluation(one, 0, [ONE]), evaluation(one, 0, [], THERE))
    moved = decoded(1, remote="198.51.100.8")
    decision = run_pass(
        decider,
        2_000,
        evaluation(one, 2_000, [moved]),
        evaluation(one, 2_000, [decoded(1, THERE)], THERE),
    )
    assert to_destroy(decision) == []


def test_failed_evaluation_pauses_holds() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    run_pass(decider, 0, evaluation(one, 0, [ONE]))
    run_pass(decider, 1_500, evaluation(one, 1_500, [ONE]))
    assert run_pass(decider, 2_000, not_evaluated()).findings == ()
    # 1.5 s are counted; the time around the failed evaluation is not.
    back = run_pass(decider, 9_000, evaluation(one, 9_000, [ONE]))
    assert statuses(back) == {1: "hold"}
    assert back.next_pass_ms == 9_500
    assert to_destroy(run_pass(decider, 9_500, evaluation(one, 9_500, [ONE]))) == [1]


def test_failed_rule_pauses_its_holds_only() -> None:
    two = policy(rule("a", hold="2s"), rule("b", hold="2s", match={"remote_port": 443}))
    decider = Decider(two)
    run_pass(decider, 0, evaluation(two, 0, [ONE]))
    decision = run_pass(decider, 2_000, evaluation(two, 2_000, [ONE], failed=["a"]))
    assert [each.rule.name for each in decision.to_destroy] == ["b"]
    assert statuses(run_pass(decider, 3_000, evaluation(two, 3_000, {"a": [TWO]}))) == {2: "hold"}


def test_gap_does_not_count_for_holds() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    run_pass(decider, 0, evaluation(one, 0, [ONE]))
    decider.mark_gap()
    assert statuses(run_pass(decider, 60_000, evaluation(one, 60_000, [ONE]))) == {1: "hold"}
    assert to_destroy(run_pass(decider, 62_000, evaluation(one, 62_000, [ONE]))) == [1]


def test_doubt_discards_counted_time() -> None:
    one = policy(rule(hold="2s", match={"stranded": "unroutable"}))
    decider = Decider(one)
    run_pass(decider, 0, evaluation(one, 0, [ONE]))
    run_pass(decider, 1_500, evaluation(one, 1_500, [ONE]))
    decider.record_changes(HERE.namespace.identity, LOST)
    assert statuses(run_pass(decider, 1_900, evaluation(one, 1_900, [ONE]))) == {1: "hold"}
    # The first 1.5 s no longer count.
    assert statuses(run_pass(decider, 3_899, evaluation(one, 3_899, [ONE]))) == {1: "hold"}
    assert to_destroy(run_pass(decider, 3_900, evaluation(one, 3_900, [ONE]))) == [1]


def test_repeated_doubts_do_not_postpone_hold_forever() -> None:
    one = policy(rule(hold="2s", match={"stranded": "unroutable"}))
    decider = Decider(one)
    now_ms = 0
    while not to_destroy(run_pass(decider, now_ms, evaluation(one, now_ms, [ONE]))):
        decider.record_changes(HERE.namespace.identity, LOST)
        now_ms += 1_000
        assert now_ms < 120_000
    assert now_ms >= RESTART_WINDOW_MS


def test_time_beyond_max_gap_does_not_count() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one, max_gap_ms=60_000)
    run_pass(decider, 0, evaluation(one, 0, [ONE]))
    assert statuses(run_pass(decider, 60_001, evaluation(one, 60_001, [ONE]))) == {1: "hold"}
    assert to_destroy(run_pass(decider, 120_001, evaluation(one, 120_001, [ONE]))) == [1]


def test_pass_of_one_namespace_keeps_holds_of_others() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    there = decoded(7, THERE)
    run_pass(decider, 0, evaluation(one, 0, [ONE]), evaluation(one, 0, [there], THERE))
    decider.observe([evaluation(one, 1_000, [ONE])], forget_others=False)
    decider.decide(1_000)
    decider.observe([evaluation(one, 2_000, [there], THERE)], forget_others=False)
    assert to_destroy(decider.decide(2_000)) == [7]
    decider.forget(THERE.namespace.identity)
    decider.observe([evaluation(one, 3_000, [there], THERE)], forget_others=False)
    assert statuses(decider.decide(3_000)) == {7: "hold"}


def test_forgotten_namespaces_free_their_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "MAX_HOLDS", 1)
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    there = decoded(7, THERE)
    run_pass(decider, 0, evaluation(one, 0, [there], THERE))
    decider.forget(THERE.namespace.identity)
    for now in (0, 1_000):
        decider.observe([evaluation(one, now, [ONE])], forget_others=False)
        assert decider.decide(now).untracked == 0


def test_holds_of_missing_namespace_end() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    there = decoded(7, THERE)
    run_pass(decider, 0, evaluation(one, 0, []), evaluation(one, 0, [there], THERE))
    run_pass(decider, 1_000, evaluation(one, 1_000, []))
    assert to_destroy(run_pass(decider, 2_000, evaluation(one, 2_000, [there], THERE))) == []


def test_new_decider_has_no_holds() -> None:
    one = policy(rule(hold="2s"))
    run_pass(Decider(one), 0, evaluation(one, 0, [ONE]))
    assert to_destroy(run_pass(Decider(one), 2_000, evaluation(one, 2_000, [ONE]))) == []


def test_is_due_agrees_with_decision() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    first = evaluation(one, 0, [ONE])
    assert not decider.is_due(first.violations[0], 0)
    run_pass(decider, 0, first)
    for now, due in ((1_999, False), (2_000, True)):
        again = evaluation(one, now, [ONE])
        assert decider.is_due(again.violations[0], now) is due
        assert to_destroy(run_pass(decider, now, again)) == ([1] if due else [])


def test_violation_without_guard_check_is_not_destroyed() -> None:
    one = policy(rule(hold=0))
    decision = run_pass(Decider(one), 0, evaluation(one, 0, [ONE], guard_checked=False))
    assert statuses(decision) == {1: "hold"}
    assert decision.next_pass_ms is not None


def test_holds_of_one_user_do_not_displace_those_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holds, "MAX_HOLDS", 4)
    monkeypatch.setattr(holds, "MAX_HOLDS_PER_USER", 2)
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    greedy = [decoded(cookie, uid=1500) for cookie in range(10, 20)]
    other, nobody = decoded(1, uid=1000), decoded(2, uid=None)
    for now in (0, 2_000):
        # The share counts in all namespaces.
        decider.observe([evaluation(one, now, greedy[:1], THERE)], forget_others=False)
        decider.decide(now)
        here = [*greedy[1:], other, nobody]
        decider.observe([evaluation(one, now, here)], forget_others=False)
        decision = decider.decide(now)
        assert decision.untracked == 8
    assert sorted(to_destroy(decision)) == [1, 2, 11]
    # Their places are free again when the violations end.
    decider.forget(THERE.namespace.identity)
    for now in (3_000, 5_000):
        decider.observe([evaluation(one, now, greedy[7:9])], forget_others=False)
        decision = decider.decide(now)
        assert decision.untracked == 0
    assert to_destroy(decision) == [17, 18]


def test_untracked_violations_are_not_destroyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "MAX_HOLDS", 2)
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    for now in (0, 2_000):
        decision = run_pass(decider, now, evaluation(one, now, [ONE, TWO, THREE]))
        assert decision.untracked == 1
    assert to_destroy(decision) == [1, 2]
    # The third socket is tracked now.
    run_pass(decider, 3_000, evaluation(one, 3_000, [THREE]))
    assert to_destroy(run_pass(decider, 5_000, evaluation(one, 5_000, [THREE]))) == [3]
