# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backoff for clients that reconnect after each destroy."""

from __future__ import annotations

import pytest

from linuxnet_sockets.policy import backoff
from linuxnet_sockets.policy.decide import Decider
from tests.support.policy_documents import policy, rule
from tests.unit.policy.evaluations import (
    THERE,
    decoded,
    evaluation,
    record_outcome,
    run_pass,
    statuses,
    to_destroy,
)


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
    # No connection lives longer because its user reconnects more often.
    assert waits == [0, 0, 0, *[2_000] * 11]
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
    quiet = sum(reconnects(decider, 10, "not_permitted")) + 2 * backoff.MAX_DELAY_MS
    for cookie in (100, 101, 102):
        assert to_destroy(run_pass(decider, quiet, evaluation(one, quiet, [decoded(cookie)]))) == [
            cookie
        ]


def test_failed_destroy_backs_off_at_once() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    waits = reconnects(Decider(one), 14, "not_permitted")
    assert waits[:4] == [0, 2_000, 4_000, 8_000]
    assert max(waits) == backoff.MAX_DELAY_MS


def test_user_who_reconnects_does_not_delay_others() -> None:
    one = policy(rule(hold=0), limits={"max_sockets": 10_000})
    decider = Decider(one)
    now = sum(reconnects(decider, 10))
    sockets = [decoded(50), decoded(51, uid=1501)]
    decision = run_pass(decider, now, evaluation(one, now, sockets))
    assert statuses(decision) == {50: "back_off", 51: "destroy"}


def test_backoff_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "MAX_DESTINATIONS", 3)
    delays = backoff.Backoff()
    destinations = [backoff.Destination((4, 1), "tcp", b"", b"", port, 1500) for port in range(5)]
    for now, destination in enumerate(destinations):
        delays.record(destination, now, failed=True)
    assert list(delays.active(5)) == destinations[2:]
