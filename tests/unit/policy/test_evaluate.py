# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation of policies on the fake kernel."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from linuxnet_sockets.errors import HandlerMissing, NamespaceNotFound, NetlinkError, NotEvaluated
from linuxnet_sockets.guard.reason import LOOPBACK
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.policy import loopback
from linuxnet_sockets.policy.evaluate import PassOptions, evaluate, evaluate_all
from linuxnet_sockets.policy.findings import Evaluation, Violation
from linuxnet_sockets.policy.model import Policy
from linuxnet_sockets.policy.parse import parse_policy
from linuxnet_sockets.query import find
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.support.fake_kernel import FakeRoute, FakeSocket
from tests.support.fake_kernel.model import CLOSE, TCP, UDP, FakeAddress
from tests.support.fake_machine import (
    LOCAL,
    LOCAL6,
    REMOTE,
    REMOTE6,
    SECOND_LOCAL,
    FakeMachine,
    connection,
)
from tests.support.policy_documents import document, rule

UP = 0x11043
DOWN = 0x1002
VPN = rule(
    "vpn",
    while_={"interface": "wg0", "is": "up"},
    match={"remote": "198.51.100.0/24", "not": {"local": "interface:wg0"}},
)


def of(machine: FakeMachine, *rules: Any, **keys: Any) -> Policy:
    return parse_policy(document(*rules, **keys), names=machine.host, files=None)


def evaluated(machine: FakeMachine, policy: Policy, **keys: Any) -> Evaluation:
    with NamespaceSession(machine.host, machine.namespace) as session:
        return evaluate(session, policy, **keys)


def cookies(evaluation: Evaluation) -> list[tuple[str, int]]:
    return [(each.rule.name, each.socket.cookie) for each in evaluation.violations]


def test_matching_sockets_violate(machine: FakeMachine) -> None:
    one, other = rule("one"), rule("other", match={"remote_port": 80})
    first = machine.add(connection())
    second = machine.add(connection(local_port=40_001, remote_port=80))
    found = evaluated(machine, of(machine, one, other))
    assert cookies(found) == [
        ("one", first.cookie),
        ("one", second.cookie),
        ("other", second.cookie),
    ]
    assert found.conditions == {"one": True, "other": True}
    assert (found.missing, found.failed, found.unlisted) == ({}, {}, frozenset())


def test_condition_uses_links_of_snapshot(machine: FakeMachine) -> None:
    policy = of(machine, VPN)
    bypassing = machine.add(connection())
    link = machine.sockets.link(4, "wg0", "10.8.0.2/24", flags=DOWN)
    machine.add(connection("10.8.0.2", 40_002))
    found = evaluated(machine, policy)
    assert cookies(found) == []
    assert found.conditions == {"vpn": False}
    link.flags = UP
    assert cookies(evaluated(machine, policy)) == [("vpn", bypassing.cookie)]


def test_missing_interface_is_reported_and_matches_nothing(machine: FakeMachine) -> None:
    machine.add(connection())
    found = evaluated(machine, of(machine, VPN, rule("b", match=VPN["match"])))
    assert cookies(found) == []
    assert found.conditions == {"vpn": None, "b": True}
    assert found.missing == {"vpn": ("wg0",), "b": ("wg0",)}


def test_route_condition_loads_routes(machine: FakeMachine) -> None:
    policy = of(machine, rule(while_={"route": "default", "via": "eth0"}))
    machine.add(connection())
    assert evaluated(machine, policy).conditions == {"a-rule": False}
    machine.sockets.routes.append(default_route(machine, "eth0"))
    assert len(evaluated(machine, policy).violations) == 1


def default_route(machine: FakeMachine, name: str) -> FakeRoute:
    (index,) = [link.index for link in machine.sockets.links if link.name == name]
    return FakeRoute("0.0.0.0/0", ((index, "192.0.2.126"),))


def test_evidence_names_stranded_verdict(machine: FakeMachine) -> None:
    policy = of(machine, rule("gone", match={"stranded": ["address_gone", "unroutable"]}))
    machine.add(connection("192.0.2.77"))
    machine.sockets.routes.append(default_route(machine, "eth0"))
    (only,) = evaluated(machine, policy).violations
    assert only.evidence == ("stranded: address_gone",)


