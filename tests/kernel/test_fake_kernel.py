# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake kernel against this one, so that tests on it are valid here."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linuxnet_sockets.errors import NetlinkError
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.netlink import inet_diag, links
from linuxnet_sockets.netlink.connection import NETLINK_ROUTE, NETLINK_SOCK_DIAG, Connection
from tests.kernel.conftest import Diag, Sockets
from tests.support.fake_kernel import FakeAddress, FakeKernel, FakeSocket
from tests.support.fake_kernel import bytecode as fake
from tests.support.fake_kernel.model import FakeLink
from tests.support.topologies import states
from tests.support.topologies.topology import Lab, LabNamespace, Pair

_OP = struct.Struct("=BBH")


@pytest.fixture(scope="module")
def quiet() -> Iterator[LabNamespace]:
    """A namespace with a few listeners that do not change."""
    with Lab() as lab:
        where = lab.namespace("quiet")
        for port in (22, 443, 8080):
            states.listener(where, "127.0.0.1", port)
            states.listener(where, "::1", port)
        yield where


@pytest.fixture(scope="module")
def sockets(quiet: LabNamespace) -> Iterator[Sockets]:
    (namespace,) = namespaces.resolve([quiet.name])
    connection = Connection(namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG))
    yield Sockets(connection)
    connection.close()


_SMALL = st.sampled_from([0, 3, 4, 6, 8, 12, 16, 20, 28, 32, 36])
_ARGUMENTS = {
    1: st.just(b""),
    **{
        code: st.sampled_from([0, 22, 443, 9000]).map(lambda port: _OP.pack(0, 0, port))
        for code in (2, 3, 4, 5, 11, 12)
    },
    6: st.just(b""),
    **{
        code: st.sampled_from(
            [
                struct.pack("=BBxxi", 0, 0, 22),
                struct.pack("=BBxxi4s", 2, 8, -1, b"\x7f\0\0\1"),
                struct.pack("=BBxxi4s", 2, 33, -1, b"\x7f\0\0\1"),
                struct.pack("=BBxxi16s", 10, 128, 443, bytes(15) + b"\1"),
                struct.pack("=BBxxi16s", 1, 0, -1, bytes(16)),
            ]
        )
        for code in (7, 8)
    },
    9: st.sampled_from([bytes(4), b"\1\0\0\0"]),
    10: st.just(struct.pack("=II", 0, 1)),
    13: st.just(bytes(8)),
}


@st.composite
def _ops(draw: st.DrawFn) -> bytes:
    """An instruction with a valid argument and mostly valid offsets."""
    code = draw(st.sampled_from([0, *_ARGUMENTS]))
    argument = draw(_ARGUMENTS.get(code, st.just(b"")))
    size = 4 + len(argument)
    yes = draw(st.one_of(st.just(size), st.just(size), _SMALL))
    no = draw(st.one_of(st.just(size), st.just(size + 4), _SMALL, st.integers(0, 64)))
    return _OP.pack(code, yes, no) + argument


_PROGRAMS = st.one_of(
    st.lists(_ops(), min_size=1, max_size=4).map(b"".join), st.binary(min_size=1, max_size=40)
)


@settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(program=_PROGRAMS)
def test_filter_audit_and_run(sockets: Sockets, program: bytes) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        listening = inet_diag.dump(sockets.connection, "tcp", family, 1 << 10)
        assert len(listening) == 3
        try:
            found = inet_diag.dump(sockets.connection, "tcp", family, 1 << 10, 0, program)
            code = 0
        except NetlinkError as error:
            found, code = [], error.errno
        assert fake.audit(program) == code
        if not code:
            entries = [
                fake.Entry(each.family, each.src, each.dst, each.sport, each.dport)
                for each in listening
            ]
            cgroup = fake.CGROUP_COND in program
            if not cgroup:
                expected = [
                    each.sport
                    for each, entry in zip(listening, entries)
                    if fake.run(program, entry)
                ]
                assert [each.sport for each in found] == expected


