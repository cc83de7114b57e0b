# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from looks: holds, limits, back-off, protection, and what withholds everything."""

from __future__ import annotations

import pytest

from linuxnet_sockets.destroy.outcomes import OUTCOMES
from linuxnet_sockets.policy import backoff, decide, holds
from linuxnet_sockets.policy.budget import Kept
from linuxnet_sockets.policy.decide import Engine
from linuxnet_sockets.policy.holds import PATIENCE_MS
from tests.support.policy_documents import policy, rule
from tests.unit.policy.looks import (
    HERE,
    THERE,
    a_pass,
    came_out,
    decoded,
    doomed,
    look,
    told,
    unseen,
)

ONE, TWO, THREE = decoded(1), decoded(2), decoded(3)

# Holds.


def test_it_is_destroyed_when_its_hold_is_over_and_not_before() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    first = a_pass(judge, 1_000, look(one, 1_000, [ONE]))
    assert told(first) == {1: "hold"}
    assert first.next_ms == 3_000
    assert told(a_pass(judge, 2_999, look(one, 2_999, [ONE]))) == {1: "hold"}
    assert doomed(a_pass(judge, 3_000, look(one, 3_000, [ONE]))) == [1]


def test_a_hold_of_nothing_is_over_at_once() -> None:
    one = policy(rule(hold=0))
    assert doomed(a_pass(Engine(one), 5, look(one, 5, [ONE], took_ms=3))) == [1]


def test_a_hold_counts_from_the_end_of_the_first_look_to_the_begin_of_the_last() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    first = a_pass(judge, 1_000, look(one, 1_000, [ONE], took_ms=500))
    assert first.next_ms == 3_500
    assert doomed(a_pass(judge, 3_499, look(one, 3_499, [ONE], took_ms=500))) == []
    assert doomed(a_pass(judge, 3_500, look(one, 3_500, [ONE], took_ms=500))) == [1]


def test_what_is_in_order_again_for_one_look_begins_anew() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    for now, seen, expected in (
        (0, [ONE, TWO], []),
        (1_900, [TWO], []),
        (2_000, [ONE, TWO], [2]),
        (3_999, [ONE], []),
        (4_000, [ONE], [1]),
    ):
        assert doomed(a_pass(judge, now, look(one, now, seen))) == expected


def test_each_rule_counts_for_itself() -> None:
    two = policy(rule("slow", hold="5s"), rule("quick", hold="1s", match={"remote_port": 443}))
    judge = Engine(two)
    a_pass(judge, 0, look(two, 0, {"slow": [ONE]}))
    a_pass(judge, 1_000, look(two, 1_000, {"slow": [ONE], "quick": [ONE]}))
    decision = a_pass(judge, 2_000, look(two, 2_000, {"slow": [ONE], "quick": [ONE]}))
    assert [(each.violation.rule.name, each.status) for each in decision.findings] == [
        ("slow", "hold"),
        ("quick", "destroy"),
    ]


def test_the_first_rule_that_destroys_names_it() -> None:
    three = policy(
        rule("watch", action="report", hold=0),
        rule("first", hold=0, match={"remote_port": 443}),
        rule("second", hold=0, match={"remote_port": "1-1000"}),
    )
    decision = a_pass(Engine(three), 0, look(three, 0, [ONE]))
    assert [(each.violation.rule.name, each.status) for each in decision.findings] == [
        ("watch", "reported"),
        ("first", "destroy"),
        ("second", "other_rule"),
    ]


def test_the_same_cookie_elsewhere_is_another_socket() -> None:
    """Another namespace; and a socket that its owner connected to somewhere else."""
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    a_pass(judge, 0, look(one, 0, [ONE]), look(one, 0, [], THERE))
    moved = decoded(1, remote="198.51.100.8")
    decision = a_pass(
        judge, 2_000, look(one, 2_000, [moved]), look(one, 2_000, [decoded(1, THERE)], THERE)
    )
    assert doomed(decision) == []


