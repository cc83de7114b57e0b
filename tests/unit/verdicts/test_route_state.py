# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Route look-ups: which queries are sent, how often, and the verdicts from the replies."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

import pytest

from linuxnet_sockets.errors import NetlinkError
from linuxnet_sockets.netlink import links, routes
from linuxnet_sockets.verdicts.route_state import RouteState
from tests.support.fake_kernel import FakeAddress, FakeRoute, FakeRule, FakeSocket, faults, model
from tests.unit.verdicts.networks import (
    ETH0,
    LO,
    LOCAL,
    LOCAL6,
    NO_CARRIER,
    REMOTE,
    REMOTE6,
    WG0,
    Networked,
    connection,
    datagrams,
)

ROUTE_UNKNOWN = {"unroutable?", "no_carrier?", "rerouted?"}
BY_RULE = 1000


def test_distinct_query_is_sent_once() -> None:
    net = Networked()
    net.here.add(
        *(
            connection(
                LOCAL,
                f"203.0.113.{number % 20}",
                local_port=30_000 + number,
                mark=number,
                uid=number,
            )
            for number in range(300)
        )
    )
    route_state, sockets = net.route_state()
    assert len(net.looked_up) == 20
    assert all(route_state.verdicts(each) == [] for each in sockets)
    route_state.load(sockets)
    assert len(net.looked_up) == 20


def test_query_does_not_depend_on_source_by_default() -> None:
    net = Networked()
    locals_ = [f"192.0.2.{number}" for number in range(10, 20)]
    net.here.addresses += [FakeAddress(each, 24, ETH0) for each in locals_]
    net.here.add(*(connection(each) for each in locals_))
    net.route_state()
    assert len(net.looked_up) == 1


def test_query_depends_on_source_with_source_rule() -> None:
    net = Networked()
    locals_ = [f"192.0.2.{number}" for number in range(10, 20)]
    net.here.addresses += [FakeAddress(each, 24, ETH0) for each in locals_]
    net.here.rules.append(FakeRule(socket.AF_INET, 10, BY_RULE, source="192.0.2.12/32"))
    net.vpn(table=BY_RULE)
    net.here.add(*(connection(each) for each in locals_))
    route_state, sockets = net.route_state()
    assert len(net.looked_up) == 11
    rerouted = [each.local for each in sockets if route_state.evaluate(each, "rerouted")]
    assert rerouted == ["192.0.2.12"]


def _by(rule: FakeRule) -> Networked:
    net = Networked()
    net.here.rules.append(rule)
    net.vpn(table=BY_RULE)
    return net