def _errno(connection: Connection, kind: int, payload: bytes) -> int:
    return connection.execute("send a request", kind, [payload])[0]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from([20, 21]),
    family=st.sampled_from([0, 2, 10, 45, 46, 255]),
    protocol=st.sampled_from([0, 1, 6, 17, 136, 255]),
    size=st.sampled_from([0, 1, 2, 8, 55, 56]),
    sockid=st.sampled_from(
        [
            bytes(48),
            struct.pack("!HH16s16s", 22, 0, b"\x7f\0\0\1", b"") + bytes(12),
            struct.pack("!HH16s16s", 22, 9, b"\x7f\0\0\1", b"\x7f\0\0\1") + bytes(12),
            struct.pack("!HH16s16s", 9, 9, bytes(15) + b"\1", b"") + b"\xff" * 12,
        ]
    ),
)
def test_errno_of_requests(
    sockets: Sockets, kind: int, family: int, protocol: int, size: int, sockid: bytes
) -> None:
    """The cookies are wrong, so nothing is destroyed."""
    kernel = FakeKernel()
    for port in (22, 443, 8080):
        for address in ("127.0.0.1", "::1"):
            kernel.current.add(FakeSocket(local=address, local_port=port, state=10))
    payload = (struct.pack("=BBBBI", family, protocol, 0, 0, 0xFFF) + sockid)[:size]
    faked = Connection(kernel.open("current", NETLINK_SOCK_DIAG))
    assert _errno(faked, kind, payload) == _errno(sockets.connection, kind, payload)
    assert kernel.current.destroyed == []


def _without_volatile(sock: inet_diag.DiagMessage) -> inet_diag.DiagMessage:
    return sock._replace(cookie=0, inode=0, attributes=b"", expires=0)


@pytest.mark.parametrize(
    ("make", "protocol"),
    [
        (states.established, "tcp"),
        (states.listening, "tcp"),
        (states.time_wait, "tcp"),
        (states.new_syn_recv, "tcp"),
        (states.udp_explicit, "udp"),
        (states.udp_autobound, "udp"),
        (states.udp_unconnected, "udp"),
        (states.udplite_connected, "udplite"),
    ],
)
@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_socket_before_and_after_destroy(
    pair: Pair, diag: Diag, make: object, protocol: str, v6: bool
) -> None:
    """A copy of the socket on the fake kernel gives the same replies and ends in the same state."""
    held = make(pair, v6=v6)  # type: ignore[operator]
    sockets = diag(held.where)
    real = sockets.of(held, protocol)
    kernel = FakeKernel()
    faked = kernel.current.add(
        FakeSocket(
            protocol={"tcp": 6, "udp": 17, "udplite": 136}[protocol],
            local=held.local[0],
            local_port=held.local[1],
            remote=held.remote[0],
            remote_port=held.remote[1],
            state=12 if make is states.new_syn_recv else real.state,
            inode=real.inode,
            cookie=real.cookie,
            timer=real.timer,
            rqueue=real.rqueue,
            wqueue=real.wqueue,
            uid=real.uid,
            explicit_port=(make is not states.udp_autobound and protocol != "tcp")
            or make is states.listening,
        )
    )
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG))
    fake_sockets = Sockets(connection)
    (same,) = fake_sockets.all(protocol)
    assert _without_volatile(same) == _without_volatile(real)
    assert same.attributes[:4] == real.attributes[:4]

    for target in (real._replace(cookie=1), real, real):
        assert fake_sockets.destroy(target) == sockets.destroy(target)

    states_left = inet_diag.ANY_STATE & ~(1 << 13)
    after = [each for each in sockets.all(protocol, states_left) if each.cookie == real.cookie]
    fake_after = fake_sockets.all(protocol, states_left)
    assert [_without_volatile(each) for each in after] == [
        _without_volatile(each) for each in fake_after
    ]
    assert faked.cookie in [*kernel.current.destroyed, *(each.cookie for each in fake_after)]


def test_links_and_addresses(pair: Pair) -> None:
    (namespace,) = namespaces.resolve([pair.client.name])
    connection = Connection(namespaces.open_netlink(namespace, NETLINK_ROUTE))
    kernel = FakeKernel()
    present = links.links(connection)
    kernel.current.links.clear()
    for link in present:
        faked_link = FakeLink(
            link.ifindex, link.name, link.flags, master=link.master, link_kind=link.kind
        )
        kernel.current.links.append(faked_link)
    index = next(link.ifindex for link in present if link.name == pair.client_device)
    kernel.current.addresses += [
        FakeAddress(pair.client4, 24, index, label=pair.client_device),
        FakeAddress(pair.client6, 64, index, flags=0x82),
    ]
    real = [each for each in links.addresses(connection) if each.address[:2] != b"\xfe\x80"]
    connection.close()
    faked = Connection(kernel.open("current", NETLINK_ROUTE))
    assert links.links(faked) == present
    assert sorted(links.addresses(faked)) == sorted(real)
