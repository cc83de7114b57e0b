# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Socket diag requests and messages, against the fake kernel's implementation."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from linuxnet_sockets.errors import (
    HandlerMissing,
    MalformedMessage,
    NetlinkError,
    NetlinkTimeout,
)
from linuxnet_sockets.netlink import attributes, bytecode, inet_diag
from linuxnet_sockets.netlink.connection import NETLINK_SOCK_DIAG, Connection
from tests.support.fake_kernel import Abilities, FakeKernel, FakeSocket, faults

_NUMBERS = {"tcp": 6, "udp": 17, "udplite": 136, "raw": 255, "mptcp": 262}
_U32 = st.integers(0, 0xFFFFFFFF)
_PORTS = st.integers(0, 0xFFFF)
_ENDS = st.one_of(
    st.tuples(st.ip_addresses(v=4).map(str), st.ip_addresses(v=4).map(str)),
    st.tuples(st.ip_addresses(v=6).map(str), st.ip_addresses(v=6).map(str)),
    st.tuples(
        st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
        st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
    ),
)


def _open(kernel: FakeKernel) -> Connection:
    return Connection(kernel.open("current", NETLINK_SOCK_DIAG))


@st.composite
def _sockets(draw: st.DrawFn) -> FakeSocket:
    local, remote = draw(_ENDS)
    return FakeSocket(
        protocol=_NUMBERS[draw(st.sampled_from(["tcp", "udp", "udplite", "mptcp"]))],
        local=local,
        remote=remote,
        local_port=draw(_PORTS),
        remote_port=draw(_PORTS),
        state=draw(st.sampled_from([1, 2, 4, 5, 7, 8, 9, 10, 11])),
        ifindex=draw(_U32),
        uid=draw(_U32),
        inode=draw(_U32),
        cookie=draw(st.integers(1, 2**64 - 1)),
        timer=draw(st.integers(0, 255)),
        retrans=draw(st.integers(0, 255)),
        expires=draw(_U32),
        rqueue=draw(_U32),
        wqueue=draw(_U32),
        mark=draw(_U32),
    )


@given(_sockets())
def test_message_fields(fake: FakeSocket) -> None:
    kernel = FakeKernel()
    kernel.current.add(fake)
    protocol = next(name for name, number in _NUMBERS.items() if number == fake.protocol)

    (sock,) = inet_diag.dump(_open(kernel), protocol, fake.family)

    assert sock._replace(attributes=b"") == inet_diag.DiagMessage(
        protocol=protocol,
        family=fake.family,
        state=fake.state,
        timer=fake.timer,
        retrans=fake.retrans,
        sport=fake.local_port,
        dport=fake.remote_port,
        src=fake.src.ljust(16, b"\0"),
        dst=fake.dst.ljust(16, b"\0"),
        ifindex=fake.ifindex,
        cookie=fake.cookie,
        expires=fake.expires,
        rqueue=fake.rqueue,
        wqueue=fake.wqueue,
        uid=fake.uid,
        inode=fake.inode or 0,
        attributes=b"",
    )
    assert attributes.parse(sock.attributes)[inet_diag.MARK] == struct.pack("=I", fake.mark)


@given(st.lists(_sockets(), min_size=1, max_size=8), st.data())
def test_destroy_affects_only_dumped_socket(fakes: list[FakeSocket], data: st.DataObject) -> None:
    """The cookie selects the socket: no similar socket is destroyed instead."""
    assume(len({fake.cookie for fake in fakes}) == len(fakes))
    kernel = FakeKernel()
    kernel.current.add(*fakes)
    connection = _open(kernel)
    protocols = ("tcp", "udp", "udplite", "mptcp")
    socks = [
        sock
        for protocol in protocols
        for family in (socket.AF_INET, socket.AF_INET6)
        for sock in inet_diag.dump(connection, protocol, family)
    ]
    assert {sock.cookie for sock in socks} == {fake.cookie for fake in fakes}
    victim = data.draw(st.sampled_from(socks))

    (answer,) = inet_diag.destroy(connection, [victim])

    assert answer in (0, errno.ENOENT, errno.EOPNOTSUPP)
    assert kernel.current.destroyed == ([victim.cookie] if answer == 0 else [])