@pytest.mark.parametrize(
    ("rule", "caught", "other"),
    [
        (FakeRule(2, 10, BY_RULE, mark=(7, 0xFF)), {"mark": 0x107}, {"mark": 8}),
        (FakeRule(2, 10, BY_RULE, uids=(1000, 1999)), {"uid": 1500}, {"uid": 0}),
        (FakeRule(2, 10, BY_RULE, tos=0x10), {"tos": 0x12}, {"tos": 0}),
        (FakeRule(2, 10, BY_RULE, dports=(443, 443)), {}, {"remote_port": 80}),
        (FakeRule(2, 10, BY_RULE, sports=(1, 1000)), {"local_port": 999}, {}),
        (FakeRule(2, 10, BY_RULE, protocol=6), {}, {"protocol": model.UDP}),
        (FakeRule(2, 10, BY_RULE, oif="wg0"), None, {}),
        (FakeRule(2, 10, BY_RULE, iif="lo"), {}, None),
        (FakeRule(2, 10, BY_RULE, destination="203.0.113.0/28"), {}, {"remote": "203.0.113.17"}),
    ],
)
def test_query_has_fields_that_rules_match(
    rule: FakeRule, caught: dict[str, object] | None, other: dict[str, object] | None
) -> None:
    net = _by(rule)
    if caught is not None:
        assert net.evaluate(connection(**caught)) == {"rerouted"}  # type: ignore[arg-type]
    if other is not None:
        assert net.evaluate(connection(**{"local_port": 41_000, **other})) == set()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "untold"),
    [
        (FakeRule(2, 10, BY_RULE, mark=(7, 0xFF)), {"mark": None}),
        # An orphan on an older kernel, which reports root.
        (FakeRule(2, 10, BY_RULE, uids=(0, 1999)), {"uid": 0, "inode": 0}),
        (FakeRule(2, 10, BY_RULE, protocol=136), {"protocol": model.UDPLITE}),
        # A flow label, and an attribute of a newer kernel.
        (FakeRule(2, 10, BY_RULE, mark=None, further=((26, bytes(4)),)), {}),
        (FakeRule(2, 10, BY_RULE, mark=None, further=((99, bytes(4)),)), {}),
    ],
)
def test_field_of_rule_that_is_not_reported_is_unknown(
    rule: FakeRule, untold: dict[str, object]
) -> None:
    net = _by(rule)
    net.here.add(connection(**untold))  # type: ignore[arg-type]
    snapshot = net.snapshot()
    sockets = net.sockets(snapshot)
    route_state = RouteState.of(snapshot)
    route_state.load(sockets)
    assert [route_state.verdicts(each) for each in sockets] == [None]
    assert route_state.evaluate(sockets[0], "address_gone") is False


def test_rules_of_one_family_do_not_affect_the_other() -> None:
    net = Networked()
    net.here.rules.append(FakeRule(socket.AF_INET, 10, BY_RULE, mark=(7, 0xFF)))
    assert net.evaluate(connection(LOCAL6, REMOTE6, mark=None)) == set()
    assert net.evaluate(connection(mark=None)) == ROUTE_UNKNOWN


def test_missing_ipv4_address_is_not_used_as_source() -> None:
    net = Networked()
    net.drop(LOCAL)
    # Without source rules the query has only the destination, which has a route.
    assert net.evaluate(connection()) == {"address_gone"}
    net.here.rules.append(FakeRule(socket.AF_INET, 10, BY_RULE, source="198.51.100.0/24"))
    assert net.evaluate(connection()) == {"address_gone", *ROUTE_UNKNOWN}


def test_local_route_in_other_table_makes_address_unknown() -> None:
    net = Networked()
    net.here.rules.append(FakeRule(socket.AF_INET, 10, BY_RULE, iif="eth0"))
    sock = connection("198.51.100.9", REMOTE)
    net.here.routes.append(FakeRoute("198.51.100.0/24", ((LO, None),), table=BY_RULE, kind=2))
    assert net.evaluate(sock) == {"address_gone?", "rerouted?"}
    net.here.routes.pop()
    assert net.evaluate(sock) == {"address_gone"}
    # The route of a transparent proxy; its transparent sockets are never stranded.
    net.here.routes.append(FakeRoute("0.0.0.0/0", ((LO, None),), table=BY_RULE, kind=2))
    assert net.evaluate(sock) == {"address_gone"}


def test_source_routes_make_device_without_route_unknown() -> None:
    net = Networked()
    net.here.routes.append(FakeRoute("2001:db8:e::/48", ((WG0, None),), source="2001:db8::/64"))
    assert net.evaluate(connection(LOCAL6, REMOTE6, ifindex=WG0)) == ROUTE_UNKNOWN


def test_source_route_is_followed() -> None:
    net = Networked()
    net.here.routes.append(FakeRoute("::/0", ((WG0, None),), source="2001:db8::/64"))
    assert net.evaluate(connection(LOCAL6, REMOTE6, ifindex=WG0)) == set()


def _between(net: Networked, change: Callable[[], None]) -> None:
    """Change the network when the first look-up is sent."""

    def act(kind: int, payload: bytes) -> None:
        if kind == routes.RTM_GETROUTE and payload[1]:
            net.here.before_request = None
            change()

    net.here.before_request = act