def test_evidence_names_only_verdicts_that_hold(machine: FakeMachine) -> None:
    alternatives = [{"stranded": "address_gone"}, {"stranded": "unroutable"}]
    together = {"remote_port": 443, "stranded": "address_gone"}
    policy = of(machine, rule("any", match={"any": alternatives}), rule("all", match=together))
    machine.add(connection("192.0.2.77"))
    machine.sockets.routes.append(default_route(machine, "eth0"))
    found = evaluated(machine, policy).violations
    assert [each.evidence for each in found] == [("stranded: address_gone",)] * 2


def test_evidence_without_verdict_is_the_condition(machine: FakeMachine) -> None:
    up = {"interface": "eth0", "is": "up"}
    policy = of(
        machine,
        rule("while", match={"remote_port": 443}, while_=up),
        rule("verdict", match={"stranded": "address_gone"}, while_=up),
        rule("neither", match={"remote_port": 443}),
    )
    machine.add(connection("192.0.2.77"))
    machine.sockets.routes.append(default_route(machine, "eth0"))
    found = evaluated(machine, policy).violations
    assert {each.rule.name: each.evidence for each in found} == {
        "while": ("while: interface eth0 is up",),
        "verdict": ("stranded: address_gone",),
        "neither": (),
    }


def test_guard_is_evaluated_for_action_destroy_only(machine: FakeMachine) -> None:
    policy = of(
        machine, rule("kill"), rule("tell", action="report", match={"remote_port": "1-5000"})
    )
    held = machine.add(connection())
    machine.add(connection(local_port=40_001, remote_port=4505))
    found = evaluated(machine, policy)
    assert [(each.rule.name, each.guard_checked) for each in found.violations] == [
        ("kill", True),
        ("kill", True),
        ("tell", False),
        ("tell", False),
    ]
    protected = {
        each.socket.cookie: each.protected_by for each in found.violations if each.guard_checked
    }
    assert protected.pop(held.cookie) is None
    (reason,) = protected.values()
    assert reason is not None
    assert reason.rule == "control_connection"
    # The journal names the owner of each destroyed socket.
    assert found.violations[0].socket.processes


def test_guard_is_not_evaluated_if_not_needed(machine: FakeMachine) -> None:
    machine.add(connection())
    found = evaluated(machine, of(machine, rule()), needs_guard=lambda _violation: False)
    assert [each.guard_checked for each in found.violations] == [False]


def test_failed_rule_does_not_affect_others(machine: FakeMachine) -> None:
    machine.kernel.abilities.handlers = frozenset({TCP})
    kept = machine.add(connection())
    policy = of(
        machine, rule("both", match={"protocol": ["tcp", "udp"], "remote_port": 443}), rule()
    )
    found = evaluated(machine, policy)
    assert cookies(found) == [("a-rule", kept.cookie)]
    assert isinstance(found.failed["both"], HandlerMissing)
    assert found.unlisted == {"udp"}
    machine.kernel.abilities.handlers = frozenset({TCP, UDP})
    assert len(evaluated(machine, policy).violations) == 2


def test_address_added_during_dump_ends_violation(
    machine: FakeMachine,
) -> None:
    """An address moves to another interface between the dumps of addresses and sockets."""
    policy = of(machine, rule(match={"remote_port": 443, "not": {"local": "interface:eth1"}}))
    machine.add(connection(SECOND_LOCAL))
    moved = machine.add(connection("192.0.2.200"))
    stays = machine.add(connection(LOCAL))
    asked: list[int] = []

    def hook(kind: int, payload: bytes) -> None:
        asked.append(kind)
        # 18 is TCPDIAG_GETSOCK, and RTM_GETLINK with a shorter payload. The dump of sockets follows
        # the dump of addresses.
        if kind == 18 and len(payload) >= 60:
            machine.sockets.before_request = None
            (eth1,) = [link for link in machine.sockets.links if link.name == "eth1"]
            machine.sockets.addresses.append(FakeAddress("192.0.2.200", 25, eth1.index))

    machine.sockets.before_request = hook
    found = evaluated(machine, policy)
    assert asked
    assert [cookie for _rule, cookie in cookies(found)] == [stays.cookie]
    assert moved.cookie not in [cookie for _rule, cookie in cookies(found)]


