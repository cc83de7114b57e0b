# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconcile passes on the fake kernel."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from linuxnet_sockets.errors import EngineUnavailable, NetlinkError
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.policy.decide import Decider
from linuxnet_sockets.policy.model import Policy
from linuxnet_sockets.policy.parse import parse_policy
from linuxnet_sockets.policy.reconcile import (
    PassOptions,
    ReconcileResult,
    reconcile,
    reconcile_once,
)
from tests.support.destroy_calls import requested_cookies, when_destroying
from tests.support.fake_kernel import FakeNetlinkSocket, FakeSocket
from tests.support.fake_machine import LOCAL, FakeMachine, connection
from tests.support.policy_documents import document, rule

pytestmark = pytest.mark.usefixtures("spaces")

AT_ONCE = rule(hold=0)


def of(machine: FakeMachine, *rules: Any, **keys: Any) -> Policy:
    return parse_policy(document(*rules, **keys), names=machine.host, files=None)


def outcomes_of(result: ReconcileResult) -> dict[int, str]:
    return {each.violation.socket.cookie: each.result.outcome for each in result.results}


def statuses(result: ReconcileResult) -> dict[int, str]:
    return {each.violation.socket.cookie: each.status for each in result.decision.findings}


def run_pass(machine: FakeMachine, policy: Policy, **options: Any) -> ReconcileResult:
    return reconcile(machine.host, Decider(policy), PassOptions(**options))


# One pass.


def test_only_violations_are_destroyed(machine: FakeMachine) -> None:
    expected = [machine.add(connection(local_port=port)).cookie for port in (1, 2, 3)]
    protected = machine.add(connection(remote_port=4505)).cookie
    machine.add(connection(remote="203.0.113.9"))
    result = run_pass(machine, of(machine, AT_ONCE))
    assert outcomes_of(result) == dict.fromkeys(expected, "destroyed")
    assert sorted(machine.sockets.destroyed) == expected
    assert statuses(result)[protected] == "protected"
    assert len(statuses(result)) == 4
    assert result.not_evaluated == ()


def test_check_mode_predicts_outcomes(machine: FakeMachine) -> None:
    expected = machine.add(connection()).cookie
    stubborn = machine.add(connection(local_port=2, errno=errno.EPERM)).cookie
    policy = of(machine, AT_ONCE)
    predicted = run_pass(machine, policy, check=True)
    assert not any(requested_cookies(machine.sockets))
    assert outcomes_of(predicted)[expected] == "destroyed"
    assert outcomes_of(run_pass(machine, policy)) == {
        expected: "destroyed",
        stubborn: "not_permitted",
    }


@pytest.mark.parametrize("inhibited_by", ["paused", "unconfirmed"])
def test_inhibited_pass_destroys_nothing(machine: FakeMachine, inhibited_by: str) -> None:
    cookie = machine.add(connection()).cookie
    result = run_pass(machine, of(machine, AT_ONCE), inhibited_by=inhibited_by)
    assert statuses(result) == {cookie: "inhibited"}
    assert result.results == ()
    assert not any(requested_cookies(machine.sockets))


def test_mode_report_and_exceeded_budget_destroy_nothing(machine: FakeMachine) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port))
    for keys, status in (
        ({"mode": "report"}, "inhibited"),
        ({"limits": {"max_sockets": 2}}, "limit"),
    ):
        result = run_pass(machine, of(machine, AT_ONCE, **keys))
        assert set(statuses(result).values()) == {status}
    (excess,) = result.decision.budget_exceeded
    assert (excess.due, excess.rule, excess.uid) == (3, "a-rule", 0)
    assert not any(requested_cookies(machine.sockets))


def test_outcomes_are_verified(machine: FakeMachine) -> None:
    immortal = machine.add(connection(immortal=True)).cookie
    leaving = machine.add(connection(local_port=2))
    when_destroying(machine.sockets, lambda: machine.sockets.remove(leaving))
    policy = of(machine, AT_ONCE)
    decider = Decider(policy)
    result = reconcile(machine.host, decider)
    assert outcomes_of(result) == {immortal: "survived", leaving.cookie: "already_gone"}
    assert decider.destroyed_in_window(0) == 1
    # A socket that survived is not tried again at once.
    again = reconcile(machine.host, decider)
    assert statuses(again) == {immortal: "back_off"}


