# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions: holds, limits, backoff, protection and inhibitors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from linuxnet_sockets.destroy.outcomes import OUTCOMES
from linuxnet_sockets.policy import backoff, findings, holds
from linuxnet_sockets.policy.budget import BudgetSnapshot
from linuxnet_sockets.policy.decide import Decider
from linuxnet_sockets.policy.holds import RESTART_WINDOW_MS
from tests.support.policy_documents import policy, rule
from tests.unit.policy.evaluations import (
    HERE,
    THERE,
    decoded,
    evaluation,
    not_evaluated,
    record_outcome,
    run_pass,
    statuses,
    to_destroy,
)

ONE, TWO, THREE = decoded(1), decoded(2), decoded(3)

# Holds.


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


def test_restart_holds_discards_counted_time() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    run_pass(decider, 0, evaluation(one, 0, [ONE]))
    run_pass(decider, 1_500, evaluation(one, 1_500, [ONE]))
    decider.restart_holds()
    assert statuses(run_pass(decider, 1_900, evaluation(one, 1_900, [ONE]))) == {1: "hold"}
    # The first 1.5 s no longer count.
    assert statuses(run_pass(decider, 3_899, evaluation(one, 3_899, [ONE]))) == {1: "hold"}
    assert to_destroy(run_pass(decider, 3_900, evaluation(one, 3_900, [ONE]))) == [1]


def test_repeated_restarts_do_not_postpone_hold_forever() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)
    now_ms = 0
    while not to_destroy(run_pass(decider, now_ms, evaluation(one, now_ms, [ONE]))):
        decider.restart_holds()
        now_ms += 1_000
        assert now_ms < 120_000
    assert now_ms >= RESTART_WINDOW_MS


def test_time_beyond_max_gap_does_not_count() -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one, max_gap_ms=60_000)
    run_pass(decider, 0, evaluation(one, 0, [ONE]))
    assert statuses(run_pass(decider, 60_001, evaluation(one, 60_001, [ONE]))) == {1: "hold"}
    assert to_destroy(run_pass(decider, 120_001, evaluation(one, 120_001, [ONE]))) == [1]


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


# Protected, inhibited and reported.


def test_protected_socket_is_not_destroyed() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 1})
    decision = run_pass(
        Decider(one), 0, evaluation(one, 0, [ONE, TWO], protected={1: "ssh_sessions"})
    )
    assert statuses(decision) == {1: "protected", 2: "destroy"}
    assert decision.budget_exceeded is None
    reason = decision.findings[0].violation.protected_by
    assert reason is not None
    assert reason.rule == "ssh_sessions"


@pytest.mark.parametrize("inhibited_by", ["paused", "unconfirmed"])
def test_inhibited_pass_destroys_nothing(inhibited_by: str) -> None:
    one = policy(rule(hold="1s"))
    decider = Decider(one)
    run_pass(decider, 0, evaluation(one, 0, [ONE]), inhibited_by=inhibited_by)
    decision = run_pass(decider, 1_000, evaluation(one, 1_000, [ONE]), inhibited_by=inhibited_by)
    assert statuses(decision) == {1: "inhibited"}
    assert decision.inhibited_by == inhibited_by
    assert decision.to_destroy == ()
    assert decider.destroyed_in_window(1_000) == 0
    # The hold continued during the inhibited passes.
    assert to_destroy(run_pass(decider, 1_001, evaluation(one, 1_001, [ONE]))) == [1]


def test_mode_report_destroys_nothing() -> None:
    one = policy(rule(hold=0), mode="report")
    decision = run_pass(Decider(one), 0, evaluation(one, 0, [ONE]))
    assert statuses(decision) == {1: "inhibited"}
    assert decision.inhibited_by == "report_mode"


def test_action_report_waits_for_hold() -> None:
    one = policy(rule(hold="1s", action="report"))
    decider = Decider(one)
    assert statuses(run_pass(decider, 0, evaluation(one, 0, [ONE]))) == {1: "hold"}
    assert statuses(run_pass(decider, 1_000, evaluation(one, 1_000, [ONE]))) == {1: "reported"}


def test_second_decide_without_observe_is_empty() -> None:
    one = policy(rule(hold=0))
    decider = Decider(one)
    decider.observe([evaluation(one, 0, [ONE])])
    assert to_destroy(decider.decide(0)) == [1]
    assert decider.decide(0).findings == ()


# Limits.


def test_refuse_destroys_nothing_over_budget() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1m"})
    decider = Decider(one)
    decision = run_pass(decider, 0, evaluation(one, 0, [ONE, TWO, THREE]))
    assert statuses(decision) == {1: "limit", 2: "limit", 3: "limit"}
    assert decision.budget_exceeded == (3, 0, one.limits)
    # No time makes room for three sockets.
    assert decision.next_pass_ms is None
    # One socket closed on its own; the others fit the budget.
    assert to_destroy(run_pass(decider, 1, evaluation(one, 1, [ONE, THREE]))) == [1, 3]


