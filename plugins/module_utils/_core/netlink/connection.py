# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the netlink transport: dumps and batches of requests.

Headers and flags are those of include/uapi/linux/netlink.h; how a dump ends and fails is that of
net/netlink/af_netlink.c (netlink_dump).
"""

from __future__ import annotations

import errno
import gc
import itertools
import socket
import struct
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional, Protocol, TypeVar

from ..errors import DumpInterrupted, MalformedMessage, NetlinkError, NetlinkTimeout

NETLINK_ROUTE = 0
NETLINK_SOCK_DIAG = 4

# include/linux/socket.h and include/uapi/linux/netlink.h
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSG_OVERRUN = 4
_NLMSG_MIN_TYPE = 16
_NLM_F_REQUEST = 0x1
_NLM_F_MULTI = 0x2
_NLM_F_ACK = 0x4
_NLM_F_DUMP_INTR = 0x10
_NLM_F_DUMP = 0x300

_HEADER = struct.Struct("=IHHII")
_ERRNO = struct.Struct("=i")

# The kernel fills at most 32 KiB per datagram of a dump (netlink_dump); an acknowledgement that
# quotes its request is far smaller.
_RECEIVE_BUFFER = 64 * 1024
_SOCKET_BUFFER = 4 * 1024 * 1024
_DUMP_ATTEMPTS = 5

# Requests a send. 128 quoted errors fit the default receive buffer even where it cannot be raised.
BATCH = 128
# Requests a send that each have an answer of their own, in a buffer of a page or more: those lost
# are asked for again in smaller parts.
_QUERY_BATCHES = (64, 16, 4)

T = TypeVar("T")
Decode = Callable[[bytes, int, int], Optional[T]]
DecodeRun = Callable[[bytes, int], list[T]]


class NetlinkSocket(Protocol):
    """What the transport asks of a socket; socket.socket has it, and so has a fake kernel's."""

    def send(self, data: bytes, /) -> int: ...

    def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0, /) -> int: ...

    def getsockname(self) -> Any: ...

    def settimeout(self, value: float | None, /) -> None: ...

    def close(self) -> None: ...


def open_netlink(
    protocol: int, *, groups: Sequence[int] = (), receive_buffer: int = _SOCKET_BUFFER
) -> socket.socket:
    """Open a netlink socket in the caller's network namespace.

    protocol: NETLINK_*. groups: the multicast groups to join. receive_buffer: bytes (SO_RCVBUF).
    Raises OSError.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((0, 0))
        for group in groups:
            sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def collector_paused() -> Iterator[None]:
    """For making many objects and no cycles: collecting in between would take as long again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Overrun(Exception):
    """Answers were lost (ENOBUFS, NLMSG_OVERRUN)."""