@given(_sockets(), st.binary(max_size=90))
def test_any_bytes_decode_or_raise(fake: FakeSocket, body: bytes) -> None:
    kernel = FakeKernel()
    fake.protocol = _NUMBERS["tcp"]
    kernel.current.add(fake)
    kernel.current.faults.append(faults.bodies(lambda _body: body))
    try:
        (sock,) = inet_diag.dump(_open(kernel), "tcp", fake.family)
    except MalformedMessage:
        assert len(body) < 72
        return
    assert len(body) >= 72
    # The decoded fields equal the bytes.
    assert bytes((sock.family, sock.state, sock.timer, sock.retrans)) == body[:4]
    assert inet_diag.sockid(sock) == body[4:52]
    tail = struct.pack("=IIIII", sock.expires, sock.rqueue, sock.wqueue, sock.uid, sock.inode)
    assert tail == body[52:72]
    assert sock.attributes == body[72:].ljust(len(sock.attributes), b"\0")


@pytest.mark.parametrize("protocol", list(_NUMBERS))
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_dump_selects_protocol_family_and_state(protocol: str, family: int) -> None:
    kernel = FakeKernel(Abilities(handlers=frozenset(_NUMBERS.values())))
    raw = {"raw_protocol": 1} if protocol == "raw" else {}
    local, other = ("192.0.2.1", "::1") if family == socket.AF_INET else ("::1", "192.0.2.1")
    for number in _NUMBERS.values():
        for state in (1, 10, 12):
            for address in (local, other):
                kernel.current.add(FakeSocket(protocol=number, local=address, state=state, **raw))

    found = inet_diag.dump(_open(kernel), protocol, family, 1 << 1 | 1 << 3)

    # The raw handler ignores the states.
    assert [sock.state for sock in found] == ([1, 10, 3] if protocol == "raw" else [1, 3])
    assert {(sock.protocol, sock.family) for sock in found} == {(protocol, family)}


@given(st.lists(_sockets(), min_size=1, max_size=8), _U32, st.integers(0, 255), st.booleans())
def test_one_walk_equals_two_dumps(
    fakes: list[FakeSocket], states: int, extensions: int, supported: bool
) -> None:
    kernel = FakeKernel(Abilities(supports_legacy_dump=supported))
    kernel.current.add(*fakes)
    connection = _open(kernel)
    request = (states, extensions, bytecode.sport_ge(1024))

    def unchanged(sock: inet_diag.DiagMessage) -> inet_diag.DiagMessage:
        return sock

    two_dumps = [
        sock
        for family in (socket.AF_INET, socket.AF_INET6)
        for sock in inet_diag.dump(connection, "tcp", family, *request)
    ]
    both = inet_diag.dump_map_one_walk(unchanged, connection, "tcp", *request)
    assert (both is not None) is supported
    if both is not None:
        assert sorted(both) == sorted(two_dumps)
    assert sorted(
        inet_diag.dump_map_both_families(unchanged, connection, "tcp", *request)
    ) == sorted(two_dumps)


def test_failed_one_walk_falls_back_to_families() -> None:
    kernel = FakeKernel(Abilities(handlers=frozenset()))
    with pytest.raises(HandlerMissing):
        inet_diag.dump_map_both_families(bool, _open(kernel), "tcp")
    kernel = FakeKernel(Abilities(privileged=False))
    with pytest.raises(NetlinkError) as caught:
        inet_diag.dump_map_both_families(bool, _open(kernel), "tcp", bytecode=bytecode.mark(0, 0))
    assert caught.value.errno == errno.EPERM
    # Other errors do not fall back.
    kernel.current.faults.append(faults.raw())
    with pytest.raises(NetlinkTimeout):
        inet_diag.dump_map_one_walk(bool, _open(kernel), "tcp")
    assert inet_diag.dump_map_one_walk(bool, _open(kernel), "udp") is None


def test_extensions_request_attributes() -> None:
    kernel = FakeKernel()
    kernel.current.add(
        FakeSocket(local="::1", state=10, tos=8, tclass=32, class_id=7, ulp="tls", cgroup_id=99)
    )
    requested = {
        inet_diag.MEMINFO,
        inet_diag.INFO,
        inet_diag.CONG,
        inet_diag.TOS,
        inet_diag.TCLASS,
        inet_diag.SKMEMINFO,
    }
    always = {
        inet_diag.SHUTDOWN,
        inet_diag.SKV6ONLY,
        inet_diag.MARK,
        inet_diag.CGROUP_ID,
        inet_diag.SOCKOPT,
    }
    connection = _open(kernel)
    (plain,) = inet_diag.dump(connection, "tcp", socket.AF_INET6)
    bits = inet_diag.extension_bits(sorted(requested))
    (full,) = inet_diag.dump(connection, "tcp", socket.AF_INET6, inet_diag.ANY_STATE, bits)

    assert set(attributes.parse(plain.attributes)) == always
    found = attributes.parse(full.attributes)
    assert set(found) == always | requested | {inet_diag.CLASS_ID, inet_diag.ULP_INFO}
    assert found[inet_diag.CLASS_ID] == struct.pack("=I", 7)
    assert found[inet_diag.CGROUP_ID] == struct.pack("=Q", 99)


