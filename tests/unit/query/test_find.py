# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a dump does not tell is found out for those alone that may match."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from linuxnet_sockets.query.find import find, find_map, load
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.needs import Need
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.support.fake_kernel import FakeRoute
from tests.support.fake_machine import LOCAL, FakeMachine, connection

DUMP, GETADDR, GETROUTE = 20, 22, 26
# Of sockets of both families (TCPDIAG_GETSOCK); to rtnetlink the number is RTM_GETLINK.
DUMP_BOTH = 18
GONE = "192.0.2.99"


@pytest.fixture
def routed(machine: FakeMachine) -> FakeMachine:
    machine.sockets.routes.append(FakeRoute("0.0.0.0/0", ((2, "192.0.2.126"),)))
    return machine


def cookies(machine: FakeMachine, selector: dict[str, Any]) -> list[int]:
    parsed = parse_selector(selector, names=machine.host)
    with NamespaceSession(machine.host, machine.namespace) as session:
        return [sock.cookie for sock in find(session, parsed)]


def kinds(machine: FakeMachine) -> Counter[int]:
    return Counter(kind for kind, _payload in machine.sockets.requests)


def test_a_selector_without_verdicts_asks_for_sockets_alone(routed: FakeMachine) -> None:
    routed.add(connection())
    cookies(routed, {"remote_port": 443, "idle": "1ms"})
    assert kinds(routed) == {DUMP_BOTH: 1}


def test_a_stuck_one_needs_no_second_look(routed: FakeMachine) -> None:
    routed.add(connection())
    cookies(routed, {"stuck": ["retransmitting", "silent"]})
    assert kinds(routed) == {DUMP_BOTH: 1}


def test_routes_are_asked_for_those_that_all_else_leaves(routed: FakeMachine) -> None:
    wanted = routed.add(connection(local=GONE, remote="198.51.100.1", uid=1000))
    for number in range(100):
        routed.add(connection(local=GONE, remote=f"203.0.113.{number}", uid=33))

    assert cookies(routed, {"user": 1000, "stranded": "address_gone"}) == [wanted.cookie]
    assert 1 <= kinds(routed)[GETROUTE] < 20


def test_where_nothing_may_match_nothing_is_asked(routed: FakeMachine) -> None:
    routed.add(connection(local=GONE))
    assert cookies(routed, {"remote_port": 80, "stranded": "unroutable"}) == []
    assert kinds(routed) == {DUMP_BOTH: 1}


def test_where_all_have_their_address_only_addresses_are_asked_for(routed: FakeMachine) -> None:
    routed.add(connection())
    assert cookies(routed, {"stranded": "address_gone"}) == []
    assert kinds(routed) == {DUMP_BOTH: 1, GETADDR: 1}


def test_verdicts_obey_not_and_any(routed: FakeMachine) -> None:
    gone = routed.add(connection(local=GONE, local_port=1)).cookie
    there = routed.add(connection(local_port=2)).cookie
    other = routed.add(connection(local_port=3, remote_port=80)).cookie

    assert cookies(routed, {"not": {"stranded": "address_gone"}}) == [there, other]
    assert cookies(routed, {"any": [{"remote_port": 80}, {"stranded": "address_gone"}]}) == [
        gone,
        other,
    ]
    assert cookies(routed, {"stranded": ["no_carrier", "address_gone"], "process": "app"}) == [gone]


def test_what_is_made_is_made_of_those_that_match_in_the_end(routed: FakeMachine) -> None:
    routed.add(connection(local=GONE, local_port=1))
    routed.add(connection(local_port=2))
    parsed = parse_selector({"stranded": "address_gone"}, names=routed.host)
    made: list[int] = []

    def make(sock: Socket) -> int:
        made.append(sock.local_port)
        return sock.local_port

    with NamespaceSession(routed.host, routed.namespace) as session:
        assert find_map(make, session, parsed, session.snapshot()) == [1]
    assert made == [1]


def test_a_protecting_selector_may_go_by_verdicts(routed: FakeMachine) -> None:
    gone, there = connection(local=GONE), connection(local=LOCAL)
    guard = routed.guard({"selectors": [{"stranded": "address_gone"}]})
    routed.add(gone)
    routed.add(there)

    protected, not_spared = routed.reasons(guard, gone, there)

    assert protected is not None
    assert protected.detail == "protect.selectors[0]"
    assert not_spared is None


@pytest.mark.parametrize(
    "selector",
    [
        {},
        {"remote_port": 443},
        {"stranded": "address_gone"},
        {"local": ["10.0.0.1", "2001:db8::77"]},
        {
            "any": [
                {"family": "inet", "remote_port": 443},
                {"family": "inet6", "local": ["::ffff:10.0.0.1", "2001:db8::77"]},
            ]
        },
    ],
)
def test_a_kernel_without_the_one_walk_finds_the_same(
    machine: FakeMachine, selector: dict[str, Any]
) -> None:
    for local, remote in (
        ("10.0.0.1", "10.9.9.9"),
        ("::ffff:10.0.0.1", "::ffff:10.9.9.9"),
        ("2001:db8::77", "2001:db8::2"),
    ):
        machine.add(connection(local=local, remote=remote))
    found = cookies(machine, selector)
    assert len(found) == 3
    assert kinds(machine)[DUMP] == 0

    machine.kernel.abilities = replace(machine.kernel.abilities, supports_legacy_dump=False)
    assert cookies(machine, selector) == found
    assert kinds(machine)[DUMP] == 2


def test_families_that_are_not_both_meant_are_asked_for_one_by_one(machine: FakeMachine) -> None:
    machine.add(connection(local="2001:db8::1", remote="2001:db8::2"))
    cookies(machine, {"family": "inet6"})
    cookies(machine, {"protocol": "udp"})
    assert kinds(machine) == {DUMP: 3}


def test_owners_are_looked_for_once(routed: FakeMachine) -> None:
    routed.add(connection())
    parsed = parse_selector({"process": "app"}, names=routed.host)
    with NamespaceSession(routed.host, routed.namespace) as session:
        snapshot = session.snapshot()
        (sock,) = find(session, parsed, needs={Need.OWNERS}, snapshot=snapshot)
        owners = snapshot.owners
        load(session, snapshot, {Need.OWNERS}, [sock])
        assert snapshot.owners is owners
        snapshot.load_owners({1})
        assert snapshot.owners is not owners
        assert sock.processes