def test_a_look_that_could_not_be_made_neither_ends_a_hold_nor_advances_it() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    a_pass(judge, 0, look(one, 0, [ONE]))
    a_pass(judge, 1_500, look(one, 1_500, [ONE]))
    assert a_pass(judge, 2_000, unseen()).findings == ()
    # 1.5 s were seen; that it violates now again says nothing of what was between.
    back = a_pass(judge, 9_000, look(one, 9_000, [ONE]))
    assert told(back) == {1: "hold"}
    assert back.next_ms == 9_500
    assert doomed(a_pass(judge, 9_500, look(one, 9_500, [ONE]))) == [1]


def test_a_rule_that_could_not_be_looked_at_is_as_unseen_as_a_namespace() -> None:
    two = policy(rule("a", hold="2s"), rule("b", hold="2s", match={"remote_port": 443}))
    judge = Engine(two)
    a_pass(judge, 0, look(two, 0, [ONE]))
    decision = a_pass(judge, 2_000, look(two, 2_000, [ONE], failed=["a"]))
    assert [each.rule.name for each in decision.destroy] == ["b"]
    assert told(a_pass(judge, 3_000, look(two, 3_000, {"a": [TWO]}))) == {2: "hold"}


def test_time_that_nobody_watched_counts_for_nothing() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    a_pass(judge, 0, look(one, 0, [ONE]))
    judge.interrupted()
    assert told(a_pass(judge, 60_000, look(one, 60_000, [ONE]))) == {1: "hold"}
    assert doomed(a_pass(judge, 62_000, look(one, 62_000, [ONE]))) == [1]


def test_what_may_have_been_in_order_begins_anew() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    a_pass(judge, 0, look(one, 0, [ONE]))
    a_pass(judge, 1_500, look(one, 1_500, [ONE]))
    judge.doubt()
    assert told(a_pass(judge, 1_900, look(one, 1_900, [ONE]))) == {1: "hold"}
    # The 1.5 s that were seen count no more.
    assert told(a_pass(judge, 3_899, look(one, 3_899, [ONE]))) == {1: "hold"}
    assert doomed(a_pass(judge, 3_900, look(one, 3_900, [ONE]))) == [1]


def test_doubts_do_not_put_an_end_off_for_ever() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    now_ms = 0
    while not doomed(a_pass(judge, now_ms, look(one, now_ms, [ONE]))):
        judge.doubt()
        now_ms += 1_000
        assert now_ms < 120_000
    assert now_ms >= PATIENCE_MS


def test_looks_too_far_apart_say_nothing_of_the_time_between() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one, longest_gap_ms=60_000)
    a_pass(judge, 0, look(one, 0, [ONE]))
    assert told(a_pass(judge, 60_001, look(one, 60_001, [ONE]))) == {1: "hold"}
    assert doomed(a_pass(judge, 120_001, look(one, 120_001, [ONE]))) == [1]


def test_a_namespace_that_is_gone_is_forgotten() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    there = decoded(7, THERE)
    a_pass(judge, 0, look(one, 0, []), look(one, 0, [there], THERE))
    a_pass(judge, 1_000, look(one, 1_000, []))
    assert doomed(a_pass(judge, 2_000, look(one, 2_000, [there], THERE))) == []


def test_a_restart_begins_anew() -> None:
    one = policy(rule(hold="2s"))
    a_pass(Engine(one), 0, look(one, 0, [ONE]))
    assert doomed(a_pass(Engine(one), 2_000, look(one, 2_000, [ONE]))) == []


def test_who_asks_whether_the_guard_is_needed_is_told_what_will_be_decided() -> None:
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    first = look(one, 0, [ONE])
    assert not judge.is_due(first.violations[0], 0)
    a_pass(judge, 0, first)
    for now, due in ((1_999, False), (2_000, True)):
        again = look(one, now, [ONE])
        assert judge.is_due(again.violations[0], now) is due
        assert doomed(a_pass(judge, now, again)) == ([1] if due else [])


def test_what_the_guard_was_not_asked_about_lives() -> None:
    one = policy(rule(hold=0))
    decision = a_pass(Engine(one), 0, look(one, 0, [ONE], guarded=False))
    assert told(decision) == {1: "hold"}
    assert decision.next_ms is not None


