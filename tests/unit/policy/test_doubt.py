# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doubt: which events restart a hold, and which do not."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.netlink.links import IFF_LOWER_UP, IFF_UP, Link
from linuxnet_sockets.policy import doubt
from linuxnet_sockets.policy.decide import Decider
from linuxnet_sockets.policy.doubt import NetworkChanges
from tests.support.policy_documents import policy, rule
from tests.unit.policy.evaluations import (
    HERE,
    THERE,
    Place,
    decoded,
    evaluation,
    not_evaluated,
    run_pass,
    to_destroy,
)

ONE = decoded(1)
LOCAL = socket.inet_aton("192.0.2.1")
OTHER = socket.inet_aton("192.0.2.99")
STRANDED: dict[str, Any] = {"match": {"stranded": ["address_gone", "unroutable"]}}
BYPASS: dict[str, Any] = {
    "while_": {"interface": "wg0", "is": "up"},
    "match": {"not": {"local": "interface:wg0"}, "user": "1-60000"},
}
HOLD_MS = 2_000


def link(index: int, *, up: bool, name: str = "") -> Link:
    return Link(index, name or f"eth{index}", (IFF_UP | IFF_LOWER_UP) * up)


def came_up(index: int, name: str = "") -> NetworkChanges:
    return NetworkChanges(
        links_up=frozenset({index}), names=frozenset({(index, name or f"eth{index}")})
    )


def went_down(index: int) -> NetworkChanges:
    return NetworkChanges(links_down=frozenset({index}))


def flap(index: int, name: str = "") -> NetworkChanges:
    return came_up(index, name) + went_down(index)


class Sequence:
    """Evaluations of a policy of one rule, in which one socket violates it all the time."""

    def __init__(self, **keys: Any) -> None:
        self.policy = policy(rule(hold="2s", **keys))
        self.decider = Decider(self.policy)
        self.now_ms = 10_000

    def changes(self, changes: NetworkChanges, place: Place = HERE) -> Sequence:
        self.decider.record_changes(place.namespace.identity, changes)
        return self

    def evaluate(self, after_ms: int, *links: Link, addresses: Iterable[bytes] = (LOCAL,)) -> bool:
        """Evaluate, and return whether the socket is to be destroyed."""
        self.now_ms += after_ms
        seen = evaluation(self.policy, self.now_ms, [ONE], links=links, addresses=addresses)
        (violation,) = seen.violations
        due = self.decider.is_due(violation, self.now_ms)
        destroyed = bool(to_destroy(run_pass(self.decider, self.now_ms, seen)))
        assert due == destroyed
        return destroyed


ETH = (link(2, up=False), link(3, up=True))


@pytest.mark.parametrize("keys", [STRANDED, BYPASS], ids=["stranded", "bypass"])
def test_links_that_come_and_go_do_not_restart_holds(keys: dict[str, Any]) -> None:
    sequence = Sequence(**keys)
    sequence.evaluate(0, *ETH)
    for number in range(4):
        veth = 100 + number
        sequence.changes(came_up(veth, f"veth{number}"))
        assert not sequence.evaluate(250, *ETH, link(veth, up=True))
        sequence.changes(went_down(veth))
        assert not sequence.evaluate(249, *ETH)
    assert sequence.evaluate(4, *ETH)


def test_events_of_another_namespace_do_not_restart_holds() -> None:
    sequence = Sequence(**STRANDED)
    sequence.evaluate(0, *ETH)
    sequence.changes(NetworkChanges(lost=True), THERE).changes(flap(2), THERE)
    assert sequence.evaluate(HOLD_MS, *ETH)


def test_rule_without_network_has_no_doubts() -> None:
    sequence = Sequence(match={"remote_port": 443})
    sequence.evaluate(0)
    sequence.changes(NetworkChanges(lost=True)).changes(flap(2)).changes(
        NetworkChanges(frozenset({LOCAL}))
    )
    assert sequence.evaluate(HOLD_MS)


