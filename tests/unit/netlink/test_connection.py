# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The netlink transport under faults: results are complete, or a typed error is raised."""

from __future__ import annotations

import errno
import struct
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linuxnet_sockets.errors import (
    DumpInterrupted,
    MalformedMessage,
    NetlinkError,
    NetlinkTimeout,
    SocketsError,
)
from linuxnet_sockets.netlink import connection as transport
from linuxnet_sockets.netlink.connection import NETLINK_SOCK_DIAG, Connection
from tests.support.fake_kernel import FakeKernel, FakeSocket, faults
from tests.support.fake_kernel.netlink import NLMSG_DONE, NLMSG_ERROR, message

_BY_FAMILY, _DESTROY = 20, 21
NLMSG_OVERRUN = 4
_PORT = 4242  # The port of the first socket of a fake kernel.
_COUNT = 500
_REQUEST = struct.pack("=BBBBI", 2, 6, 0, 0, 0xFFFFFFFF) + bytes(48)


def _cookie(buffer: bytearray, offset: int, end: int) -> int:
    assert end - offset >= 72
    return int.from_bytes(buffer[offset + 44 : offset + 52], "little")


def _body(buffer: bytearray, offset: int, end: int) -> bytes:
    return bytes(buffer[offset:end])


@pytest.fixture(scope="module")
def kernel() -> FakeKernel:
    kernel = FakeKernel()
    for port in range(_COUNT):
        kernel.current.add(FakeSocket(local="192.0.2.1", local_port=port + 1, remote="192.0.2.2"))
    return kernel


@pytest.fixture
def connection(kernel: FakeKernel) -> Connection:
    kernel.current.faults.clear()
    return Connection(kernel.open("current", NETLINK_SOCK_DIAG), timeout=0.2)


def _dump(connection: Connection) -> list[int]:
    return connection.dump("list", _BY_FAMILY, _REQUEST, _cookie)


def _cookies(kernel: FakeKernel) -> list[int]:
    return [sock.cookie for sock in kernel.current.sockets]


def test_dump_of_many_datagrams(kernel: FakeKernel, connection: Connection) -> None:
    assert _dump(connection) == _cookies(kernel)


@pytest.mark.parametrize(
    "fault",
    [
        faults.dump_interrupted,
        faults.overrun(),
        faults.overrun(kept=2),
        faults.failing(errno.ENOBUFS, at=1),
        faults.done_with(errno.EINTR),
    ],
)
def test_interrupted_dump_is_repeated(
    kernel: FakeKernel, connection: Connection, fault: Any
) -> None:
    kernel.current.faults.extend([fault, fault])
    before = len(kernel.current.requests)
    assert _dump(connection) == _cookies(kernel)
    assert len(kernel.current.requests) == before + 3


def test_always_interrupted_dump_is_an_error(kernel: FakeKernel, connection: Connection) -> None:
    kernel.current.faults.extend([faults.dump_interrupted] * 50)
    with pytest.raises(DumpInterrupted) as caught:
        _dump(connection)
    assert 1 < caught.value.attempts < 50


@pytest.mark.parametrize(
    "fault",
    [
        faults.strangers(sequence=True),
        faults.strangers(port=True),
        faults.strangers(sequence=True, port=True),
    ],
)
def test_replies_to_others_are_ignored(
    kernel: FakeKernel, connection: Connection, fault: Any
) -> None:
    kernel.current.faults.append(fault)
    assert _dump(connection) == _cookies(kernel)


@pytest.mark.parametrize("fault", [faults.without_done, faults.lost(kept=1), faults.lost()])
def test_missing_done_times_out(kernel: FakeKernel, connection: Connection, fault: Any) -> None:
    kernel.current.faults.append(fault)
    with pytest.raises(NetlinkTimeout):
        _dump(connection)
    # Late messages are not taken for the next reply.
    assert _dump(connection) == _cookies(kernel)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EPERM, errno.EINVAL])
def test_errno_in_done_is_an_error(kernel: FakeKernel, connection: Connection, code: int) -> None:
    kernel.current.faults.append(faults.done_with(code))
    with pytest.raises(NetlinkError) as caught:
        _dump(connection)
    assert (caught.value.operation, caught.value.errno) == ("list", code)