def test_what_cannot_be_kept_in_mind_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "MOST_HOLDS", 2)
    one = policy(rule(hold="2s"))
    judge = Engine(one)
    for now in (0, 2_000):
        decision = a_pass(judge, now, look(one, now, [ONE, TWO, THREE]))
        assert decision.untracked == 1
    assert doomed(decision) == [1, 2]
    # There is room for it now.
    a_pass(judge, 3_000, look(one, 3_000, [THREE]))
    assert doomed(a_pass(judge, 5_000, look(one, 5_000, [THREE]))) == [3]


# What is not destroyed.


def test_what_is_protected_is_told_and_lives() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 1})
    decision = a_pass(Engine(one), 0, look(one, 0, [ONE, TWO], protected={1: "ssh_sessions"}))
    assert told(decision) == {1: "protected", 2: "destroy"}
    assert decision.excess is None
    reason = decision.findings[0].violation.protected
    assert reason is not None
    assert reason.rule == "ssh_sessions"


@pytest.mark.parametrize("withheld", ["paused", "unconfirmed"])
def test_what_is_withheld_would_be_destroyed(withheld: str) -> None:
    one = policy(rule(hold="1s"))
    judge = Engine(one)
    a_pass(judge, 0, look(one, 0, [ONE]), withheld=withheld)
    decision = a_pass(judge, 1_000, look(one, 1_000, [ONE]), withheld=withheld)
    assert told(decision) == {1: "inhibited"}
    assert decision.withheld == withheld
    assert decision.destroy == ()
    assert judge.spent(1_000) == 0
    # The hold went on meanwhile.
    assert doomed(a_pass(judge, 1_001, look(one, 1_001, [ONE]))) == [1]


def test_mode_report_destroys_nothing() -> None:
    one = policy(rule(hold=0), mode="report")
    decision = a_pass(Engine(one), 0, look(one, 0, [ONE]))
    assert told(decision) == {1: "inhibited"}
    assert decision.withheld == "report_mode"


def test_action_report_destroys_nothing_and_waits_for_its_hold() -> None:
    one = policy(rule(hold="1s", action="report"))
    judge = Engine(one)
    assert told(a_pass(judge, 0, look(one, 0, [ONE]))) == {1: "hold"}
    assert told(a_pass(judge, 1_000, look(one, 1_000, [ONE]))) == {1: "reported"}


def test_nothing_is_decided_twice() -> None:
    one = policy(rule(hold=0))
    judge = Engine(one)
    judge.see([look(one, 0, [ONE])])
    assert doomed(judge.decide(0)) == [1]
    assert judge.decide(0).findings == ()


# Limits.


def test_above_the_limit_nothing_is_destroyed_and_it_is_said() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1m"})
    judge = Engine(one)
    decision = a_pass(judge, 0, look(one, 0, [ONE, TWO, THREE]))
    assert told(decision) == {1: "limit", 2: "limit", 3: "limit"}
    assert decision.excess == (3, 0, one.limits)
    # Waiting does not help.
    assert decision.next_ms is None
    # When some went by themselves, the rest is within the limit.
    assert doomed(a_pass(judge, 1, look(one, 1, [ONE, THREE]))) == [1, 3]


def test_the_limit_is_for_any_stretch_of_its_time_and_all_namespaces() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "10s"})
    judge = Engine(one)
    assert len(doomed(a_pass(judge, 0, look(one, 0, [ONE]), look(one, 0, [], THERE)))) == 1
    second = [look(one, 6_000, [TWO]), look(one, 6_000, [decoded(9, THERE)], THERE)]
    decision = a_pass(judge, 6_000, *second)
    assert decision.excess == (2, 1, one.limits)
    assert decision.next_ms is not None
    assert 10_000 < decision.next_ms <= 10_000 + 10_000 // 32
    later = decision.next_ms
    assert doomed(a_pass(judge, later - 1, look(one, later - 1, [TWO, THREE]))) == []
    assert doomed(a_pass(judge, later, look(one, later, [TWO, THREE]))) == [2, 3]