def test_budget_covers_sliding_window_and_all_namespaces() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "10s"})
    decider = Decider(one)
    assert (
        len(
            to_destroy(
                run_pass(decider, 0, evaluation(one, 0, [ONE]), evaluation(one, 0, [], THERE))
            )
        )
        == 1
    )
    second = [evaluation(one, 6_000, [TWO]), evaluation(one, 6_000, [decoded(9, THERE)], THERE)]
    decision = run_pass(decider, 6_000, *second)
    assert decision.budget_exceeded == (2, 1, one.limits)
    assert decision.next_pass_ms is not None
    assert 10_000 < decision.next_pass_ms <= 10_000 + 10_000 // 32
    later = decision.next_pass_ms
    assert to_destroy(run_pass(decider, later - 1, evaluation(one, later - 1, [TWO, THREE]))) == []
    assert to_destroy(run_pass(decider, later, evaluation(one, later, [TWO, THREE]))) == [2, 3]


def test_pace_destroys_oldest_violations_first() -> None:
    one = policy(rule(hold="1s"), limits={"max_sockets": 2, "per": "10s", "on_excess": "pace"})
    decider = Decider(one)
    run_pass(decider, 0, evaluation(one, 0, [THREE]))
    run_pass(decider, 500, evaluation(one, 500, [TWO, THREE]))
    run_pass(decider, 900, evaluation(one, 900, [ONE, TWO, THREE]))
    decision = run_pass(decider, 2_000, evaluation(one, 2_000, [ONE, TWO, THREE]))
    assert sorted(to_destroy(decision)) == [2, 3]
    assert statuses(decision)[1] == "limit"
    assert decision.budget_exceeded == (3, 0, one.limits)
    later = decision.next_pass_ms
    assert later is not None
    assert later > 12_000
    assert to_destroy(run_pass(decider, later - 1, evaluation(one, later - 1, [ONE]))) == []
    assert to_destroy(run_pass(decider, later, evaluation(one, later, [ONE]))) == [1]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_untouched_sockets_are_refunded(outcome: str) -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "10s"})
    decider = Decider(one)
    decider.observe([evaluation(one, 0, [ONE, TWO])])
    record_outcome(decider, decider.decide(0), 0, outcome)
    # A socket that survived may still close later, so it counts.
    counts = outcome in ("destroyed", "disconnected", "survived")
    assert decider.destroyed_in_window(0) == (2 if counts else 0)


# Backoff.


def reconnects(decider: Decider, rounds: int, outcome: str = "destroyed") -> list[int]:
    """Milliseconds between destroys of a client that reconnects at once."""
    one, now, last, waits = decider.policy, 0, 0, []
    for cookie in range(1, rounds + 1):
        while True:
            decider.observe([evaluation(one, now, [decoded(cookie)])])
            decision = decider.decide(now)
            record_outcome(decider, decision, now, outcome)
            if decision.to_destroy:
                break
            assert decision.next_pass_ms is not None
            assert decision.next_pass_ms > now
            now = decision.next_pass_ms
        waits.append(now - last)
        last = now
    return waits


def test_reconnecting_client_backs_off() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    decider = Decider(one)
    waits = reconnects(decider, 14)
    assert waits[:8] == [0, 0, 0, 2_000, 4_000, 8_000, 16_000, 32_000]
    assert max(waits) == backoff.MAX_DELAY_MS
    now = sum(waits)
    (target,) = decider.backing_off(now)
    assert target.remote_port == 443
    # Another port, and another namespace, are other destinations.
    others = [decoded(50, remote_port=80), decoded(51)]
    decision = run_pass(
        decider,
        now,
        evaluation(one, now, others),
        evaluation(one, now, [decoded(52, THERE)], THERE),
    )
    assert statuses(decision) == {50: "destroy", 51: "back_off", 52: "destroy"}


def test_paced_destruction_does_not_back_off() -> None:
    limits = {"max_sockets": 2, "per": "10s", "on_excess": "pace"}
    one = policy(rule(hold=0), limits=limits)
    decider = Decider(one)
    left, now = list(range(1, 25)), 0
    while left:
        decision = run_pass(decider, now, evaluation(one, now, [decoded(each) for each in left]))
        assert "back_off" not in statuses(decision).values()
        left = [each for each in left if each not in to_destroy(decision)]
        if left:
            assert decision.next_pass_ms is not None
            now = decision.next_pass_ms
    # Twelve passes of two sockets, ten seconds apart, within the length of an interval.
    assert now < 11 * 11_000


def test_one_pass_counts_once_for_backoff() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    decider = Decider(one)
    many = [decoded(cookie) for cookie in range(1, 1001)]
    assert len(to_destroy(run_pass(decider, 0, evaluation(one, 0, many)))) == 1000
    assert decider.backing_off(0) == {}


def test_backoff_resets_after_quiet_period() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    decider = Decider(one)
    quiet = sum(reconnects(decider, 10)) + 2 * backoff.MAX_DELAY_MS
    for cookie in (100, 101, 102):
        assert to_destroy(run_pass(decider, quiet, evaluation(one, quiet, [decoded(cookie)]))) == [
            cookie
        ]