@pytest.mark.parametrize("size", [0, 1, 15, 17, 100, 200])
def test_truncated_datagram_is_malformed(
    kernel: FakeKernel, connection: Connection, size: int
) -> None:
    kernel.current.faults.append(faults.cut(size))
    with pytest.raises(MalformedMessage):
        _dump(connection)


def test_datagram_longer_than_buffer_is_malformed(
    kernel: FakeKernel, connection: Connection
) -> None:
    kernel.current.faults.append(faults.padded(1 << 20))
    with pytest.raises(MalformedMessage):
        _dump(connection)


def test_overrun_message_repeats_dump() -> None:
    kernel = _populated(3)
    kernel.current.faults.append(faults.raw(message(NLMSG_OVERRUN, 0, 1, _PORT, b"")))
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG), timeout=0.2)
    assert _dump(connection) == _cookies(kernel)


def test_single_message_ends_dump() -> None:
    """Without NLM_F_MULTI no message follows, not even NLMSG_DONE."""
    kernel = FakeKernel()
    kernel.current.faults.append(faults.raw(message(_BY_FAMILY, 0, 1, _PORT, bytes(72))))
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG), timeout=0.2)
    assert _dump(connection) == [0]


def test_receive_error_is_netlink_error(kernel: FakeKernel, connection: Connection) -> None:
    kernel.current.faults.append(faults.failing(errno.EIO, at=1))
    with pytest.raises(NetlinkError) as caught:
        _dump(connection)
    assert caught.value.errno == errno.EIO


class _Endless:
    """A socket that endlessly receives messages for other ports."""

    def getsockname(self) -> tuple[int, int]:
        return 1, 0

    def settimeout(self, value: float | None) -> None:
        assert value is not None

    def send(self, data: bytes) -> int:
        return len(data)

    def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0) -> int:
        assert (nbytes, len(buffer) > 0) == (0, True)
        assert isinstance(flags, int)
        foreign = message(_BY_FAMILY, 2, 0xDEAD, 2, bytes(72))
        buffer[: len(foreign)] = foreign
        return len(foreign)

    def close(self) -> None: ...


def test_endless_foreign_messages_time_out() -> None:
    connection = Connection(_Endless(), timeout=0.05)
    started = time.monotonic()
    with pytest.raises(NetlinkTimeout):
        _dump(connection)
    with pytest.raises(NetlinkTimeout):
        connection.execute("destroy", _DESTROY, [_REQUEST])
    assert time.monotonic() - started < 2


_WORDS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        message,
        st.sampled_from([0, 1, NLMSG_ERROR, NLMSG_DONE, 4, _BY_FAMILY, 0xFFFF]),
        st.one_of(st.sampled_from([0, 2]), st.integers(0, 0xFFFF)),
        st.sampled_from([1, 1, 2, 3, 0]),
        st.sampled_from([_PORT, _PORT, _PORT, 0, 4243]),
        st.binary(max_size=90),
    ),
)
_DATAGRAMS = st.lists(st.lists(_WORDS, max_size=4).map(b"".join), max_size=5)


# The first attempt is interrupted by its own message. The second datagram, left over, has the
# sequence number of the second attempt.
_LEFTOVER = [
    message(_BY_FAMILY, 0, 2, _PORT, b"first") + message(_BY_FAMILY, 0x10, 1, _PORT, b""),
    message(_BY_FAMILY, 0, 2, _PORT, b"left over"),
]


@settings(max_examples=500, deadline=None)
@given(_DATAGRAMS)
@example(_LEFTOVER)
def test_dump_of_any_bytes(datagrams: list[bytes]) -> None:
    """All items came with the dump's sequence number and port, or a typed error is raised."""
    kernel = FakeKernel()
    for _attempt in range(5):
        kernel.current.faults.append(faults.raw(*datagrams))
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG), timeout=0.2)
    try:
        found = connection.dump("list", _BY_FAMILY, _REQUEST, _body)
    except SocketsError:
        return
    # The items are consecutive messages of one of the five attempts; which one is unknown.
    for attempt in range(1, 6):
        bodies = [
            body
            for datagram in datagrams * attempt
            for kind, sequence, port, body in _messages(datagram)
            if kind >= 16 and sequence == attempt and port == _PORT
        ]
        if any(found == bodies[start : start + len(found)] for start in range(len(bodies) + 1)):
            return
    pytest.fail(f"not the messages of any attempt: {found}")


