# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions: protection, inhibitors, limits, reload and persistence of the budget."""

from __future__ import annotations

import subprocess
import sys

import pytest

from linuxnet_sockets.destroy.outcomes import OUTCOMES
from linuxnet_sockets.policy import findings
from linuxnet_sockets.policy.budget import BudgetExceeded, BudgetSnapshot
from linuxnet_sockets.policy.decide import Decider
from tests.support.policy_documents import policy, rule
from tests.unit.policy.evaluations import (
    HERE,
    THERE,
    decoded,
    evaluation,
    record_outcome,
    run_pass,
    statuses,
    to_destroy,
)

ONE, TWO, THREE = decoded(1), decoded(2), decoded(3)

# Protected, inhibited and reported.


def test_protected_socket_is_not_destroyed() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 1})
    decision = run_pass(
        Decider(one), 0, evaluation(one, 0, [ONE, TWO], protected={1: "ssh_sessions"})
    )
    assert statuses(decision) == {1: "protected", 2: "destroy"}
    assert decision.budget_exceeded == ()
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
    assert decision.budget_exceeded == (BudgetExceeded(3, 0, one.limits, "a-rule", 1000),)
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
    assert decision.budget_exceeded == (BudgetExceeded(2, 1, one.limits, "a-rule", 1000),)
    assert decision.next_pass_ms is not None
    assert 10_000 < decision.next_pass_ms <= 10_000 + 10_000 // 4
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
    assert decision.budget_exceeded == (BudgetExceeded(3, 0, one.limits, "a-rule", 1000),)
    later = decision.next_pass_ms
    assert later is not None
    assert later > 12_000
    assert to_destroy(run_pass(decider, later - 1, evaluation(one, later - 1, [ONE]))) == []
    assert to_destroy(run_pass(decider, later, evaluation(one, later, [ONE]))) == [1]


def test_excess_of_one_user_excludes_only_theirs() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1m"})
    decider = Decider(one)
    sockets = [*(decoded(number, uid=1500) for number in range(1, 4)), decoded(4, uid=1501)]
    decision = run_pass(decider, 0, evaluation(one, 0, sockets))
    assert statuses(decision) == {1: "limit", 2: "limit", 3: "limit", 4: "destroy"}
    assert decision.budget_exceeded == (BudgetExceeded(3, 0, one.limits, "a-rule", 1500),)
    # Sockets without an owner are counted as those of one user of their own.
    sockets = [*sockets[:3], decoded(5, uid=None), decoded(6, uid=0)]
    decision = run_pass(decider, 1, evaluation(one, 1, sockets))
    assert to_destroy(decision) == [5, 6]


def test_excess_of_one_rule_excludes_only_its_sockets() -> None:
    rules = [rule("one", hold=0), rule("two", hold=0, match={"remote_port": 443})]
    both = policy(*rules, limits={"max_sockets": 2, "per": "1m"})
    violating = {"one": [ONE, TWO, THREE], "two": [decoded(4)]}
    decision = run_pass(Decider(both), 0, evaluation(both, 0, violating))
    assert to_destroy(decision) == [4]
    assert [each.rule for each in decision.budget_exceeded] == ["one"]


def test_total_excludes_all_sockets() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 1, "total": 2, "per": "1m"})
    sockets = [decoded(number, uid=1000 + number) for number in (1, 2, 3)]
    decision = run_pass(Decider(one), 0, evaluation(one, 0, sockets))
    assert to_destroy(decision) == []
    assert decision.budget_exceeded == (BudgetExceeded(3, 0, one.limits),)
    assert decision.budget_exceeded[0].max_sockets == 2


def test_scope_total_counts_all_users_together() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "scope": "total"})
    sockets = [decoded(number, uid=1000 + number) for number in (1, 2, 3)]
    decision = run_pass(Decider(one), 0, evaluation(one, 0, sockets))
    assert set(statuses(decision).values()) == {"limit"}
    assert decision.budget_exceeded == (BudgetExceeded(3, 0, one.limits),)


def test_pace_of_one_user_does_not_delay_others() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 1, "per": "1m", "on_excess": "pace"})
    sockets = [decoded(1, uid=1500), decoded(2, uid=1500), decoded(3, uid=1501)]
    decision = run_pass(Decider(one), 0, evaluation(one, 0, sockets))
    assert statuses(decision) == {1: "destroy", 2: "limit", 3: "destroy"}


def test_subordinate_uids_share_the_budget_of_their_user() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2})
    users = {1500: 1500, 100_000: 1500, 100_001: 1500, 1501: 1501}
    decider = Decider(one, users=lambda: users.__getitem__)
    sockets = [decoded(number, uid=uid) for number, uid in enumerate(users, 1)]
    decision = run_pass(decider, 0, evaluation(one, 0, sockets))
    assert statuses(decision) == {1: "limit", 2: "limit", 3: "limit", 4: "destroy"}
    assert decision.budget_exceeded == (BudgetExceeded(3, 0, one.limits, "a-rule", 1500),)


def test_budget_of_users_survives_a_restart() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1h"})
    saved: list[BudgetSnapshot] = []
    decider = Decider(one, save=saved.append)
    run_pass(decider, 0, evaluation(one, 0, [decoded(1, uid=1500), decoded(2, uid=1500)]))
    after = Decider(one, budget=saved[-1])
    sockets = [decoded(3, uid=1500), decoded(4, uid=1501)]
    assert to_destroy(run_pass(after, 1, evaluation(one, 1, sockets))) == [4]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_untouched_sockets_are_refunded(outcome: str) -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "10s"})
    decider = Decider(one)
    decider.observe([evaluation(one, 0, [ONE, TWO])])
    record_outcome(decider, decider.decide(0), 0, outcome)
    # A socket that survived may still close later, so it counts.
    counts = outcome in ("destroyed", "disconnected", "survived")
    assert decider.destroyed_in_window(0) == (2 if counts else 0)
    decision = run_pass(decider, 1, evaluation(one, 1, [decoded(3, remote_port=7)]))
    assert statuses(decision) == {3: "limit" if counts else "destroy"}


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
    assert decision.budget_exceeded == (BudgetExceeded(1, 20, one.limits),)
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
