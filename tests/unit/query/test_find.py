# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""find() loads expensive facts only for sockets that may match."""

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
# TCPDIAG_GETSOCK, which dumps both families; to rtnetlink the number is RTM_GETLINK.
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


def requests_by_kind(machine: FakeMachine) -> Counter[int]:
    return Counter(kind for kind, _payload in machine.sockets.requests)


def test_selector_without_verdicts_requests_only_sockets(routed: FakeMachine) -> None:
    routed.add(connection())
    cookies(routed, {"remote_port": 443, "idle": "1ms"})
    assert requests_by_kind(routed) == {DUMP_BOTH: 1}


def test_stuck_needs_no_second_dump(routed: FakeMachine) -> None:
    routed.add(connection())
    cookies(routed, {"stuck": ["retransmitting", "silent"]})
    assert requests_by_kind(routed) == {DUMP_BOTH: 1}


def test_routes_are_requested_only_for_possible_matches(routed: FakeMachine) -> None:
    target = routed.add(connection(local=GONE, remote="198.51.100.1", uid=1000))
    for number in range(100):
        routed.add(connection(local=GONE, remote=f"203.0.113.{number}", uid=33))

    assert cookies(routed, {"user": 1000, "stranded": "address_gone"}) == [target.cookie]
    assert 1 <= requests_by_kind(routed)[GETROUTE] < 20


def test_no_possible_match_requests_nothing(routed: FakeMachine) -> None:
    routed.add(connection(local=GONE))
    assert cookies(routed, {"remote_port": 80, "stranded": "unroutable"}) == []
    assert requests_by_kind(routed) == {DUMP_BOTH: 1}


def test_present_addresses_need_no_route_lookup(routed: FakeMachine) -> None:
    routed.add(connection())
    assert cookies(routed, {"stranded": "address_gone"}) == []
    assert requests_by_kind(routed) == {DUMP_BOTH: 1, GETADDR: 1}


def test_verdicts_combine_with_not_and_any(routed: FakeMachine) -> None:
    gone = routed.add(connection(local=GONE, local_port=1)).cookie
    there = routed.add(connection(local_port=2)).cookie
    other = routed.add(connection(local_port=3, remote_port=80)).cookie

    assert cookies(routed, {"not": {"stranded": "address_gone"}}) == [there, other]
    assert cookies(routed, {"any": [{"remote_port": 80}, {"stranded": "address_gone"}]}) == [
        gone,
        other,
    ]
    assert cookies(routed, {"stranded": ["no_carrier", "address_gone"], "process": "app"}) == [gone]


def test_find_map_passes_only_matches(routed: FakeMachine) -> None:
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


def test_protecting_selector_with_a_verdict(routed: FakeMachine) -> None:
    gone, there = connection(local=GONE), connection(local=LOCAL)
    guard = routed.guard({"selectors": [{"stranded": "address_gone"}]})
    routed.add(gone)
    routed.add(there)

    protected, unprotected = routed.reasons(guard, gone, there)

    assert protected is not None
    assert protected.detail == "protect.selectors[0]"
    assert unprotected is None


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
def test_kernel_without_the_legacy_dump_gives_the_same_result(
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
    assert requests_by_kind(machine)[DUMP] == 0

    machine.kernel.abilities = replace(machine.kernel.abilities, supports_legacy_dump=False)
    assert cookies(machine, selector) == found
    assert requests_by_kind(machine)[DUMP] == 2


def test_single_families_are_dumped_separately(machine: FakeMachine) -> None:
    machine.add(connection(local="2001:db8::1", remote="2001:db8::2"))
    cookies(machine, {"family": "inet6"})
    cookies(machine, {"protocol": "udp"})
    assert requests_by_kind(machine) == {DUMP: 3}


def test_owners_are_loaded_once(routed: FakeMachine) -> None:
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
