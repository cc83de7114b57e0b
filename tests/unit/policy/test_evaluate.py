# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a machine through a policy, on the fake kernel."""

from __future__ import annotations

import errno
from typing import Any

from linuxnet_sockets.errors import HandlerMissing, NamespaceNotFound, NetlinkError
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.policy.evaluate import Judgement, Unseen, Violation, judge, look_at_all
from linuxnet_sockets.policy.model import Policy
from linuxnet_sockets.policy.parse import parse_policy
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.support.fake_kernel import FakeRoute
from tests.support.fake_kernel.model import TCP, UDP, FakeAddress
from tests.support.fake_machine import LOCAL, SECOND_LOCAL, Machine, connection
from tests.support.policy_documents import document, rule

UP = 0x11043
DOWN = 0x1002
VPN = rule(
    "vpn",
    while_={"interface": "wg0", "is": "up"},
    match={"remote": "198.51.100.0/24", "not": {"local": "interface:wg0"}},
)


def of(machine: Machine, *rules: Any, **keys: Any) -> Policy:
    return parse_policy(document(*rules, **keys), names=machine.host, files=None)


def judged(machine: Machine, policy: Policy, **keys: Any) -> Judgement:
    with NamespaceSession(machine.host, machine.namespace) as session:
        return judge(session, policy, **keys)


def cookies(judgement: Judgement) -> list[tuple[str, int]]:
    return [(each.rule.name, each.socket.cookie) for each in judgement.violations]


def test_what_matches_while_the_condition_holds_violates(machine: Machine) -> None:
    one, other = rule("one"), rule("other", match={"remote_port": 80})
    first = machine.add(connection())
    second = machine.add(connection(local_port=40_001, remote_port=80))
    found = judged(machine, of(machine, one, other))
    assert cookies(found) == [
        ("one", first.cookie),
        ("one", second.cookie),
        ("other", second.cookie),
    ]
    assert found.conditions == {"one": True, "other": True}
    assert (found.missing, found.failed, found.unlisted) == ({}, {}, frozenset())


def test_while_is_asked_of_the_interfaces_of_the_look(machine: Machine) -> None:
    policy = of(machine, VPN)
    bypassing = machine.add(connection())
    link = machine.sockets.link(4, "wg0", "10.8.0.2/24", flags=DOWN)
    machine.add(connection("10.8.0.2", 40_002))
    found = judged(machine, policy)
    assert cookies(found) == []
    assert found.conditions == {"vpn": False}
    link.flags = UP
    assert cookies(judged(machine, policy)) == [("vpn", bypassing.cookie)]


def test_a_misspelt_interface_is_said_and_matches_nothing(machine: Machine) -> None:
    machine.add(connection())
    found = judged(machine, of(machine, VPN, rule("b", match=VPN["match"])))
    assert cookies(found) == []
    assert found.conditions == {"vpn": None, "b": True}
    assert found.missing == {"vpn": ("wg0",), "b": ("wg0",)}


def test_routes_are_looked_at_where_a_condition_asks_for_them(machine: Machine) -> None:
    policy = of(machine, rule(while_={"route": "default", "via": "eth0"}))
    machine.add(connection())
    assert judged(machine, policy).conditions == {"a-rule": False}
    machine.sockets.routes.append(default_route(machine, "eth0"))
    assert len(judged(machine, policy).violations) == 1


def default_route(machine: Machine, name: str) -> FakeRoute:
    (index,) = [link.index for link in machine.sockets.links if link.name == name]
    return FakeRoute("0.0.0.0/0", ((index, "192.0.2.126"),))


def test_what_stranded_means_is_evidence(machine: Machine) -> None:
    policy = of(machine, rule("gone", match={"stranded": ["address_gone", "unroutable"]}))
    machine.add(connection("192.0.2.77"))
    machine.sockets.routes.append(default_route(machine, "eth0"))
    (only,) = judged(machine, policy).violations
    assert only.evidence == ("stranded: address_gone",)


