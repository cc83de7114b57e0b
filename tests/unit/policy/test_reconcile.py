# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies carried out on the fake kernel."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from linuxnet_sockets.errors import EngineUnavailable, NetlinkError
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.policy.decide import Engine
from linuxnet_sockets.policy.model import Policy
from linuxnet_sockets.policy.parse import parse_policy
from linuxnet_sockets.policy.reconcile import Pass, enforce_once, run_pass
from tests.support.destroy_calls import cookies_asked_for, when_destroying
from tests.support.fake_kernel import FakeNetlinkSocket, FakeSocket
from tests.support.fake_machine import LOCAL, Machine, connection
from tests.support.policy_documents import document, rule

pytestmark = pytest.mark.usefixtures("spaces")

AT_ONCE = rule(hold=0)


def of(machine: Machine, *rules: Any, **keys: Any) -> Policy:
    return parse_policy(document(*rules, **keys), names=machine.host, files=None)


def outcomes_of(one: Pass) -> dict[int, str]:
    return {each.violation.socket.cookie: each.result.outcome for each in one.done}


def statuses(one: Pass) -> dict[int, str]:
    return {each.violation.socket.cookie: each.status for each in one.decision.findings}


def a_pass(machine: Machine, policy: Policy, **keys: Any) -> Pass:
    return run_pass(machine.host, policy, Engine(policy), **keys)


# One pass.


def test_what_violates_is_destroyed_and_nothing_else(machine: Machine) -> None:
    doomed = [machine.add(connection(local_port=port)).cookie for port in (1, 2, 3)]
    protected = machine.add(connection(remote_port=4505)).cookie
    machine.add(connection(remote="203.0.113.9"))
    one = a_pass(machine, of(machine, AT_ONCE))
    assert outcomes_of(one) == dict.fromkeys(doomed, "destroyed")
    assert sorted(machine.sockets.destroyed) == doomed
    assert statuses(one)[protected] == "protected"
    assert len(statuses(one)) == 4
    assert one.not_evaluated == ()


def test_check_mode_touches_nothing_and_predicts(machine: Machine) -> None:
    doomed = machine.add(connection()).cookie
    stubborn = machine.add(connection(local_port=2, errno=errno.EPERM)).cookie
    policy = of(machine, AT_ONCE)
    predicted = a_pass(machine, policy, check=True)
    assert not any(cookies_asked_for(machine.sockets))
    assert outcomes_of(predicted)[doomed] == "destroyed"
    assert outcomes_of(a_pass(machine, policy)) == {doomed: "destroyed", stubborn: "not_permitted"}


@pytest.mark.parametrize("withheld", ["paused", "unconfirmed"])
def test_what_is_withheld_is_left_alone(machine: Machine, withheld: str) -> None:
    cookie = machine.add(connection()).cookie
    one = a_pass(machine, of(machine, AT_ONCE), withheld=withheld)
    assert statuses(one) == {cookie: "inhibited"}
    assert one.done == ()
    assert not any(cookies_asked_for(machine.sockets))


def test_mode_report_and_the_limit_leave_everything_alone(machine: Machine) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port))
    for keys, status in (
        ({"mode": "report"}, "inhibited"),
        ({"limits": {"max_sockets": 2}}, "limit"),
    ):
        one = a_pass(machine, of(machine, AT_ONCE, **keys))
        assert set(statuses(one).values()) == {status}
    assert one.decision.excess is not None
    assert one.decision.excess.due == 3
    assert not any(cookies_asked_for(machine.sockets))


def test_outcomes_are_what_is_true_afterwards(machine: Machine) -> None:
    immortal = machine.add(connection(immortal=True)).cookie
    leaving = machine.add(connection(local_port=2))
    when_destroying(machine.sockets, lambda: machine.sockets.remove(leaving))
    policy = of(machine, AT_ONCE)
    engine = Engine(policy)
    one = run_pass(machine.host, policy, engine)
    assert outcomes_of(one) == {immortal: "survived", leaving.cookie: "already_gone"}
    assert engine.spent(0) == 1
    # What survived is not hammered.
    again = run_pass(machine.host, policy, engine)
    assert statuses(again) == {immortal: "back_off"}