def test_pace_takes_the_oldest_violations_first() -> None:
    one = policy(rule(hold="1s"), limits={"max_sockets": 2, "per": "10s", "on_excess": "pace"})
    judge = Engine(one)
    a_pass(judge, 0, look(one, 0, [THREE]))
    a_pass(judge, 500, look(one, 500, [TWO, THREE]))
    a_pass(judge, 900, look(one, 900, [ONE, TWO, THREE]))
    decision = a_pass(judge, 2_000, look(one, 2_000, [ONE, TWO, THREE]))
    assert sorted(doomed(decision)) == [2, 3]
    assert told(decision)[1] == "limit"
    assert decision.excess == (3, 0, one.limits)
    later = decision.next_ms
    assert later is not None
    assert later > 12_000
    assert doomed(a_pass(judge, later - 1, look(one, later - 1, [ONE]))) == []
    assert doomed(a_pass(judge, later, look(one, later, [ONE]))) == [1]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_was_not_touched_does_not_count_against_the_limit(outcome: str) -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "10s"})
    judge = Engine(one)
    judge.see([look(one, 0, [ONE, TWO])])
    came_out(judge, judge.decide(0), 0, outcome)
    # What survived was aborted, perhaps, and comes to light later.
    counts = outcome in ("destroyed", "disconnected", "survived")
    assert judge.spent(0) == (2 if counts else 0)


# Back-off.


def reconnects(judge: Engine, rounds: int, outcome: str = "destroyed") -> list[int]:
    """When a client that connects anew at once is destroyed, in milliseconds after the last."""
    one, now, last, waits = judge.policy, 0, 0, []
    for cookie in range(1, rounds + 1):
        while True:
            judge.see([look(one, now, [decoded(cookie)])])
            decision = judge.decide(now)
            came_out(judge, decision, now, outcome)
            if decision.destroy:
                break
            assert decision.next_ms is not None
            assert decision.next_ms > now
            now = decision.next_ms
        waits.append(now - last)
        last = now
    return waits


def test_a_client_that_comes_back_again_and_again_is_not_hammered() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    judge = Engine(one)
    waits = reconnects(judge, 14)
    assert waits[:8] == [0, 0, 0, 2_000, 4_000, 8_000, 16_000, 32_000]
    assert max(waits) == backoff.LONGEST_MS
    now = sum(waits)
    (target,) = judge.backing_off(now)
    assert target.remote_port == 443
    # Another service of the same host, and the same one from another namespace, are others.
    others = [decoded(50, remote_port=80), decoded(51)]
    decision = a_pass(
        judge, now, look(one, now, others), look(one, now, [decoded(52, THERE)], THERE)
    )
    assert told(decision) == {50: "destroy", 51: "back_off", 52: "destroy"}


def test_what_the_limits_spread_over_time_is_no_client_that_comes_back() -> None:
    limits = {"max_sockets": 2, "per": "10s", "on_excess": "pace"}
    one = policy(rule(hold=0), limits=limits)
    judge = Engine(one)
    left, now = list(range(1, 25)), 0
    while left:
        decision = a_pass(judge, now, look(one, now, [decoded(each) for each in left]))
        assert "back_off" not in told(decision).values()
        left = [each for each in left if each not in doomed(decision)]
        if left:
            assert decision.next_ms is not None
            now = decision.next_ms
    # As fast as the limits allow, within their grain: twelve times two, ten seconds apart.
    assert now < 11 * 11_000


def test_many_at_once_are_one_round() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    judge = Engine(one)
    many = [decoded(cookie) for cookie in range(1, 1001)]
    assert len(doomed(a_pass(judge, 0, look(one, 0, many)))) == 1000
    assert judge.backing_off(0) == {}


def test_back_off_is_forgotten_after_a_quiet_time() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    judge = Engine(one)
    quiet = sum(reconnects(judge, 10)) + 2 * backoff.LONGEST_MS
    for cookie in (100, 101, 102):
        assert doomed(a_pass(judge, quiet, look(one, quiet, [decoded(cookie)]))) == [cookie]


def test_what_cannot_be_destroyed_is_not_tried_without_end() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    assert reconnects(Engine(one), 4, "not_permitted") == [0, 2_000, 4_000, 8_000]


