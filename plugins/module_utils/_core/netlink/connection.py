# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Netlink transport: dumps, and requests in batches.

    connection = Connection(open_netlink(NETLINK_SOCK_DIAG))
    sockets = inet_diag.dump(connection, "tcp", socket.AF_INET)

Headers and flags: include/uapi/linux/netlink.h. How a dump ends and fails: netlink_dump
(net/netlink/af_netlink.c).
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
NETLINK_NETFILTER = 12

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

# A datagram of a dump has at most 32 KiB (netlink_dump). An acknowledgement that quotes its request
# is far smaller.
_RECEIVE_BUFFER = 64 * 1024
_SOCKET_BUFFER = 4 * 1024 * 1024
_DUMP_ATTEMPTS = 5

# Requests per send. 128 errors with quoted requests fit the default receive buffer, in case it
# cannot be enlarged.
BATCH = 128
# Requests per send for queries: each has a reply of its own, in a buffer of a page or more. Lost
# replies are requested again in smaller batches.
_QUERY_BATCHES = (64, 16, 4)

T = TypeVar("T")
Decode = Callable[[bytes, int, int], Optional[T]]
DecodeRun = Callable[[bytes, int], list[T]]


class NetlinkSocket(Protocol):
    """The part of socket.socket that the transport uses. The fake kernel implements it too."""

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
    """Pause the garbage collector while many objects without cycles are created.

    Collections in between would take as long again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Overrun(Exception):
    """The kernel dropped replies (ENOBUFS, NLMSG_OVERRUN)."""


class Connection:
    """A netlink socket that performs one operation at a time.

    A result is complete, or an error is raised: lost, truncated and interrupted replies never give
    a partial result. timeout: seconds for a dump or a batch of requests.
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
        """Request a dump and decode its messages.

        operation: a phrase for errors, such as `list tcp sockets`. kind: the message type.
        decode(datagram, offset, end) decodes the payload of one message; None drops the message.
        decode_run(datagram, size), if given, decodes a datagram of data messages that all have the
        same size, headers included.

        Restarts if the kernel's tables changed during the dump (NLM_F_DUMP_INTR) or messages were
        dropped. Raises NetlinkError, NetlinkTimeout, DumpInterrupted, MalformedMessage, and
        anything that decode raises. An error in the payload of NLMSG_DONE is a NetlinkError too;
        pyroute2 and iproute2 before 4.20 return an empty list instead.
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
                items = self._collect(operation, sequence, decode, decode_run)
            except _Overrun:
                self._drain()
                continue
            if items is not None:
                return items
        raise DumpInterrupted(operation, _DUMP_ATTEMPTS)

    def _collect(
        self,
        operation: str,
        sequence: int,
        decode: Decode[T],
        decode_run: DecodeRun[T] | None,
    ) -> list[T] | None:
        """The decoded messages of one dump; None if it was interrupted."""
        items: list[T] = []
        append = items.append
        interrupted = False
        deadline = time.monotonic() + self._timeout
        while True:
            datagram = self._receive(operation, deadline)
            uniform = self._uniform_size(datagram, sequence) if decode_run is not None else 0
            if decode_run is not None and uniform:
                items += decode_run(datagram, uniform)
                continue
            for kind, flags, answered, offset, end in self._messages(datagram):
                if answered != sequence:
                    continue
                if flags & _NLM_F_DUMP_INTR:
                    interrupted = True
                if kind >= _NLMSG_MIN_TYPE:
                    item = decode(datagram, offset, end)
                    if item is not None:
                        append(item)
                    if not flags & _NLM_F_MULTI:
                        return None if interrupted else items
                elif kind == _NLMSG_DONE:
                    failure = _errno_of(datagram, offset, end) if end > offset else 0
                    if failure and failure != errno.EINTR:
                        raise NetlinkError(operation, failure)
                    return None if interrupted or failure else items
                elif kind == _NLMSG_ERROR:
                    failure = _errno_of(datagram, offset, end)
                    if failure:
                        raise NetlinkError(operation, failure)
                elif kind == _NLMSG_OVERRUN:
                    raise _Overrun

    def _uniform_size(self, datagram: bytes, sequence: int) -> int:
        """The common size of a datagram's messages; 0 if they differ or one is not a dump's.

        Dumps of similar sockets are uniform. The headers are compared without a loop per message.
        """
        if len(datagram) < _HEADER.size:
            return 0
        size, kind, flags, answered, to_port = _HEADER.unpack_from(datagram)
        if (
            size <= _HEADER.size
            or size % 4
            or len(datagram) % size
            or kind < _NLMSG_MIN_TYPE
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
        """Send requests, many per datagram. Returns the errno of each request; 0: success.

        Only the last request of a batch sets NLM_F_ACK: the kernel reports errors in any case,
        matched by sequence number, and processes a datagram in order. If replies were dropped, each
        request of that batch without a reply gets ENOBUFS: its result is unknown.
        Raises NetlinkTimeout, NetlinkError and MalformedMessage.
        """
        results: list[int] = []
        for _size, group in itertools.groupby(payloads, len):
            same_size = list(group)
            for start in range(0, len(same_size), BATCH):
                results += self._execute_batch(operation, kind, same_size[start : start + BATCH])
        return results

    def _execute_batch(self, operation: str, kind: int, payloads: Sequence[bytes]) -> list[int]:
        """Like execute, for payloads of one length."""
        count = len(payloads)
        data, first = self._framed(kind, payloads)
        last = first + count - 1
        flags = _NLM_F_REQUEST | _NLM_F_ACK
        start = len(data) // count * (count - 1)
        size = _HEADER.size + len(payloads[0])
        _HEADER.pack_into(data, start, size, kind, flags, last, self._port)
        self._send(operation, bytes(data))
        results = [0] * count
        replied: set[int] = set()
        deadline = time.monotonic() + self._timeout
        try:
            while True:
                datagram = self._receive(operation, deadline)
                for message, _flags, answered, offset, end in self._messages(datagram):
                    if message == _NLMSG_OVERRUN:
                        raise _Overrun
                    if message != _NLMSG_ERROR or not first <= answered <= last:
                        continue
                    results[answered - first] = _errno_of(datagram, offset, end)
                    replied.add(answered)
                    if answered == last:
                        return results
        except _Overrun:
            self._drain()
            return [
                results[index] if first + index in replied else errno.ENOBUFS
                for index in range(count)
            ]

    def query(
        self, operation: str, kind: int, payloads: Sequence[bytes], decode: Decode[T]
    ) -> list[T | int]:
        """Send requests that each get one reply message, many per datagram.

        Returns for each request what decode(datagram, offset, end) returned for its reply, or an
        errno: the kernel's; ENOBUFS if the reply was lost in every attempt; ETIMEDOUT if no reply
        came in time, also for all later requests, which are not sent; EBADMSG if decode returned
        None. Raises NetlinkError if a request could not be sent, MalformedMessage, and anything
        that decode raises.
        """
        results: list[T | int] = [errno.ETIMEDOUT] * len(payloads)
        sizes = [len(payload) for payload in payloads]
        pending = sorted(range(len(payloads)), key=sizes.__getitem__)
        with collector_paused():
            for batch in _QUERY_BATCHES:
                lost: list[int] = []
                for _size, group in itertools.groupby(pending, sizes.__getitem__):
                    same_size = list(group)
                    for start in range(0, len(same_size), batch):
                        part = same_size[start : start + batch]
                        requests = [payloads[index] for index in part]
                        try:
                            replies = self._query_batch(operation, kind, requests, decode)
                        except NetlinkTimeout:
                            return results
                        for index, reply in zip(part, replies):
                            results[index] = errno.ENOBUFS if reply is None else reply
                        lost += [index for index, reply in zip(part, replies) if reply is None]
                pending = lost
        return results

    def _query_batch(
        self, operation: str, kind: int, payloads: Sequence[bytes], decode: Decode[T]
    ) -> list[T | int | None]:
        """Like query, for payloads of one length; None: the reply was lost.

        NLM_F_ACK is not set: each request has a reply of its own. If a reply does not fit the
        receive buffer, the kernel reports EAGAIN for the request and ENOBUFS on the socket
        (netlink_attachskb).
        """
        data, first = self._framed(kind, payloads)
        self._send(operation, bytes(data))
        replies: list[T | int | None] = [None] * len(payloads)
        pending = set(range(len(payloads)))
        deadline = time.monotonic() + self._timeout
        try:
            while pending:
                datagram = self._receive(operation, deadline)
                for message, _flags, answered, offset, end in self._messages(datagram):
                    if message == _NLMSG_OVERRUN:
                        raise _Overrun
                    index = answered - first
                    if index not in pending:
                        continue
                    if message >= _NLMSG_MIN_TYPE:
                        decoded = decode(datagram, offset, end)
                        replies[index] = errno.EBADMSG if decoded is None else decoded
                    elif message == _NLMSG_ERROR:
                        failure = _errno_of(datagram, offset, end)
                        replies[index] = None if failure == errno.EAGAIN else failure
                    pending.discard(index)
        except _Overrun:
            self._drain()
        return replies

    def _framed(self, kind: int, payloads: Sequence[bytes]) -> tuple[bytearray, int]:
        """Frame requests of one length into one datagram.

        Returns it and the sequence number of the first request; the others follow.
        """
        count = len(payloads)
        first = next(self._sequence)
        self._sequence = itertools.count(first + count)
        size = _HEADER.size + len(payloads[0])
        padding = b"\0" * (-size % 4)
        header = _HEADER.pack(size, kind, _NLM_F_REQUEST, 0, self._port)
        data = bytearray(header + (padding + header).join(payloads) + padding)
        # nlmsg_seq is the third word of a header. One assignment writes that of all requests.
        words = memoryview(data).cast("I")
        stride = (size + len(padding)) // 4
        words[2::stride] = memoryview(array("I", range(first, first + count)))
        return data, first

    def _messages(self, datagram: bytes) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield (type, flags, sequence, payload start, payload end) of messages for this port."""
        unpack = _HEADER.unpack_from
        port = self._port
        size = len(datagram)
        offset = 0
        while offset + 16 <= size:
            length, kind, flags, sequence, to_port = unpack(datagram, offset)
            end = offset + length
            if length < 16 or end > size:
                raise MalformedMessage(
                    "a netlink message", f"length {length} at offset {offset} of {size} bytes"
                )
            if to_port == port:
                yield kind, flags, sequence, offset + 16, end
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
        """Receive one datagram. Raises _Overrun if the kernel dropped some."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise NetlinkTimeout(operation, self._timeout)
        try:
            self._sock.settimeout(remaining)
            # With MSG_TRUNC the result is the full size of the datagram (recv(2)).
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
        """Discard all queued datagrams before the next operation."""
        self._sock.settimeout(0.0)
        for _datagram in range(100_000):
            try:
                self._sock.recv_into(self._buffer, 0, socket.MSG_TRUNC)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return


def _errno_of(datagram: bytes, offset: int, end: int) -> int:
    """The errno, as a positive number, at the start of an NLMSG_ERROR or NLMSG_DONE payload."""
    if end - offset < _ERRNO.size:
        raise MalformedMessage("a netlink error", f"{end - offset} bytes, no room for an errno")
    (code,) = _ERRNO.unpack_from(datagram, offset)
    return -int(code)