def test_every_namespace_is_enforced_under_one_limit(
    machine: Machine, spaces: dict[str, Namespace]
) -> None:
    other = machine.kernel.namespace("other")
    spaces["other"] = Namespace("other", "/run/netns/other", other.identity)
    here = machine.add(connection()).cookie
    there = FakeSocket(local=LOCAL, local_port=7, remote="198.51.100.7", remote_port=443)
    other.add(there)
    machine.hold(500, there)
    keys: dict[str, Any] = {"namespaces": ["current", "other"]}
    refused = a_pass(machine, of(machine, AT_ONCE, limits={"max_sockets": 1}, **keys))
    assert set(statuses(refused).values()) == {"limit"}
    done = a_pass(machine, of(machine, AT_ONCE, **keys))
    assert outcomes_of(done) == {here: "destroyed", there.cookie: "destroyed"}
    assert other.destroyed == [there.cookie]


def test_a_namespace_that_cannot_be_looked_at_hides_no_other(
    machine: Machine, spaces: dict[str, Namespace]
) -> None:
    spaces["gone"] = Namespace("gone", "/run/netns/gone", (4, 4711))
    cookie = machine.add(connection()).cookie
    one = a_pass(machine, of(machine, AT_ONCE, namespaces=["gone", "current"]))
    assert [look.label for look in one.not_evaluated] == ["gone"]
    assert outcomes_of(one) == {cookie: "destroyed"}


def test_an_engine_that_cannot_work_is_told_before_anything(machine: Machine) -> None:
    machine.add(connection())
    with pytest.raises(EngineUnavailable):
        a_pass(machine, of(machine, AT_ONCE), engine_name="magic")
    assert machine.sockets.requests == []


# Judged anew.