def test_namespaces_share_one_budget(machine: FakeMachine, spaces: dict[str, Namespace]) -> None:
    other = machine.kernel.namespace("other")
    spaces["other"] = Namespace("other", "/run/netns/other", other.identity)
    here = machine.add(connection()).cookie
    there = FakeSocket(local=LOCAL, local_port=7, remote="198.51.100.7", remote_port=443)
    other.add(there)
    machine.hold(500, there)
    keys: dict[str, Any] = {"namespaces": ["current", "other"]}
    refused = run_pass(machine, of(machine, AT_ONCE, limits={"max_sockets": 1}, **keys))
    assert set(statuses(refused).values()) == {"limit"}
    done = run_pass(machine, of(machine, AT_ONCE, **keys))
    assert outcomes_of(done) == {here: "destroyed", there.cookie: "destroyed"}
    assert other.destroyed == [there.cookie]


def test_missing_namespace_does_not_affect_others(
    machine: FakeMachine, spaces: dict[str, Namespace]
) -> None:
    spaces["gone"] = Namespace("gone", "/run/netns/gone", (4, 4711))
    cookie = machine.add(connection()).cookie
    result = run_pass(machine, of(machine, AT_ONCE, namespaces=["gone", "current"]))
    assert [each.namespace for each in result.not_evaluated] == ["gone"]
    assert outcomes_of(result) == {cookie: "destroyed"}


def test_unknown_engine_fails_before_any_request(machine: FakeMachine) -> None:
    machine.add(connection())
    with pytest.raises(EngineUnavailable):
        run_pass(machine, of(machine, AT_ONCE), engine="magic")
    assert machine.sockets.requests == []


# Time between decision and destruction.