class Connection:
    """One netlink socket, used for one question at a time.

    An answer is whole or an error: what was lost, cut off or interrupted is never passed for less.
    """

    def __init__(self, sock: NetlinkSocket, *, timeout: float = 10.0) -> None:
        self._sock = sock
        self._timeout = timeout
        self._port = int(sock.getsockname()[0])
        self._sequence = itertools.count(1)
        self._buffer = bytearray(_RECEIVE_BUFFER)
        self._view = memoryview(self._buffer)

    def close(self) -> None:
        self._sock.close()

    def dump(
        self,
        operation: str,
        kind: int,
        payload: bytes,
        decode: Decode[T],
        decode_run: DecodeRun[T] | None = None,
    ) -> list[T]:
        """Ask for a dump; decode(datagram, offset, end) is called for each message's payload, and
        what it makes is kept unless it is None.

        decode_run(datagram, size), where there is one, is called instead for a datagram that holds
        nothing but data messages of one size, headers included; it gives what is kept of them.

        Begins anew where the kernel says that its tables changed meanwhile or that it lost
        messages. Raises NetlinkError (also for an error in the payload of NLMSG_DONE, where
        pyroute2 and iproute2 before 4.20 saw an empty list), NetlinkTimeout, DumpInterrupted and
        MalformedMessage; what decode raises passes through.
        """
        with collector_paused():
            return self._dump(operation, kind, payload, decode, decode_run)

    def _dump(
        self,
        operation: str,
        kind: int,
        payload: bytes,
        decode: Decode[T],
        decode_run: DecodeRun[T] | None,
    ) -> list[T]:
        for _attempt in range(_DUMP_ATTEMPTS):
            sequence = next(self._sequence)
            self._send(
                operation,
                _HEADER.pack(
                    len(payload) + 16, kind, _NLM_F_REQUEST | _NLM_F_DUMP, sequence, self._port
                )
                + payload,
            )
            try:
                found = self._collect(operation, sequence, decode, decode_run)
            except _Overrun:
                self._drain()
                continue
            if found is not None:
                return found
        raise DumpInterrupted(operation, _DUMP_ATTEMPTS)

    def _collect(
        self,
        operation: str,
        sequence: int,
        decode: Decode[T],
        decode_run: DecodeRun[T] | None,
    ) -> list[T] | None:
        """The dump's messages, or None where it was interrupted."""
        found: list[T] = []
        append = found.append
        interrupted = False
        deadline = time.monotonic() + self._timeout
        while True:
            datagram = self._receive(operation, deadline)
            alike = self._alike(datagram, sequence) if decode_run is not None else 0
            if decode_run is not None and alike:
                found += decode_run(datagram, alike)
                continue
            for what, flags, answered, offset, end in self._messages(datagram):
                if answered != sequence:
                    continue
                if flags & _NLM_F_DUMP_INTR:
                    interrupted = True
                if what >= _NLMSG_MIN_TYPE:
                    item = decode(datagram, offset, end)
                    if item is not None:
                        append(item)
                    if not flags & _NLM_F_MULTI:
                        return None if interrupted else found
                elif what == _NLMSG_DONE:
                    failure = _errno_of(datagram, offset, end) if end > offset else 0
                    if failure and failure != errno.EINTR:
                        raise NetlinkError(operation, failure)
                    return None if interrupted or failure else found
                elif what == _NLMSG_ERROR:
                    failure = _errno_of(datagram, offset, end)
                    if failure:
                        raise NetlinkError(operation, failure)
                elif what == _NLMSG_OVERRUN:
                    raise _Overrun

    def _alike(self, datagram: bytes, sequence: int) -> int:
        """The size of a dump's messages where a datagram holds nothing else, and all are of one
        size, as those of like sockets are; else 0. Their headers are compared at one stroke."""
        if len(datagram) < _HEADER.size:
            return 0
        size, what, flags, answered, to_port = _HEADER.unpack_from(datagram)
        if (
            size <= _HEADER.size
            or size % 4
            or len(datagram) % size
            or what < _NLMSG_MIN_TYPE
            or flags != _NLM_F_MULTI
            or answered != sequence
            or to_port != self._port
        ):
            return 0
        count = len(datagram) // size
        words = memoryview(datagram).cast("I")
        for index, word in enumerate(words[: _HEADER.size // 4].tolist()):
            if words[index :: size // 4].tolist() != [word] * count:
                return 0
        return int(size)

    def execute(self, operation: str, kind: int, payloads: Sequence[bytes]) -> list[int]:
        """Send requests, many to a datagram; the errno that answers each, 0 for none.

        Only the last of a batch asks for an acknowledgement: errors come without asking, matched
        by sequence number, and the kernel works through a datagram in order. Where answers were
        lost, every request of that batch without one has ENOBUFS: what became of it is not known.
        Raises NetlinkTimeout, NetlinkError and MalformedMessage.
        """
        answers: list[int] = []
        for _size, alike in itertools.groupby(payloads, len):
            run = list(alike)
            for start in range(0, len(run), BATCH):
                answers += self._execute_batch(operation, kind, run[start : start + BATCH])
        return answers

    def _execute_batch(self, operation: str, kind: int, payloads: Sequence[bytes]) -> list[int]:
        """As execute, for payloads of one length."""
        count = len(payloads)
        data, first = self._framed(kind, payloads)
        last = first + count - 1
        flags = _NLM_F_REQUEST | _NLM_F_ACK
        start = len(data) // count * (count - 1)
        size = _HEADER.size + len(payloads[0])
        _HEADER.pack_into(data, start, size, kind, flags, last, self._port)
        self._send(operation, bytes(data))
        answers = [0] * count
        answered_at: set[int] = set()
        deadline = time.monotonic() + self._timeout
        try:
            while True:
                datagram = self._receive(operation, deadline)
                for what, _flags, answered, offset, end in self._messages(datagram):
                    if what == _NLMSG_OVERRUN:
                        raise _Overrun
                    if what != _NLMSG_ERROR or not first <= answered <= last:
                        continue
                    answers[answered - first] = _errno_of(datagram, offset, end)
                    answered_at.add(answered)
                    if answered == last:
                        return answers
        except _Overrun:
            self._drain()
            return [
                answers[index] if first + index in answered_at else errno.ENOBUFS
                for index in range(count)
            ]

    def query(
        self, operation: str, kind: int, payloads: Sequence[bytes], decode: Decode[T]
    ) -> list[T | int]:
        """Send requests that the kernel answers with one message each, many to a datagram.

        For each what decode(datagram, offset, end) made of its answer, or the errno that it was
        refused with; ENOBUFS: the answer was lost, again and again; ETIMEDOUT: none came in time,
        and nothing was asked after that; EBADMSG: decode made nothing of it. Raises NetlinkError
        where the request itself could not be sent, and MalformedMessage; what decode raises passes
        through.
        """
        answers: list[T | int] = [errno.ETIMEDOUT] * len(payloads)
        sizes = [len(payload) for payload in payloads]
        waiting = sorted(range(len(payloads)), key=sizes.__getitem__)
        with collector_paused():
            for batch in _QUERY_BATCHES:
                lost: list[int] = []
                for _size, alike in itertools.groupby(waiting, sizes.__getitem__):
                    run = list(alike)
                    for start in range(0, len(run), batch):
                        part = run[start : start + batch]
                        asked = [payloads[each] for each in part]
                        try:
                            found = self._query_batch(operation, kind, asked, decode)
                        except NetlinkTimeout:
                            return answers
                        for index, answer in zip(part, found):
                            answers[index] = errno.ENOBUFS if answer is None else answer
                        lost += [index for index, answer in zip(part, found) if answer is None]
                waiting = lost
        return answers

    def _query_batch(
        self, operation: str, kind: int, payloads: Sequence[bytes], decode: Decode[T]
    ) -> list[T | int | None]:
        """As query, for payloads of one length; None: the answer was lost.

        No acknowledgement is asked for: each request has an answer of its own. One that did not fit
        the receive buffer is refused with EAGAIN, and ENOBUFS tells of it (netlink_attachskb).
        """
        data, first = self._framed(kind, payloads)
        self._send(operation, bytes(data))
        answers: list[T | int | None] = [None] * len(payloads)
        waiting = set(range(len(payloads)))
        deadline = time.monotonic() + self._timeout
        try:
            while waiting:
                datagram = self._receive(operation, deadline)
                for what, _flags, answered, offset, end in self._messages(datagram):
                    if what == _NLMSG_OVERRUN:
                        raise _Overrun
                    index = answered - first
                    if index not in waiting:
                        continue
                    if what >= _NLMSG_MIN_TYPE:
                        made = decode(datagram, offset, end)
                        answers[index] = errno.EBADMSG if made is None else made
                    elif what == _NLMSG_ERROR:
                        failure = _errno_of(datagram, offset, end)
                        answers[index] = None if failure == errno.EAGAIN else failure
                    waiting.discard(index)
        except _Overrun:
            self._drain()
        return answers

    def _framed(self, kind: int, payloads: Sequence[bytes]) -> tuple[bytearray, int]:
        """Requests of one length in one datagram, numbered one by one, and the first number."""
        count = len(payloads)
        first = next(self._sequence)
        self._sequence = itertools.count(first + count)
        size = _HEADER.size + len(payloads[0])
        padding = b"\0" * (-size % 4)
        header = _HEADER.pack(size, kind, _NLM_F_REQUEST, 0, self._port)
        data = bytearray(header + (padding + header).join(payloads) + padding)
        # nlmsg_seq is a header's third word: those of all requests are written at one stroke.
        words = memoryview(data).cast("I")
        stride = (size + len(padding)) // 4
        words[2::stride] = memoryview(array("I", range(first, first + count)))
        return data, first

    def _messages(self, datagram: bytes) -> Iterator[tuple[int, int, int, int, int]]:
        """(type, flags, sequence, payload's offset and end) of each message for this socket."""
        unpack = _HEADER.unpack_from
        port = self._port
        size = len(datagram)
        offset = 0
        while offset + 16 <= size:
            length, what, flags, sequence, to_port = unpack(datagram, offset)
            end = offset + length
            if length < 16 or end > size:
                raise MalformedMessage(
                    "a netlink message", f"length {length} at offset {offset} of {size} bytes"
                )
            if to_port == port:
                yield what, flags, sequence, offset + 16, end
            offset = (end + 3) & ~3

    def _send(self, operation: str, data: bytes) -> None:
        try:
            self._sock.settimeout(self._timeout)
            sent = self._sock.send(data)
        except socket.timeout as error:
            raise NetlinkTimeout(operation, self._timeout) from error
        except OSError as error:
            raise NetlinkError(operation, error.errno or errno.EIO) from error
        if sent != len(data):
            raise NetlinkError(operation, errno.EMSGSIZE)

    def _receive(self, operation: str, deadline: float) -> bytes:
        """One datagram. Raises _Overrun where some were lost."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise NetlinkTimeout(operation, self._timeout)
        try:
            self._sock.settimeout(left)
            # With MSG_TRUNC the kernel tells the datagram's whole size (recv(2)).
            size = self._sock.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        except socket.timeout as error:
            raise NetlinkTimeout(operation, self._timeout) from error
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise _Overrun from error
            raise NetlinkError(operation, error.errno or errno.EIO) from error
        if size > len(self._buffer):
            raise MalformedMessage(
                "a netlink datagram", f"{size} bytes, over the buffer's {len(self._buffer)}"
            )
        if size < 16:
            raise MalformedMessage("a netlink datagram", f"{size} bytes, less than a header")
        return bytes(self._view[:size])

    def _drain(self) -> None:
        """Throw away what still waits, so that the next question begins clean."""
        self._sock.settimeout(0.0)
        for _datagram in range(100_000):
            try:
                self._sock.recv_into(self._buffer, 0, socket.MSG_TRUNC)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return


def _errno_of(datagram: bytes, offset: int, end: int) -> int:
    """The errno, as a positive number, that opens an NLMSG_ERROR or NLMSG_DONE payload."""
    if end - offset < _ERRNO.size:
        raise MalformedMessage("a netlink error", f"{end - offset} bytes, no room for an errno")
    (code,) = _ERRNO.unpack_from(datagram, offset)
    return -int(code)