def test_the_memory_of_back_off_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "MOST_TARGETS", 3)
    waits = backoff.BackOff()
    targets = [backoff.Target((4, 1), "tcp", b"", b"", port) for port in range(5)]
    for now, target in enumerate(targets):
        waits.note(target, now, failed=True)
    assert list(waits.waiting(5)) == targets[2:]


# Another policy.


def test_a_policy_that_is_read_again_keeps_the_holds_of_what_did_not_change() -> None:
    rules = [rule("same", hold="2s"), rule("other", hold="2s", match={"remote_port": 1})]
    one = policy(*rules)
    judge = Engine(one)
    a_pass(judge, 0, look(one, 0, {"same": [ONE], "other": [TWO]}))
    judge.reload(policy(*rules))
    rules[1] = rule("other", hold="2s", match={"remote_port": [1, 2]})
    # The one that is as it was stands elsewhere now, and the limits are others.
    other = policy(rule("new", hold="2s"), *reversed(rules), limits={"max_sockets": 7})
    judge.reload(other)
    seen = {"same": [ONE], "other": [TWO], "new": [THREE]}
    decision = a_pass(judge, 2_000, look(other, 2_000, seen))
    assert told(decision) == {1: "destroy", 2: "hold", 3: "hold"}
    assert sorted(doomed(a_pass(judge, 4_000, look(other, 4_000, seen)))) == [1, 2, 3]


def test_signals_without_end_do_not_put_a_hold_off() -> None:
    one = policy(rule(hold="1s"))
    judge = Engine(one)
    for now in range(0, 1_000, 300):
        judge.reload(policy(rule(hold="1s")))
        assert doomed(a_pass(judge, now, look(one, now, [ONE]))) == []
    assert doomed(a_pass(judge, 1_000, look(one, 1_000, [ONE]))) == [1]


def test_what_is_destroyed_is_written_down_before() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1h", "on_excess": "pace"})
    written: list[Kept] = []

    judge = Engine(one, keep=written.append)
    judge.see([look(one, 0, [ONE, TWO, THREE])])
    assert len(doomed(judge.decide(0))) == 2
    # Killed just now: the next one takes them for destroyed.
    (kept,) = written
    after = Engine(one, kept=kept)
    assert doomed(a_pass(after, 1, look(one, 1, [ONE, TWO, THREE]))) == []


def test_what_was_not_used_up_is_given_back_in_writing_too() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1h"})
    written: list[Kept] = []
    judge = Engine(one, keep=written.append)
    judge.see([look(one, 0, [ONE, TWO])])
    came_out(judge, judge.decide(0), 0, "already_gone")
    assert Engine(one, kept=written[0]).spent(1) == 2
    assert Engine(one, kept=written[-1]).spent(1) == 0
    # Nothing was to be destroyed, and nothing is written.
    a_pass(judge, 1, look(one, 1, []))
    assert len(written) == 2


def test_where_it_is_not_known_what_was_destroyed_nothing_is() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "10s"})
    judge = Engine(one, kept=Kept(unknown_ms=1_000))
    decision = a_pass(judge, 2_000, look(one, 2_000, [ONE]))
    assert told(decision) == {1: "limit"}
    assert decision.excess == (1, 2, one.limits)
    assert decision.next_ms == judge.unknown_till_ms(2_000) == 11_000
    assert doomed(a_pass(judge, 11_000, look(one, 11_000, [ONE]))) == [1]


def test_a_new_policy_begins_its_holds_anew_but_keeps_count() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 2, "per": "1m"})
    judge = Engine(one)
    assert len(doomed(a_pass(judge, 0, look(one, 0, [ONE, TWO])))) == 2
    other = policy(rule(hold="1s"), limits={"max_sockets": 2, "per": "1m"})
    judge.reload(other)
    assert judge.policy is other
    assert told(a_pass(judge, 5_000, look(other, 5_000, [THREE]))) == {3: "hold"}
    assert told(a_pass(judge, 6_000, look(other, 6_000, [THREE]))) == {3: "limit"}
    assert judge.spent(6_000) == 2


def test_the_statuses_are_a_closed_list() -> None:
    assert set(decide.STATUSES) == {
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
