# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Violations that are due and still exist are counted with the reason."""

from __future__ import annotations

import pytest

from linuxnet_sockets.destroy import outcomes
from linuxnet_sockets.destroy.outcomes import Result
from linuxnet_sockets.guard import reason as guard
from linuxnet_sockets.policy import findings
from linuxnet_sockets.policy.decide import Decider
from linuxnet_sockets.policy.findings import Evaluation, ViolationResult
from linuxnet_sockets.policy.unenforced import (
    BACK_OFF_AFTER_MS,
    FAILED,
    PROTECTED_AFTER_MS,
    REASONS,
    count_unenforced,
)
from tests.support.policy_documents import policy, rule
from tests.unit.policy.evaluations import decoded, evaluation

ONE, TWO = decoded(1), decoded(2)


def counted(
    decider: Decider,
    now_ms: int,
    found: Evaluation,
    outcome: str = outcomes.DESTROYED,
    inhibited_by: str | None = None,
) -> dict[str, int]:
    """The reasons after a pass in which every attempt had this outcome, for one rule."""
    decider.observe([found])
    decision = decider.decide(now_ms, inhibited_by=inhibited_by)
    results = [ViolationResult(each, Result(each.socket, outcome)) for each in decision.to_destroy]
    decider.record_results(results, now_ms)
    by_rule = count_unenforced(decision, results, now_ms)
    assert set(by_rule) <= {"a-rule"}
    return dict(by_rule.get("a-rule", {}))


@pytest.mark.parametrize("outcome", outcomes.OUTCOMES)
def test_failed_attempt_counts_until_the_socket_is_gone(outcome: str) -> None:
    one = policy(rule(hold=0))
    decider = Decider(one)
    expected = {outcome: 1} if outcome in FAILED else {}
    assert counted(decider, 0, evaluation(one, 0, [ONE]), outcome) == expected
    if expected:
        # The destination is in backoff now, and the reason stays.
        assert counted(decider, 1_000, evaluation(one, 1_000, [ONE]), outcome) == expected
        assert counted(decider, 2_000, evaluation(one, 2_000, [])) == {}
        # The same cookie later is another socket.
        assert counted(decider, 2_001, evaluation(one, 2_001, [ONE])) == {}


def test_reasons_cover_every_failure() -> None:
    """Every outcome of a socket that still exists has a reason."""
    ended = {outcomes.DESTROYED, outcomes.DISCONNECTED, outcomes.ALREADY_GONE}
    assert set(FAILED) | ended | {outcomes.PROTECTED, outcomes.LIMIT} == set(outcomes.OUTCOMES)
    assert set(REASONS) == {*FAILED, findings.PROTECTED, findings.BACK_OFF, findings.LIMIT}


@pytest.mark.parametrize("guard_rule", guard.RULES)
def test_protected_socket_counts_after_five_minutes(guard_rule: str) -> None:
    one = policy(rule(hold="2s"))
    decider = Decider(one)

    def at(now: int) -> dict[str, int]:
        return counted(decider, now, evaluation(one, now, [ONE], protected={1: guard_rule}))

    late = 2_000 + PROTECTED_AFTER_MS
    assert [at(0), at(10_000), at(late)] == [{}, {}, {}]
    exceptions = {"loopback", "listeners", "unconnected", "selector"}
    assert at(late + 1) == ({} if guard_rule in exceptions else {"protected": 1})


def test_backoff_counts_after_a_minute() -> None:
    one = policy(rule(hold=0))
    decider = Decider(one)
    # A client that reconnects from another port, and whose connections cannot be destroyed.
    now = cookie = 0
    while True:
        cookie += 1
        found = evaluation(one, now, [decoded(cookie)])
        assert counted(decider, now, found, outcomes.SURVIVED) == {outcomes.SURVIVED: 1}
        delays = decider.backing_off(now)
        if delays and max(delay.until_ms for delay in delays.values()) > now + 2 * 60_000:
            break
        now = max([now, *(delay.until_ms for delay in delays.values())])
    new = decoded(cookie + 1)
    assert counted(decider, now, evaluation(one, now, [new])) == {}
    later = now + BACK_OFF_AFTER_MS
    assert counted(decider, later, evaluation(one, later, [new])) == {}
    assert counted(decider, later + 1, evaluation(one, later + 1, [new])) == {"back_off": 1}


def test_violations_over_the_limits_count() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 1})
    assert counted(Decider(one), 0, evaluation(one, 0, [ONE, TWO])) == {"limit": 2}


def test_holding_reported_and_inhibited_violations_do_not_count() -> None:
    for one in (
        policy(rule(hold="1h")),
        policy(rule(hold=0, action="report")),
        policy(rule(hold=0), mode="report"),
    ):
        decider = Decider(one)
        for now in (0, 1_000_000):
            assert counted(decider, now, evaluation(one, now, [ONE])) == {}
    one = policy(rule(hold=0))
    decider = Decider(one)
    for now in (0, 1_000_000):
        found = evaluation(one, now, [ONE, TWO], protected={2: "kernel"})
        assert counted(decider, now, found, inhibited_by="paused") == {}