@pytest.mark.parametrize("index", [2, 3])
def test_flap_of_an_existing_link_restarts_the_hold(index: int) -> None:
    sequence = Sequence(**STRANDED)
    sequence.evaluate(0, *ETH)
    sequence.evaluate(1_900, *ETH)
    sequence.changes(flap(index))
    assert not sequence.evaluate(100, *ETH)
    assert not sequence.evaluate(HOLD_MS - 1, *ETH)
    assert sequence.evaluate(1, *ETH)


def test_event_of_a_link_that_stays_up_restarts_nothing() -> None:
    """Such as a changed MTU."""
    sequence = Sequence(**STRANDED)
    sequence.evaluate(0, *ETH)
    sequence.changes(came_up(3))
    assert sequence.evaluate(HOLD_MS, *ETH)


def test_link_that_was_seen_in_both_states_restarts_nothing() -> None:
    sequence = Sequence(**STRANDED)
    sequence.evaluate(0, *ETH)
    sequence.changes(came_up(2))
    # It is up for the first time: the hold starts again.
    assert not sequence.evaluate(250, link(2, up=True), ETH[1])
    for _flap in range(3):
        sequence.changes(went_down(2))
        assert not sequence.evaluate(250, *ETH)
        sequence.changes(came_up(2))
        assert not sequence.evaluate(250, link(2, up=True), ETH[1])
    assert sequence.evaluate(500, link(2, up=True), ETH[1])


def test_link_that_the_rule_names_restarts_the_hold_every_time() -> None:
    sequence = Sequence(**BYPASS)
    up, down = link(9, up=True, name="wg0"), link(9, up=False, name="wg0")
    sequence.evaluate(0, up)
    for _flap in range(3):
        sequence.evaluate(500, down)
        sequence.changes(came_up(9, "wg0"))
        assert not sequence.evaluate(1_600, up)


def test_named_link_that_was_created_again_restarts_the_hold() -> None:
    sequence = Sequence(**BYPASS)
    sequence.evaluate(0, link(9, up=True, name="wg0"))
    sequence.changes(came_up(10, "wg0"))
    assert not sequence.evaluate(HOLD_MS, link(10, up=True, name="wg0"))


def test_other_link_does_not_restart_the_hold_of_a_rule_that_names_one() -> None:
    sequence = Sequence(**BYPASS)
    wg0 = link(9, up=True, name="wg0")
    sequence.evaluate(0, wg0, *ETH)
    sequence.changes(flap(2))
    assert sequence.evaluate(HOLD_MS, wg0, *ETH)


def test_local_address_that_was_there_for_a_moment_restarts_the_hold() -> None:
    sequence = Sequence(**STRANDED)
    sequence.evaluate(0, *ETH, addresses=[])
    both = NetworkChanges(frozenset({LOCAL}), frozenset({LOCAL}))
    assert not sequence.changes(both).evaluate(HOLD_MS, *ETH, addresses=[])
    other = NetworkChanges(frozenset({OTHER}), frozenset({OTHER}))
    assert sequence.changes(other).evaluate(HOLD_MS, *ETH, addresses=[])


def test_local_address_that_was_gone_for_a_moment_restarts_the_hold() -> None:
    sequence = Sequence(match={"local": "interface:eth3"})
    sequence.evaluate(0, *ETH)
    sequence.changes(NetworkChanges(addresses_removed=frozenset({LOCAL})))
    sequence.changes(NetworkChanges(addresses_added=frozenset({LOCAL})))
    assert not sequence.evaluate(HOLD_MS, *ETH)


def test_renewed_address_restarts_nothing() -> None:
    """A router advertisement renews addresses, and any host on the link can send it."""
    sequence = Sequence(match={"local": "interface:eth3"})
    sequence.evaluate(0, *ETH)
    assert sequence.changes(NetworkChanges(frozenset({LOCAL}))).evaluate(HOLD_MS, *ETH)


def test_address_in_the_condition_restarts_the_hold() -> None:
    absent: dict[str, Any] = {"not": {"address": "192.0.2.99", "is": "present"}}
    sequence = Sequence(while_=absent, match={"remote_port": 443})
    sequence.evaluate(0)
    both = NetworkChanges(frozenset({OTHER}), frozenset({OTHER}))
    assert not sequence.changes(both).evaluate(HOLD_MS)
    both = NetworkChanges(frozenset({LOCAL}), frozenset({LOCAL}))
    assert sequence.changes(both).evaluate(HOLD_MS)