def test_failed_destroy_backs_off_at_once() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    assert reconnects(Decider(one), 4, "not_permitted") == [0, 2_000, 4_000, 8_000]


def test_backoff_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "MAX_DESTINATIONS", 3)
    delays = backoff.Backoff()
    destinations = [backoff.Destination((4, 1), "tcp", b"", b"", port) for port in range(5)]
    for now, destination in enumerate(destinations):
        delays.record(destination, now, failed=True)
    assert list(delays.active(5)) == destinations[2:]


# Reload and persistence.


def test_reload_keeps_holds_of_unchanged_rules() -> None:
    rules = [rule("same", hold="2s"), rule("other", hold="2s", match={"remote_port": 1})]
    one = policy(*rules)
    decider = Decider(one)
    run_pass(decider, 0, evaluation(one, 0, {"same": [ONE], "other": [TWO]}))
    decider.reload(policy(*rules))
    rules[1] = rule("other", hold="2s", match={"remote_port": [1, 2]})
    # The unchanged rule moved to another position, and the limits changed.
    other = policy(rule("new", hold="2s"), *reversed(rules), limits={"max_sockets": 7})
    decider.reload(other)
    seen = {"same": [ONE], "other": [TWO], "new": [THREE]}
    decision = run_pass(decider, 2_000, evaluation(other, 2_000, seen))
    assert statuses(decision) == {1: "destroy", 2: "hold", 3: "hold"}
    assert sorted(to_destroy(run_pass(decider, 4_000, evaluation(other, 4_000, seen)))) == [1, 2, 3]


def test_repeated_reloads_do_not_postpone_hold() -> None:
    one = policy(rule(hold="1s"))
    decider = Decider(one)
    for now in range(0, 1_000, 300):
        decider.reload(policy(rule(hold="1s")))
        assert to_destroy(run_pass(decider, now, evaluation(one, now, [ONE]))) == []
    assert to_destroy(run_pass(decider, 1_000, evaluation(one, 1_000, [ONE]))) == [1]


def test_budget_is_saved_before_destruction() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1h", "on_excess": "pace"})
    written: list[BudgetSnapshot] = []

    decider = Decider(one, save=written.append)
    decider.observe([evaluation(one, 0, [ONE, TWO, THREE])])
    assert len(to_destroy(decider.decide(0))) == 2
    # As after SIGKILL before the sockets are destroyed: they count.
    (kept,) = written
    after = Decider(one, budget=kept)
    assert to_destroy(run_pass(after, 1, evaluation(one, 1, [ONE, TWO, THREE]))) == []


def test_refund_is_saved() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1h"})
    written: list[BudgetSnapshot] = []
    decider = Decider(one, save=written.append)
    decider.observe([evaluation(one, 0, [ONE, TWO])])
    record_outcome(decider, decider.decide(0), 0, "already_gone")
    assert Decider(one, budget=written[0]).destroyed_in_window(1) == 2
    assert Decider(one, budget=written[-1]).destroyed_in_window(1) == 0
    # A pass without anything to destroy saves nothing.
    run_pass(decider, 1, evaluation(one, 1, []))
    assert len(written) == 2


def test_unknown_budget_destroys_nothing() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "10s"})
    decider = Decider(one, budget=BudgetSnapshot(unknown_until_ms=1_000))
    decision = run_pass(decider, 2_000, evaluation(one, 2_000, [ONE]))
    assert statuses(decision) == {1: "limit"}
    assert decision.budget_exceeded == (1, 2, one.limits)
    assert decision.next_pass_ms == decider.budget_unknown_until_ms(2_000) == 11_000
    assert to_destroy(run_pass(decider, 11_000, evaluation(one, 11_000, [ONE]))) == [1]


def test_reload_of_changed_rule_restarts_hold_and_keeps_budget() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1m"})
    decider = Decider(one)
    assert len(to_destroy(run_pass(decider, 0, evaluation(one, 0, [ONE, TWO])))) == 2
    other = policy(rule(hold="1s"), limits={"max_sockets": 2, "per": "1m"})
    decider.reload(other)
    assert decider.policy is other
    assert statuses(run_pass(decider, 5_000, evaluation(other, 5_000, [THREE]))) == {3: "hold"}
    assert statuses(run_pass(decider, 6_000, evaluation(other, 6_000, [THREE]))) == {3: "limit"}
    assert decider.destroyed_in_window(6_000) == 2


def test_statuses_are_a_closed_list() -> None:
    assert set(findings.STATUSES) == {
        "destroy",
        "hold",
        "limit",
        "back_off",
        "protected",
        "reported",
        "inhibited",
        "other_rule",
    }
    assert HERE.namespace.identity != THERE.namespace.identity


def test_decide_does_not_import_evaluation() -> None:
    """Decisions are pure: importing them loads no module that makes kernel calls for a policy."""
    package = "linuxnet_sockets"
    script = (
        f"import sys, tests.conftest, {package}.policy.decide; "
        f"print([name for name in ('policy.evaluate', 'policy.reconcile', 'query.find', "
        f"'destroy.executor') if '{package}.' + name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