def test_unknown_namespace_is_not_evaluated(
    machine: FakeMachine, spaces: dict[str, Namespace]
) -> None:
    policy = of(machine, rule(), namespaces=["no-such-namespace", *spaces])
    machine.add(connection())
    gone, seen = evaluate_all(machine.host, policy)
    assert isinstance(gone, NotEvaluated)
    assert isinstance(gone.error, NamespaceNotFound)
    assert (gone.namespace, gone.identity) == ("no-such-namespace", None)
    assert isinstance(seen, Evaluation)
    assert len(seen.violations) == 1


def test_namespace_with_failing_dumps_is_not_evaluated(
    machine: FakeMachine, spaces: dict[str, Namespace]
) -> None:
    def refuse(kind: int, _payload: bytes) -> None:
        raise NetlinkError(f"answer {kind}", errno.EIO)

    machine.sockets.before_request = refuse
    (result,) = evaluate_all(machine.host, of(machine, VPN))
    assert isinstance(result, NotEvaluated)
    assert result.identity == spaces["current"].identity


def test_namespace_that_vanishes_is_left_out_of_all(
    machine: FakeMachine, spaces: dict[str, Namespace]
) -> None:
    """A namespace named explicitly is NotEvaluated instead."""
    spaces["gone"] = Namespace("gone", "/run/netns/gone", (4, 4711))
    by_all = evaluate_all(machine.host, of(machine, VPN, namespaces=["all"]))
    assert [each.namespace.name for each in by_all if isinstance(each, Evaluation)] == ["current"]
    assert len(by_all) == 1
    by_name = evaluate_all(machine.host, of(machine, VPN, namespaces=["gone"]))
    assert [type(each) for each in by_name] == [NotEvaluated]


def test_address_added_during_guard_ends_violation(
    machine: FakeMachine,
) -> None:
    """The guard walks over all processes, and the network may change during it."""
    policy = of(machine, rule(match={"remote_port": 443, "not": {"local": "interface:eth1"}}))
    machine.add(connection(SECOND_LOCAL))
    moved = machine.add(connection("192.0.2.200"))
    stays = machine.add(connection(LOCAL))
    (eth1,) = [link for link in machine.sockets.links if link.name == "eth1"]
    asked: list[int] = []

    def needs_guard(violation: Violation) -> bool:
        if not asked:
            machine.sockets.addresses.append(FakeAddress("192.0.2.200", 25, eth1.index))
        asked.append(violation.socket.cookie)
        return True

    found = evaluated(machine, policy, needs_guard=needs_guard)
    assert asked == [moved.cookie, stays.cookie, stays.cookie]
    assert [(each.socket.cookie, each.guard_checked) for each in found.violations] == [
        (stays.cookie, True)
    ]


def test_condition_that_ends_during_guard_ends_violations(machine: FakeMachine) -> None:
    """A route is removed; links and addresses stay the same."""
    policy = of(machine, rule("kill", while_={"route": "default", "via": "eth0"}), rule("always"))
    only = machine.add(connection())
    machine.sockets.routes.append(default_route(machine, "eth0"))

    def needs_guard(_violation: Violation) -> bool:
        machine.sockets.routes[:] = [
            each for each in machine.sockets.routes if each.destination != "0.0.0.0/0"
        ]
        return True

    found = evaluated(machine, policy, needs_guard=needs_guard)
    assert cookies(found) == [("always", only.cookie)]
    assert found.conditions == {"kill": False, "always": True}


def test_only_routes_of_conditions_are_loaded(machine: FakeMachine) -> None:
    """Routes to other prefixes do not affect the conditions."""
    policy = of(
        machine,
        rule("wide", while_={"route": "default", "via": "eth0"}),
        rule("narrow", while_={"route": "10.0.0.0/8", "via": "eth0"}),
    )
    (eth0,) = [link.index for link in machine.sockets.links if link.name == "eth0"]
    machine.sockets.routes += [
        FakeRoute("10.0.0.0/8", ((eth0, "192.0.2.126"),)),
        FakeRoute("11.0.0.0/8", ((eth0, "192.0.2.126"),)),
    ]
    assert evaluated(machine, policy).conditions == {"wide": False, "narrow": True}