def test_events_lost_through_others_restart_a_hold_once() -> None:
    sequence = Sequence(**STRANDED)
    sequence.evaluate(0, *ETH)
    lost = NetworkChanges(lost_by_others=True)
    assert not sequence.changes(lost).evaluate(1_000, *ETH)
    assert not sequence.changes(lost).evaluate(1_999, *ETH)
    assert sequence.changes(lost).evaluate(1, *ETH)


def test_lost_events_restart_a_hold_every_time() -> None:
    sequence = Sequence(**STRANDED)
    sequence.evaluate(0, *ETH)
    for _time in range(3):
        assert not sequence.changes(NetworkChanges(lost=True)).evaluate(HOLD_MS, *ETH)


def test_too_many_changes_count_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubt, "MAX_CHANGES", 10)
    changes = NetworkChanges()
    for index in range(20):
        changes += came_up(index)
        assert len(changes.links_up) <= 10
    assert changes.lost


def test_changes_before_a_failed_evaluation_count_for_the_next_one() -> None:
    sequence = Sequence(**STRANDED)
    sequence.evaluate(0, *ETH)
    sequence.changes(flap(2))
    sequence.decider.observe([not_evaluated()], forget_others=False)
    assert not sequence.evaluate(HOLD_MS, *ETH)
    assert sequence.decider.decide(sequence.now_ms).findings == ()
    assert sequence.evaluate(HOLD_MS, *ETH)


def test_changes_before_a_failed_rule_restart_its_holds() -> None:
    two = policy(rule("a", hold="2s", **STRANDED), rule("b", hold="2s", **STRANDED))
    decider = Decider(two)
    run_pass(decider, 0, evaluation(two, 0, [ONE], links=ETH))
    decider.record_changes(HERE.namespace.identity, flap(2))
    run_pass(decider, 1_000, evaluation(two, 1_000, [ONE], links=ETH, failed=["a"]))
    decision = run_pass(decider, 3_000, evaluation(two, 3_000, [ONE], links=ETH))
    assert [each.rule.name for each in decision.to_destroy] == ["b"]
    decision = run_pass(decider, 4_999, evaluation(two, 4_999, [ONE], links=ETH))
    assert [each.rule.name for each in decision.to_destroy] == ["b"]
    decision = run_pass(decider, 5_000, evaluation(two, 5_000, [ONE], links=ETH))
    assert [each.rule.name for each in decision.to_destroy] == ["a"]


_steps = st.lists(
    st.tuples(
        st.sampled_from([2, 3, 4]),
        st.sampled_from([1, 250, 999, 1_000, 2_000]),
        st.booleans(),
    ),
    max_size=60,
)


@given(_steps, st.sampled_from([2, 3, 4]), st.booleans())
def test_hold_never_expires_if_one_link_ended_the_violation(
    steps: list[tuple[int, int, bool]], decisive: int, heals_when_up: bool
) -> None:
    """The socket violates the rule, except while one link is up, or down.

    steps: the link that changes, how long after, and whether an evaluation sees the change.
    """
    one = policy(rule(hold="2s", **STRANDED))
    decider = Decider(one)
    up = dict.fromkeys((2, 3, 4), False)
    now_ms = complying_ms = 0

    def violating() -> bool:
        return up[decisive] != heals_when_up

    for index, after_ms, seen in steps:
        now_ms += after_ms
        up[index] = not up[index]
        changes = came_up(index) if up[index] else went_down(index)
        if not violating():
            complying_ms = now_ms
        decider.record_changes(HERE.namespace.identity, changes)
        if not seen:
            continue
        links = [link(number, up=state) for number, state in up.items()]
        sockets = [ONE] if violating() else []
        if to_destroy(run_pass(decider, now_ms, evaluation(one, now_ms, sockets, links=links))):
            assert now_ms - complying_ms >= HOLD_MS
        if not violating():
            complying_ms = now_ms