def _messages(datagram: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    offset = 0
    while offset + 16 <= len(datagram):
        length, kind, _flags, sequence, port = struct.unpack_from("=IHHII", datagram, offset)
        if length < 16:
            break
        found.append((kind, sequence, port, datagram[offset + 16 : offset + length]))
        offset += (length + 3) & ~3
    return found


@settings(max_examples=300, deadline=None)
@given(_DATAGRAMS, st.integers(1, 3))
def test_execute_with_any_reply_bytes(datagrams: list[bytes], count: int) -> None:
    kernel = FakeKernel()
    kernel.current.faults.append(faults.raw(*datagrams))
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG), timeout=0.2)
    try:
        results = connection.execute("destroy", _DESTROY, [_REQUEST] * count)
    except SocketsError:
        return
    assert len(results) == count
    reported = {
        (sequence, -struct.unpack_from("=i", body)[0])
        for datagram in datagrams
        for kind, sequence, port, body in _messages(datagram)
        if kind == NLMSG_ERROR and port == _PORT and len(body) >= 4
    }
    for sequence, result in enumerate(results, 1):
        assert result in (0, errno.ENOBUFS) or (sequence, result) in reported
    # Success is never invented: the last request's acknowledgement came, or a result is ENOBUFS.
    assert any(sequence == count for sequence, _result in reported) or errno.ENOBUFS in results


def _destroy_requests(kernel: FakeKernel, wrong: set[int]) -> list[bytes]:
    requests = []
    for number, sock in enumerate(kernel.current.sockets):
        cookie = sock.cookie ^ (1 << 40 if number in wrong else 0)
        requests.append(
            struct.pack("=BBBBI", sock.family, sock.protocol, 0, 0, 0)
            + struct.pack("!HH", sock.local_port, sock.remote_port)
            + sock.src.ljust(16, b"\0")
            + sock.dst.ljust(16, b"\0")
            + struct.pack("=III", 0, cookie & 0xFFFFFFFF, cookie >> 32)
        )
    return requests


def _populated(count: int) -> FakeKernel:
    kernel = FakeKernel()
    for port in range(count):
        kernel.current.add(
            FakeSocket(local="192.0.2.1", local_port=port + 1, remote="192.0.2.2", remote_port=9)
        )
    return kernel


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.data())
def test_replies_match_their_requests(count: int, data: st.DataObject) -> None:
    kernel = _populated(count)
    wrong = data.draw(st.sets(st.integers(0, count - 1), max_size=count))
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG))

    results = connection.execute("destroy", _DESTROY, _destroy_requests(kernel, wrong))

    assert results == [errno.ENOENT if number in wrong else 0 for number in range(count)]
    assert len(kernel.current.sockets) == len(wrong)


def test_full_batch_of_errors_fits_receive_buffer() -> None:
    """An error quotes its request; the receive buffer has the default size."""
    kernel = _populated(1000)
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG))
    requests = _destroy_requests(kernel, set(range(1000)))
    assert connection.execute("destroy", _DESTROY, requests) == [errno.ENOENT] * 1000
    assert kernel.opened[0].sends == -(-1000 // transport.BATCH)


def test_lost_replies_are_not_success() -> None:
    kernel = _populated(10)
    kernel.current.faults.append(faults.overrun(kept=3))
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG))
    requests = _destroy_requests(kernel, {0, 1, 2, 7})
    results = connection.execute("destroy", _DESTROY, requests)
    assert set(results) <= {errno.ENOENT, errno.ENOBUFS}
    assert results[3:] == [errno.ENOBUFS] * 7
    # Leftover replies do not affect the next operation.
    again = connection.execute("destroy", _DESTROY, _destroy_requests(kernel, set()))
    assert again == [0] * 4


def test_batch_without_replies_times_out() -> None:
    kernel = _populated(3)
    kernel.current.faults.append(faults.lost())
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG), timeout=0.1)
    with pytest.raises(NetlinkTimeout):
        connection.execute("destroy", _DESTROY, _destroy_requests(kernel, set()))


def test_empty_batch_sends_nothing() -> None:
    kernel = FakeKernel()
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG))
    assert connection.execute("destroy", _DESTROY, []) == []
    assert kernel.opened[0].sends == 0


def test_close_closes_the_socket() -> None:
    kernel = FakeKernel()
    Connection(kernel.open("current", NETLINK_SOCK_DIAG)).close()
    assert kernel.opened[0].closed
