# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Route look-ups in bulk: requests of different lengths, and lost replies."""

from __future__ import annotations

import errno
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.errors import MalformedMessage, SocketsError
from linuxnet_sockets.netlink import route_get, routes
from linuxnet_sockets.netlink.connection import NETLINK_ROUTE, Connection
from linuxnet_sockets.netlink.route_get import RouteQuery, RouteReply
from tests.support.fake_kernel import FakeKernel, FakeRoute, FakeRule, faults
from tests.support.fake_kernel.model import Item

ETH0, WG0 = 2, 3


def _packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _kernel() -> FakeKernel:
    kernel = FakeKernel()
    kernel.current.link(ETH0, "eth0", "192.0.2.1/24", "2001:db8::1/64")
    kernel.current.link(WG0, "wg0", "10.0.0.1/24", "2001:db8:a::1/64")
    kernel.current.routes += [
        FakeRoute("0.0.0.0/0", ((ETH0, "192.0.2.254"),)),
        FakeRoute("::/0", ((ETH0, "2001:db8::254"),)),
    ]
    return kernel


def _open(kernel: FakeKernel) -> Connection:
    return Connection(kernel.open("current", NETLINK_ROUTE), timeout=0.2)


def _one(kernel: FakeKernel, query: RouteQuery) -> RouteReply:
    (reply,) = route_get.get(_open(kernel), [query])
    return reply


@pytest.mark.parametrize("remote", ["203.0.113.1", "2001:db8:f::1"])
def test_reply_has_interface_and_table(remote: str) -> None:
    kernel = _kernel()
    kernel.current.routes.append(FakeRoute("10.0.0.0/8", ((WG0, None),), table=1000))
    assert _one(kernel, RouteQuery(_packed(remote))) == RouteReply(
        0, routes.UNICAST, ETH0, 254, (ETH0,)
    )


@pytest.mark.parametrize("own", ["192.0.2.1", "2001:db8::1"])
def test_own_address_is_local(own: str) -> None:
    reply = _one(_kernel(), RouteQuery(_packed(own)))
    assert (reply.errno, reply.kind, reply.table) == (0, routes.LOCAL, routes.TABLE_LOCAL)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (routes.UNREACHABLE, errno.EHOSTUNREACH),
        (routes.PROHIBIT, errno.EACCES),
        (routes.BLACKHOLE, errno.EINVAL),
    ],
)
def test_rejected_query_has_errno(kind: int, code: int) -> None:
    kernel = _kernel()
    kernel.current.routes.append(FakeRoute("203.0.113.0/24", kind=kind))
    assert _one(kernel, RouteQuery(_packed("203.0.113.1"))) == RouteReply(code)


@pytest.mark.parametrize(
    ("rule", "others"),
    [
        (FakeRule(2, 100, 77, mark=(7, 0xFF)), [{}, {"mark": 8}]),
        (FakeRule(2, 100, 77, uids=(1000, 1000)), [{}, {"uid": 1001}]),
        (FakeRule(2, 100, 77, tos=0x10), [{}, {"tos": 0x20}]),
        (FakeRule(2, 100, 77, source="192.0.2.0/24"), [{}, {"source": _packed("10.0.0.1")}]),
        (
            FakeRule(2, 100, 77, protocol=6, sports=(10, 20), dports=(443, 443)),
            [
                {},
                {"protocol": 17, "sport": 15, "dport": 443},
                {"protocol": 6, "sport": 15, "dport": 80},
                {"protocol": 6, "sport": 9, "dport": 443},
            ],
        ),
    ],
)
def test_query_passes_rule_conditions(rule: FakeRule, others: list[dict[str, object]]) -> None:
    kernel = _kernel()
    kernel.current.rules.append(rule)
    kernel.current.routes.append(FakeRoute("0.0.0.0/0", ((WG0, None),), table=77))
    full = RouteQuery(
        _packed("203.0.113.1"),
        source=_packed("192.0.2.1"),
        mark=7,
        uid=1000,
        tos=0x10,
        protocol=6,
        sport=15,
        dport=443,
    )
    assert _one(kernel, full).oif == WG0
    for change in others:
        assert _one(kernel, RouteQuery(_packed("203.0.113.1"))._replace(**change)).oif == ETH0


def test_query_for_one_device() -> None:
    kernel = _kernel()
    kernel.current.routes.append(FakeRoute("0.0.0.0/0", ((WG0, None),), metric=100))
    assert _one(kernel, RouteQuery(_packed("203.0.113.1"), oif=WG0)).oif == WG0


@pytest.mark.parametrize("remote", ["203.0.113.1", "2001:db8:f::1"])
def test_whole_route_has_all_hops(remote: str) -> None:
    kernel = _kernel()
    kernel.current.routes.append(
        FakeRoute(
            "203.0.113.0/24" if "." in remote else "2001:db8:f::/64", ((ETH0, None), (WG0, None))
        )
    )
    picked = _one(kernel, RouteQuery(_packed(remote)))
    assert picked.hops in ((ETH0,), (WG0,))
    whole = _one(kernel, RouteQuery(_packed(remote), whole_route=True))
    assert (whole.errno, whole.oif, whole.hops) == (0, 0, (ETH0, WG0))


def test_replies_are_in_order_of_queries() -> None:
    kernel = _kernel()
    kernel.current.routes.append(FakeRoute("203.0.113.0/25", ((WG0, None),)))
    remotes = [f"203.0.113.{number}" for number in range(256)] + ["2001:db8:f::1"] * 3
    queries = [
        RouteQuery(_packed(text), mark=1 if index % 7 else None, oif=ETH0 if index % 11 == 0 else 0)
        for index, text in enumerate(remotes)
    ]
    replies = route_get.get(_open(kernel), queries)
    assert [reply.oif for reply in replies] == [
        ETH0 if index % 11 == 0 or index >= 128 else WG0 for index in range(len(remotes))
    ]