def test_of_alternatives_only_those_that_hold_are_evidence(machine: Machine) -> None:
    alternatives = [{"stranded": "address_gone"}, {"stranded": "unroutable"}]
    together = {"remote_port": 443, "stranded": "address_gone"}
    policy = of(machine, rule("any", match={"any": alternatives}), rule("all", match=together))
    machine.add(connection("192.0.2.77"))
    machine.sockets.routes.append(default_route(machine, "eth0"))
    found = judged(machine, policy).violations
    assert [each.evidence for each in found] == [("stranded: address_gone",)] * 2


def test_what_holds_of_the_network_is_evidence_where_no_verdict_is(machine: Machine) -> None:
    up = {"interface": "eth0", "is": "up"}
    policy = of(
        machine,
        rule("while", match={"remote_port": 443}, while_=up),
        rule("verdict", match={"stranded": "address_gone"}, while_=up),
        rule("neither", match={"remote_port": 443}),
    )
    machine.add(connection("192.0.2.77"))
    machine.sockets.routes.append(default_route(machine, "eth0"))
    found = judged(machine, policy).violations
    assert {each.rule.name: each.evidence for each in found} == {
        "while": ("while: interface eth0 is up",),
        "verdict": ("stranded: address_gone",),
        "neither": (),
    }


def test_the_guard_is_asked_about_what_may_be_destroyed(machine: Machine) -> None:
    policy = of(
        machine, rule("kill"), rule("tell", action="report", match={"remote_port": "1-5000"})
    )
    held = machine.add(connection())
    machine.add(connection(local_port=40_001, remote_port=4505))
    found = judged(machine, policy)
    assert [(each.rule.name, each.guarded) for each in found.violations] == [
        ("kill", True),
        ("kill", True),
        ("tell", False),
        ("tell", False),
    ]
    protected = {each.socket.cookie: each.protected for each in found.violations if each.guarded}
    assert protected.pop(held.cookie) is None
    (reason,) = protected.values()
    assert reason is not None
    assert reason.rule == "control_connection"
    # Whoever is to be destroyed is logged with who holds it.
    assert found.violations[0].socket.processes


def test_the_guard_is_not_asked_in_vain(machine: Machine) -> None:
    machine.add(connection())
    found = judged(machine, of(machine, rule()), guarded=lambda _violation: False)
    assert [each.guarded for each in found.violations] == [False]


def test_one_rule_that_cannot_be_looked_at_does_not_hide_the_others(machine: Machine) -> None:
    machine.kernel.abilities.handlers = frozenset({TCP})
    kept = machine.add(connection())
    policy = of(
        machine, rule("both", match={"protocol": ["tcp", "udp"], "remote_port": 443}), rule()
    )
    found = judged(machine, policy)
    assert cookies(found) == [("a-rule", kept.cookie)]
    assert isinstance(found.failed["both"], HandlerMissing)
    assert found.unlisted == {"udp"}
    machine.kernel.abilities.handlers = frozenset({TCP, UDP})
    assert len(judged(machine, policy).violations) == 2


def test_what_was_in_order_by_the_time_of_the_second_look_does_not_violate(
    machine: Machine,
) -> None:
    """The address comes to an interface while it is looked at: nothing is judged by the old one."""
    policy = of(machine, rule(match={"remote_port": 443, "not": {"local": "interface:eth1"}}))
    machine.add(connection(SECOND_LOCAL))
    moved = machine.add(connection("192.0.2.200"))
    stays = machine.add(connection(LOCAL))
    asked: list[int] = []

    def hook(kind: int, payload: bytes) -> None:
        asked.append(kind)
        # The dump of the sockets: the addresses were asked for before it. To rtnetlink the number
        # is RTM_GETLINK, whose request is short.
        if kind == 18 and len(payload) >= 60:
            machine.sockets.before_request = None
            (eth1,) = [link for link in machine.sockets.links if link.name == "eth1"]
            machine.sockets.addresses.append(FakeAddress("192.0.2.200", 25, eth1.index))

    machine.sockets.before_request = hook
    found = judged(machine, policy)
    assert asked
    assert [cookie for _rule, cookie in cookies(found)] == [stays.cookie]
    assert moved.cookie not in [cookie for _rule, cookie in cookies(found)]