def test_missing_handler_is_an_error() -> None:
    with pytest.raises(HandlerMissing) as caught:
        inet_diag.dump(_open(FakeKernel()), "raw", socket.AF_INET)
    assert caught.value.protocol == "raw"


def test_mptcp_dump_on_kernel_without_protocol_attribute() -> None:
    """Before Linux 5.9 the kernel ignores the attribute and uses the u8, where 255 is raw."""
    kernel = FakeKernel(Abilities(protocol_attribute=False, handlers=frozenset(_NUMBERS.values())))
    kernel.current.add(
        FakeSocket(local="192.0.2.1", state=1),
        FakeSocket(protocol=_NUMBERS["raw"], raw_protocol=1, state=7),
    )
    connection = _open(kernel)
    with pytest.raises(HandlerMissing):
        inet_diag.dump(connection, "mptcp", socket.AF_INET)
    assert inet_diag.probe_destroy(connection, "mptcp", socket.AF_INET) == errno.ENOENT
    assert len(inet_diag.dump(connection, "raw", socket.AF_INET)) == 1


@pytest.mark.parametrize(
    ("abilities", "protocol", "expected"),
    [
        (Abilities(), "tcp", errno.ENOENT),
        (Abilities(privileged=False), "tcp", errno.ENOENT),
        (Abilities(destroys=False), "tcp", errno.EOPNOTSUPP),
        (Abilities(), "mptcp", errno.EOPNOTSUPP),
        (Abilities(), "raw", errno.ENOENT),
    ],
)
def test_probe_destroy_reports_ability(abilities: Abilities, protocol: str, expected: int) -> None:
    kernel = FakeKernel(abilities)
    kernel.current.add(
        FakeSocket(local="0.0.0.0", local_port=80, state=10),
        FakeSocket(local="0.0.0.0", protocol=17, local_port=53, state=7),
    )
    for family in (socket.AF_INET, socket.AF_INET6):
        assert inet_diag.probe_destroy(_open(kernel), protocol, family) == expected
    assert kernel.current.destroyed == []


@pytest.mark.parametrize(
    ("abilities", "sock", "expected"),
    [
        (Abilities(privileged=False), FakeSocket(), errno.EPERM),
        (Abilities(destroys=False), FakeSocket(), errno.EOPNOTSUPP),
        (Abilities(destroys_time_wait=False), FakeSocket(state=6), errno.EOPNOTSUPP),
        (Abilities(), FakeSocket(protocol=136), errno.EOPNOTSUPP),
        (Abilities(), FakeSocket(protocol=262), errno.EOPNOTSUPP),
        (Abilities(), FakeSocket(errno=errno.EBUSY), errno.EBUSY),
        (Abilities(), FakeSocket(state=13), errno.ENOENT),
    ],
)
def test_rejected_destroy_returns_errno(
    abilities: Abilities, sock: FakeSocket, expected: int
) -> None:
    kernel = FakeKernel(abilities)
    kernel.current.add(sock)
    protocol = next(name for name, number in _NUMBERS.items() if number == sock.protocol)
    connection = _open(kernel)
    (found,) = inet_diag.dump(connection, protocol, sock.family)
    assert inet_diag.destroy(connection, [found]) == [expected]
    assert kernel.current.sockets == [sock]


def test_destroy_of_raw_socket_by_inner_protocol() -> None:
    kernel = FakeKernel(Abilities(handlers=frozenset({255})))
    for number in (1, 89):
        kernel.current.add(FakeSocket(protocol=255, raw_protocol=number, local="192.0.2.1"))
    connection = _open(kernel)
    icmp, ospf = inet_diag.dump(connection, "raw", socket.AF_INET)
    assert (icmp.sport, ospf.sport) == (1, 89)
    assert inet_diag.destroy(connection, [ospf]) == [0]
    assert kernel.current.destroyed == [ospf.cookie]


def test_ipv4_address_is_in_first_four_bytes() -> None:
    kernel = FakeKernel()
    kernel.current.add(FakeSocket(local="192.0.2.7", local_port=0x1234))
    (sock,) = inet_diag.dump(_open(kernel), "tcp", socket.AF_INET)
    assert sock.src == ipaddress.ip_address("192.0.2.7").packed + bytes(12)
    assert sock.sport == 0x1234


def test_rejected_filter_is_an_error() -> None:
    kernel = FakeKernel()
    with pytest.raises(NetlinkError) as caught:
        inet_diag.dump(_open(kernel), "tcp", socket.AF_INET, bytecode=b"\xff\x04\x08\x00")
    assert caught.value.errno == errno.EINVAL