def omitting(machine: FakeMachine, policy: Policy) -> tuple[list[int], list[int]]:
    """The cookies of the violations, and the ones that the omission leaves of them."""
    omit = PassOptions(omit_loopback=True)
    return tuple(
        [each.socket.cookie for each in evaluated(machine, policy, options=options).violations]
        for options in (PassOptions(), omit)
    )  # type: ignore[return-value]


def test_omitted_are_exactly_the_sockets_that_the_guard_protects_as_loopback(
    machine: FakeMachine,
) -> None:
    machine.sockets.link(9, "eth2", "172.30.0.5/16", "2001:db8:5::1/64")
    ends = [
        ("127.0.0.1", "127.0.0.1"),
        ("127.8.9.10", REMOTE),
        (LOCAL, "127.0.0.53"),
        (LOCAL, LOCAL),
        (LOCAL, SECOND_LOCAL),
        (LOCAL, REMOTE),
        ("192.0.2.77", SECOND_LOCAL),
        ("203.0.113.9", "203.0.113.9"),
        ("128.0.0.1", "126.255.255.255"),
        ("::1", "::1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        (f"::ffff:{LOCAL}", f"::ffff:{SECOND_LOCAL}"),
        (f"::ffff:{LOCAL}", f"::ffff:{REMOTE}"),
        (LOCAL6, "2001:db8:5::1"),
        (LOCAL6, REMOTE6),
        ("7f00::1", "7f00::2"),
    ]
    for number, (local, remote) in enumerate(ends):
        machine.add(connection(local, 40_000 + number, remote))
    machine.add(FakeSocket(UDP, LOCAL, 50_000, state=CLOSE))
    every = {"protocol": ["tcp", "udp"], "state": "all", "any": [{"local_port": "1-65535"}]}
    policy = of(machine, rule(match=every))
    found = evaluated(machine, policy).violations
    _all, kept = omitting(machine, policy)
    protected = [each for each in found if each.protected_by and each.protected_by.rule == LOOPBACK]
    assert len(found) == len(ends) + 1
    # Equal ends that the host does not hold remain, and the guard protects them.
    foreign = [
        each for each in protected if each.socket.local_address == each.socket.remote_address
    ]
    foreign = [each for each in foreign if each.socket.local_address[0] == 203]
    assert len(foreign) == 1
    omitted = {each.socket.cookie for each in protected} - {foreign[0].socket.cookie}
    assert len(omitted) == 9
    assert kept == [each.socket.cookie for each in found if each.socket.cookie not in omitted]


@pytest.mark.parametrize("number", [0, 500])
def test_omitted_sockets_make_no_violation_and_are_not_received(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    made: list[Socket] = []

    class Counted(Socket):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(find, "Socket", Counted)
    for port in range(1000, 1000 + number):
        machine.add(connection("127.0.0.1", port, "127.0.0.1"))
        machine.add(connection(LOCAL, port, SECOND_LOCAL))
    violating = machine.add(connection())
    policy = of(machine, rule(match={"remote_port": 443}))
    found = evaluated(machine, policy, options=PassOptions(omit_loopback=True))
    assert [each.socket.cookie for each in found.violations] == [violating.cookie]
    assert len(made) == 1


def test_sockets_are_not_omitted_if_the_rule_reports_or_the_guard_is_off(
    machine: FakeMachine,
) -> None:
    only = machine.add(connection("127.0.0.1", remote="127.0.0.1"))
    match = {"remote_port": 443}
    destroying = of(machine, rule(match=match))
    assert omitting(machine, destroying) == ([only.cookie], [])
    reporting = of(machine, rule(match=match, action="report"))
    assert omitting(machine, reporting) == ([only.cookie], [only.cookie])
    unprotected = of(machine, rule(match=match), protect={"loopback": False})
    assert omitting(machine, unprotected) == ([only.cookie], [only.cookie])


def test_addresses_beyond_the_bound_are_left_to_the_guard(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 127.0.0.1 and LOCAL.
    monkeypatch.setattr(loopback, "MAX_ADDRESSES", 2)
    first = machine.add(connection(LOCAL, 1, LOCAL))
    second = machine.add(connection(LOCAL, 2, SECOND_LOCAL))
    policy = of(machine, rule(match={"remote_port": 443}))
    assert omitting(machine, policy) == ([first.cookie, second.cookie], [second.cookie])