def test_every_namespace_is_looked_at_and_one_that_is_not_there_is_unseen(
    machine: Machine, spaces: dict[str, Namespace]
) -> None:
    policy = of(machine, rule(), namespaces=["no-such-namespace", *spaces])
    machine.add(connection())
    gone, seen = look_at_all(machine.host, policy)
    assert isinstance(gone, Unseen)
    assert isinstance(gone.error, NamespaceNotFound)
    assert (gone.label, gone.identity) == ("no-such-namespace", None)
    assert isinstance(seen, Judgement)
    assert len(seen.violations) == 1


def test_a_namespace_that_does_not_answer_is_unseen(
    machine: Machine, spaces: dict[str, Namespace]
) -> None:
    def refuse(kind: int, _payload: bytes) -> None:
        raise NetlinkError(f"answer {kind}", errno.EIO)

    machine.sockets.before_request = refuse
    (look,) = look_at_all(machine.host, of(machine, VPN))
    assert isinstance(look, Unseen)
    assert look.identity == spaces["current"].identity


def test_a_namespace_that_is_found_and_then_gone_is_left_out(
    machine: Machine, spaces: dict[str, Namespace]
) -> None:
    spaces["gone"] = Namespace("gone", "/run/netns/gone", (4, 4711))
    by_all = look_at_all(machine.host, of(machine, VPN, namespaces=["all"]))
    assert [look.namespace.name for look in by_all if isinstance(look, Judgement)] == ["current"]
    assert len(by_all) == 1
    by_name = look_at_all(machine.host, of(machine, VPN, namespaces=["gone"]))
    assert [type(look) for look in by_name] == [Unseen]


def test_what_is_in_order_by_the_time_the_guard_has_answered_does_not_violate(
    machine: Machine,
) -> None:
    """The guard walks over the processes, and that may take its time."""
    policy = of(machine, rule(match={"remote_port": 443, "not": {"local": "interface:eth1"}}))
    machine.add(connection(SECOND_LOCAL))
    moved = machine.add(connection("192.0.2.200"))
    stays = machine.add(connection(LOCAL))
    (eth1,) = [link for link in machine.sockets.links if link.name == "eth1"]
    asked: list[int] = []

    def guarded(violation: Violation) -> bool:
        if not asked:
            machine.sockets.addresses.append(FakeAddress("192.0.2.200", 25, eth1.index))
        asked.append(violation.socket.cookie)
        return True

    found = judged(machine, policy, guarded=guarded)
    assert asked == [moved.cookie, stays.cookie, stays.cookie]
    assert [(each.socket.cookie, each.guarded) for each in found.violations] == [
        (stays.cookie, True)
    ]


def test_a_condition_that_ended_meanwhile_ends_its_violations(machine: Machine) -> None:
    """A route is gone, and neither an interface nor an address has changed with it."""
    policy = of(machine, rule("kill", while_={"route": "default", "via": "eth0"}), rule("always"))
    only = machine.add(connection())
    machine.sockets.routes.append(default_route(machine, "eth0"))

    def guarded(_violation: Violation) -> bool:
        machine.sockets.routes[:] = [
            each for each in machine.sockets.routes if each.destination != "0.0.0.0/0"
        ]
        return True

    found = judged(machine, policy, guarded=guarded)
    assert cookies(found) == [("always", only.cookie)]
    assert found.conditions == {"kill": False, "always": True}


def test_a_large_table_is_passed_over(machine: Machine) -> None:
    """Only routes to the prefixes that a policy asks for are looked at."""
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
    assert judged(machine, policy).conditions == {"wide": False, "narrow": True}