class Slow:
    """Adds a second, and a change, between the decision and the destruction."""

    def __init__(
        self, machine: FakeMachine, meanwhile: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Decider.decide

        def decide(decider: Decider, now_ms: int, *, inhibited_by: str | None = None) -> Any:
            decision = real(decider, now_ms, inhibited_by=inhibited_by)
            machine.now += 1.0
            meanwhile()
            return decision

        monkeypatch.setattr(Decider, "decide", decide)


def test_violation_that_ceases_before_destruction_is_left_out(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = of(
        machine, rule(hold=0, match={"remote_port": 443, "not": {"local": "interface:eth1"}})
    )
    moved = machine.add(connection("192.0.2.200"))
    expected = machine.add(connection(local_port=2))

    def meanwhile() -> None:
        machine.sockets.link(9, "eth1b")
        machine.sockets.addresses[-1].index = 3
        machine.sockets.addresses[-1].local = "192.0.2.200"

    Slow(machine, meanwhile, monkeypatch)
    result = run_pass(machine, policy)
    assert outcomes_of(result) == {moved.cookie: "already_gone", expected.cookie: "destroyed"}
    assert machine.sockets.destroyed == [expected.cookie]


def test_socket_protected_before_destruction_is_left_out(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = machine.add(connection(), holder=None)
    machine.hold(500, held)
    expected = machine.add(connection(local_port=2))
    machine.process(700, comm="sshd")
    Slow(machine, lambda: machine.hold(700, held), monkeypatch)
    result = run_pass(machine, of(machine, AT_ONCE))
    assert outcomes_of(result) == {held.cookie: "protected", expected.cookie: "destroyed"}
    (reason,) = [each.result.reason for each in result.results if each.result.reason]
    assert reason.rule == "ssh_sessions"


def test_failed_second_evaluation_destroys_nothing(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = machine.add(connection()).cookie

    def meanwhile() -> None:
        machine.sockets.before_request = refuse

    def refuse(_kind: int, _payload: bytes) -> None:
        raise NetlinkError("list tcp sockets", errno.EIO)

    Slow(machine, meanwhile, monkeypatch)
    result = run_pass(machine, of(machine, AT_ONCE))
    assert machine.sockets.destroyed == []
    assert outcomes_of(result) == {cookie: "survived"}
    (done,) = result.results
    assert done.result.reason is not None
    assert done.result.reason.rule == "error"


# reconcile_once.


def test_once_waits_for_hold(machine: FakeMachine) -> None:
    stays = machine.add(connection())
    leaves = machine.add(connection(local_port=2))
    late = connection(local_port=3)

    def sleep(seconds: float) -> None:
        machine.now += seconds
        if machine.now > 1 and leaves in machine.sockets.sockets:
            machine.sockets.remove(leaves)
            machine.add(late)

    machine.sleep = sleep  # type: ignore[method-assign]
    result = reconcile_once(machine.host, of(machine, rule(hold="2s")))
    assert outcomes_of(result) == {stays.cookie: "destroyed"}
    assert statuses(result) == {stays.cookie: "destroy", late.cookie: "hold"}
    assert machine.now == pytest.approx(2, abs=0.1)


def test_once_detects_violation_that_ceases_for_a_moment(machine: FakeMachine) -> None:
    link = machine.sockets.link(4, "wg0", "10.8.0.2/24")
    machine.add(connection())

    def sleep(seconds: float) -> None:
        machine.now += seconds
        link.flags = 0x1002 if 0.9 < machine.now < 1.6 else 0x11043

    machine.sleep = sleep  # type: ignore[method-assign]
    policy = of(machine, rule(hold="2s", while_={"interface": "wg0", "is": "up"}))
    result = reconcile_once(machine.host, policy)
    assert result.results == ()
    assert set(statuses(result).values()) == {"hold"}


@pytest.mark.parametrize(("until", "ends_s", "outcome"), [(1.2, 3, "destroyed"), (9, 2, None)])
def test_once_waits_longer_after_failed_evaluation(
    machine: FakeMachine, until: float, ends_s: float, outcome: str | None
) -> None:
    """A failed evaluation pauses the hold; the total wait is bounded."""
    cookie = machine.add(connection()).cookie
    opened = machine.open

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        if 0.9 < machine.now < until:
            raise NetlinkError("list tcp sockets", errno.EIO)
        return opened(namespace, protocol)

    machine.open = open_netlink  # type: ignore[method-assign]
    result = reconcile_once(machine.host, of(machine, rule(hold="2s")))
    assert outcomes_of(result) == ({cookie: outcome} if outcome else {})
    assert machine.now == pytest.approx(ends_s, abs=0.1)
    assert [list(each.failed) for each in result.evaluations] == [[] if outcome else ["a-rule"]]


def test_once_without_violations_does_not_wait(machine: FakeMachine) -> None:
    result = reconcile_once(machine.host, of(machine, rule(hold="10m")))
    assert (result.decision.findings, machine.now) == ((), 0)


def test_once_limits_passes_during_long_hold(machine: FakeMachine) -> None:
    cookie = machine.add(connection()).cookie
    result = reconcile_once(machine.host, of(machine, rule(hold="1h")))
    assert outcomes_of(result) == {cookie: "destroyed"}
    assert len([kind for kind, _payload in machine.sockets.requests if kind in (18, 20)]) < 400


def test_once_in_check_mode_predicts_outcomes(machine: FakeMachine) -> None:
    machine.add(connection())
    machine.add(connection(local_port=2))
    machine.add(connection(remote_port=4505))
    policy = of(machine, rule("slow", hold="2s"), rule("quick", hold=0, match={"local_port": 2}))
    predicted = reconcile_once(machine.host, policy, PassOptions(check=True))
    assert not any(requested_cookies(machine.sockets))
    done = reconcile_once(machine.host, policy)
    assert outcomes_of(done) == outcomes_of(predicted)
    assert statuses(done) == statuses(predicted)
    assert len(done.results) == 2
    # The sockets that are left are protected.
    assert reconcile_once(machine.host, policy).results == ()