def test_errors_match_their_queries() -> None:
    kernel = _kernel()
    kernel.current.route_errors = {
        f"203.0.113.{number}": errno.EPERM for number in range(0, 200, 3)
    }
    queries = [RouteQuery(_packed(f"203.0.113.{number}")) for number in range(200)]
    replies = route_get.get(_open(kernel), queries)
    assert [reply.errno for reply in replies] == [
        0 if number % 3 else errno.EPERM for number in range(200)
    ]


def test_lost_replies_are_requested_again() -> None:
    kernel = _kernel()
    kernel.current.faults.append(faults.overrun(kept=5))
    queries = [RouteQuery(_packed(f"203.0.113.{number}")) for number in range(100)]
    replies = route_get.get(_open(kernel), queries)
    assert [reply.oif for reply in replies] == [ETH0] * 100
    requests = [payload for kind, payload in kernel.current.requests if kind == routes.RTM_GETROUTE]
    assert 100 < len(requests) < 200


def test_repeatedly_lost_reply_is_enobufs() -> None:
    kernel = _kernel()

    def lose_one(replies: list[Item]) -> list[Item]:
        kernel.current.faults.append(lose_one)
        lost = _packed("203.0.113.7")
        return [
            item if not isinstance(item, bytes) or lost not in item else _enobufs()
            for item in replies
        ]

    kernel.current.faults.append(lose_one)
    queries = [RouteQuery(_packed(f"203.0.113.{number}")) for number in range(20)]
    replies = route_get.get(_open(kernel), queries)
    assert replies[7] == RouteReply(errno.ENOBUFS)
    # Other replies of its batch may be lost with it in each attempt.
    assert {reply.errno for reply in replies} == {0, errno.ENOBUFS}
    assert sum(reply.errno == 0 for reply in replies) >= 16


def _enobufs() -> OSError:
    return OSError(errno.ENOBUFS, "No buffer space available")


def test_eagain_counts_as_lost_reply() -> None:
    kernel = _kernel()
    kernel.current.route_errors["203.0.113.1"] = errno.EAGAIN
    assert _one(kernel, RouteQuery(_packed("203.0.113.1"))) == RouteReply(errno.ENOBUFS)


def test_no_queries_after_timeout() -> None:
    kernel = _kernel()
    kernel.current.faults += [faults.none, faults.lost(kept=3)]
    queries = [RouteQuery(_packed(f"203.0.113.{number}")) for number in range(200)]
    replies = route_get.get(_open(kernel), queries)
    assert [reply.errno for reply in replies] == [0] * 64 + [errno.ETIMEDOUT] * 136
    assert len(kernel.current.requests) == 128


def test_replies_to_others_are_ignored() -> None:
    kernel = _kernel()
    kernel.current.faults += [faults.strangers(sequence=True), faults.strangers(port=True)]
    connection = _open(kernel)
    for _time in range(2):
        (reply,) = route_get.get(connection, [RouteQuery(_packed("203.0.113.1"))])
        assert reply.oif == ETH0


def test_no_queries_send_nothing() -> None:
    kernel = _kernel()
    assert route_get.get(_open(kernel), []) == []
    assert kernel.current.requests == []


def test_short_reply_is_malformed() -> None:
    kernel = _kernel()
    kernel.current.faults.append(faults.bodies(lambda body: body[:8]))
    with pytest.raises(MalformedMessage):
        _one(kernel, RouteQuery(_packed("203.0.113.1")))


@given(st.binary(max_size=100))
def test_any_bytes_decode_or_raise(body: bytes) -> None:
    kernel = _kernel()
    kernel.current.faults.append(faults.bodies(lambda _body: body))
    try:
        reply = _one(kernel, RouteQuery(_packed("203.0.113.1")))
    except SocketsError:
        return
    assert reply.kind == body[7]


_addresses = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
_u32 = st.integers(0, 0xFFFFFFFF)
_u16 = st.integers(0, 0xFFFF)


@given(
    _addresses, st.booleans(), _u32, st.none() | _u32, st.none() | _u32, _u16, _u16, st.booleans()
)
def test_request_encodes_query(
    destination: bytes,
    with_source: bool,
    oif: int,
    mark: int | None,
    uid: int | None,
    sport: int,
    dport: int,
    whole_route: bool,
) -> None:
    source = bytes(reversed(destination)) if with_source else b""
    payload = route_get.encode(
        RouteQuery(destination, source, oif, mark, uid, 0x10, 6, sport, dport, whole_route)
    )
    assert len(payload) % 4 == 0
    family, length, source_length, tos, *rest, flags = struct.unpack_from("=BBBBBBBBI", payload)
    assert (family, length) == ({4: 2, 16: 10}[len(destination)], 8 * len(destination))
    assert (source_length, tos, rest) == (8 * len(source), 0x10, [0] * 4)
    assert flags == 0x1000 | (0x2000 if whole_route else 0)
    found = {}
    offset = 12
    while offset < len(payload):
        size, kind = struct.unpack_from("=HH", payload, offset)
        found[kind] = payload[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    expected = {
        1: destination,
        27: b"\6",
        28: struct.pack("!H", sport),
        29: struct.pack("!H", dport),
    }
    if source:
        expected[2] = source
    for kind, value in ((4, oif or None), (16, mark), (25, uid)):
        if value is not None:
            expected[kind] = struct.pack("=I", value)
    assert found == expected