class Slow:
    """A machine on which it takes its time from the decision to the work."""

    def __init__(self, machine: Machine, meanwhile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        real = Engine.decide

        def decide(engine: Engine, now_ms: int, *, withheld: str | None = None) -> Any:
            decision = real(engine, now_ms, withheld=withheld)
            machine.now += 1.0
            meanwhile()
            return decision

        monkeypatch.setattr(Engine, "decide", decide)


def test_what_is_in_order_again_by_its_turn_lives(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = of(
        machine, rule(hold=0, match={"remote_port": 443, "not": {"local": "interface:eth1"}})
    )
    moved = machine.add(connection("192.0.2.200"))
    doomed = machine.add(connection(local_port=2))

    def meanwhile() -> None:
        machine.sockets.link(9, "eth1b")
        machine.sockets.addresses[-1].index = 3
        machine.sockets.addresses[-1].local = "192.0.2.200"

    Slow(machine, meanwhile, monkeypatch)
    one = a_pass(machine, policy)
    assert outcomes_of(one) == {moved.cookie: "already_gone", doomed.cookie: "destroyed"}
    assert machine.sockets.destroyed == [doomed.cookie]


def test_what_is_protected_by_its_turn_lives(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = machine.add(connection(), holder=None)
    machine.hold(500, held)
    doomed = machine.add(connection(local_port=2))
    machine.process(700, comm="sshd")
    Slow(machine, lambda: machine.hold(700, held), monkeypatch)
    one = a_pass(machine, of(machine, AT_ONCE))
    assert outcomes_of(one) == {held.cookie: "protected", doomed.cookie: "destroyed"}
    (reason,) = [each.result.reason for each in one.done if each.result.reason]
    assert reason.rule == "ssh_sessions"


def test_what_cannot_be_judged_anew_lives(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = machine.add(connection()).cookie

    def meanwhile() -> None:
        machine.sockets.before_request = refuse

    def refuse(_kind: int, _payload: bytes) -> None:
        raise NetlinkError("list tcp sockets", errno.EIO)

    Slow(machine, meanwhile, monkeypatch)
    one = a_pass(machine, of(machine, AT_ONCE))
    assert machine.sockets.destroyed == []
    assert outcomes_of(one) == {cookie: "survived"}
    (done,) = one.done
    assert done.result.reason is not None
    assert done.result.reason.rule == "error"


# Once.


def test_once_waits_for_the_hold_and_destroys_what_violated_throughout(machine: Machine) -> None:
    stays = machine.add(connection())
    leaves = machine.add(connection(local_port=2))
    late = connection(local_port=3)

    def sleep(seconds: float) -> None:
        machine.now += seconds
        if machine.now > 1 and leaves in machine.sockets.sockets:
            machine.sockets.remove(leaves)
            machine.add(late)

    machine.sleep = sleep  # type: ignore[method-assign]
    one = enforce_once(machine.host, of(machine, rule(hold="2s")))
    assert outcomes_of(one) == {stays.cookie: "destroyed"}
    assert statuses(one) == {stays.cookie: "destroy", late.cookie: "hold"}
    assert machine.now == pytest.approx(2, abs=0.1)


def test_once_sees_what_was_in_order_for_a_moment(machine: Machine) -> None:
    link = machine.sockets.link(4, "wg0", "10.8.0.2/24")
    machine.add(connection())

    def sleep(seconds: float) -> None:
        machine.now += seconds
        link.flags = 0x1002 if 0.9 < machine.now < 1.6 else 0x11043

    machine.sleep = sleep  # type: ignore[method-assign]
    policy = of(machine, rule(hold="2s", while_={"interface": "wg0", "is": "up"}))
    one = enforce_once(machine.host, policy)
    assert one.done == ()
    assert set(statuses(one).values()) == {"hold"}


@pytest.mark.parametrize(("until", "ends_s", "outcome"), [(1.2, 3, "destroyed"), (9, 2, None)])
def test_once_waits_longer_where_a_look_could_not_be_made(
    machine: Machine, until: float, ends_s: float, outcome: str | None
) -> None:
    """What counts for no hold is waited for again; whoever never answers is not waited for."""
    cookie = machine.add(connection()).cookie
    opened = machine.open

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        if 0.9 < machine.now < until:
            raise NetlinkError("list tcp sockets", errno.EIO)
        return opened(namespace, protocol)

    machine.open = open_netlink  # type: ignore[method-assign]
    one = enforce_once(machine.host, of(machine, rule(hold="2s")))
    assert outcomes_of(one) == ({cookie: outcome} if outcome else {})
    assert machine.now == pytest.approx(ends_s, abs=0.1)
    assert [list(look.failed) for look in one.judgements] == [[] if outcome else ["a-rule"]]


def test_once_waits_for_nothing_where_nothing_violates(machine: Machine) -> None:
    one = enforce_once(machine.host, of(machine, rule(hold="10m")))
    assert (one.decision.findings, machine.now) == ((), 0)


def test_once_waits_for_a_long_hold_without_looking_all_the_time(machine: Machine) -> None:
    cookie = machine.add(connection()).cookie
    one = enforce_once(machine.host, of(machine, rule(hold="1h")))
    assert outcomes_of(one) == {cookie: "destroyed"}
    assert len([kind for kind, _payload in machine.sockets.requests if kind in (18, 20)]) < 400


def test_once_in_check_mode_predicts_the_same(machine: Machine) -> None:
    machine.add(connection())
    machine.add(connection(local_port=2))
    machine.add(connection(remote_port=4505))
    policy = of(machine, rule("slow", hold="2s"), rule("quick", hold=0, match={"local_port": 2}))
    predicted = enforce_once(machine.host, policy, check=True)
    assert not any(cookies_asked_for(machine.sockets))
    done = enforce_once(machine.host, policy)
    assert outcomes_of(done) == outcomes_of(predicted)
    assert statuses(done) == statuses(predicted)
    assert len(done.done) == 2
    # Whatever is left was meant to be.
    assert enforce_once(machine.host, policy).done == ()