def test_address_added_after_first_dump_counts() -> None:
    net = Networked()
    net.drop(LOCAL6)
    _between(net, lambda: net.here.addresses.append(FakeAddress(LOCAL6, 64, ETH0)))
    assert net.evaluate(connection(LOCAL6, REMOTE6)) == set()


def test_address_moved_between_dumps_strands_nothing() -> None:
    net = Networked()
    net.unroute()
    net.vpn()

    def move() -> None:
        net.drop(LOCAL)
        net.here.addresses.append(FakeAddress(LOCAL, 24, WG0))

    _between(net, move)
    assert net.evaluate(connection()) == set()


def test_carrier_back_between_dumps_strands_nothing() -> None:
    net = Networked()
    net.eth0.flags = NO_CARRIER

    def plug() -> None:
        net.eth0.flags = 0x11043

    _between(net, plug)
    assert net.evaluate(connection()) == set()


def test_interfaces_are_dumped_once_without_verdicts() -> None:
    net = Networked()
    net.evaluate(connection())
    kinds = [kind for kind, _payload in net.here.requests]
    assert (kinds.count(links.RTM_GETLINK), kinds.count(links.RTM_GETADDR)) == (1, 1)
    assert kinds.count(routes.RTM_GETRULE) == 1


def test_socket_that_was_not_loaded_is_unknown() -> None:
    net = Networked()
    net.here.add(connection())
    snapshot = net.snapshot()
    (decoded,) = net.sockets(snapshot)
    route_state = RouteState.of(snapshot)
    assert route_state.evaluate(decoded, "unroutable") is None
    assert route_state.verdicts(decoded) is None
    assert RouteState.of(snapshot) is route_state


def test_lost_replies_are_unknown() -> None:
    net = Networked()
    net.here.add(connection())
    snapshot = net.snapshot()
    sockets = net.sockets(snapshot)
    route_state = RouteState(snapshot)
    net.here.faults.append(faults.lost())
    route_state.load(sockets)
    assert route_state.verdicts(sockets[0]) is None


def test_error_of_rule_dump_is_raised() -> None:
    net = Networked()
    snapshot = net.snapshot()
    assert snapshot.links
    assert snapshot.addresses
    net.here.faults.append(faults.done_with(errno.EPERM))
    with pytest.raises(NetlinkError):
        RouteState.of(snapshot)


def test_evidence_of_address_gone() -> None:
    net = Networked()
    net.drop(LOCAL)
    assert net.evidence(connection()) == {
        "address_gone": {"address": LOCAL, "interface": None, "lookup": "unicast"}
    }


def test_evidence_of_unroutable() -> None:
    net = Networked()
    net.unroute()
    assert net.evidence(datagrams()) == {
        "unroutable": {"remote": REMOTE, "interface": None, "lookup": "ENETUNREACH"}
    }


def test_evidence_of_rerouted_and_no_carrier() -> None:
    net = Networked()
    net.here.rules.append(FakeRule(socket.AF_INET, 10, BY_RULE, mark=(7, 0xFF)))
    net.vpn(table=BY_RULE)
    net.wg0.flags = NO_CARRIER
    expected = {
        "address": LOCAL,
        "held_by": ["eth0"],
        "leaves_by": ["wg0"],
        "carrier": False,
        "lookup": "unicast",
        "table": BY_RULE,
    }
    assert net.evidence(connection(mark=7)) == {"no_carrier": expected, "rerouted": expected}


def test_encoded_query_with_mark_and_uid() -> None:
    net = _by(FakeRule(2, 10, BY_RULE, mark=(7, 0xFF), uids=(5, 5)))
    net.evaluate(FakeSocket(local=LOCAL, local_port=1, remote=REMOTE, remote_port=2, mark=9, uid=5))
    (payload,) = net.looked_up
    assert struct.pack("=HHI", 8, 16, 9) in payload
    assert struct.pack("=HHI", 8, 25, 5) in payload
