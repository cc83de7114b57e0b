# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A netlink socket of the fake kernel: framing, acknowledgements, dumps in parts, timeouts.

It follows net/netlink/af_netlink.c (netlink_rcv_skb, netlink_ack, netlink_dump). Nothing blocks: a
receive without a reply times out at once. Without a timeout it fails the test.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence

from . import routing, rtnetlink, sock_diag
from .model import Abilities, FakeNamespace, Item

NETLINK_ROUTE = 0
NETLINK_SOCK_DIAG = 4

HEADER = struct.Struct("=IHHII")
NLMSG_ERROR = 2
NLMSG_DONE = 3
F_REQUEST, F_MULTI, F_ACK, F_DUMP_INTR, F_CAPPED = 0x1, 0x2, 0x4, 0x10, 0x100
F_DUMP = 0x300

_FIRST_PART = 3776  # NLMSG_GOODSIZE with pages of 4 KiB
_MAX_PART = 32768 - 320
_ACK_TRUESIZE = 768
_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10


def message(kind: int, flags: int, sequence: int, port: int, payload: bytes) -> bytes:
    """Encode one netlink message, padded."""
    header = HEADER.pack(len(payload) + 16, kind, flags, sequence, port)
    return header + payload + bytes(-len(payload) % 4)


class FakeNetlinkSocket:
    """A stand-in for socket.socket(AF_NETLINK, SOCK_RAW, protocol) in a fake namespace."""

    def __init__(
        self, namespace: FakeNamespace, abilities: Abilities, protocol: int, port: int
    ) -> None:
        self._namespace = namespace
        self._abilities = abilities
        self._protocol = protocol
        self._port = port
        self._queue: deque[Item] = deque()
        self._timeout: float | None = None
        self._capped = False
        self.closed = False
        self.sends = 0

    def getsockname(self) -> tuple[int, int]:
        return self._port, 0

    def settimeout(self, value: float | None) -> None:
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if (level, option) == (_SOL_NETLINK, _NETLINK_CAP_ACK):
            self._capped = bool(value)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.closed = True
        self._queue.clear()

    def __enter__(self) -> FakeNetlinkSocket:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def send(self, data: bytes) -> int:
        """Process a datagram of requests, and queue the replies."""
        self._check_open()
        self.sends += 1
        replies: list[Item] = []
        offset = 0
        while len(data) - offset >= 16:
            length, kind, bits, sequence, _port = HEADER.unpack_from(data, offset)
            if length < 16 or length > len(data) - offset:
                break
            if bits & F_REQUEST and kind >= 16:
                request = bytes(data[offset : offset + length])
                replies += self._reply(request, kind, bits, sequence)
            offset += (length + 3) & ~3
        replies = self._fitting(replies)
        if self._namespace.faults and replies:
            replies = self._namespace.faults.popleft()(replies)
        self._queue.extend(replies)
        return len(data)

    def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0) -> int:
        """Receive one datagram, cut to the buffer. MSG_TRUNC: return its full size."""
        self._check_open()
        if not self._queue:
            self._would_block(flags)
        item = self._queue[0] if flags & socket.MSG_PEEK else self._queue.popleft()
        if isinstance(item, OSError):
            if flags & socket.MSG_PEEK:
                self._queue.popleft()
            raise item
        room = min(nbytes or len(buffer), len(buffer))
        part = item[:room]
        memoryview(buffer)[: len(part)] = part
        return len(item) if flags & socket.MSG_TRUNC else len(part)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        buffer = bytearray(bufsize)
        return bytes(buffer[: self.recv_into(buffer, 0, flags & ~socket.MSG_TRUNC)])

    def _would_block(self, flags: int) -> None:
        if self._timeout is None and not flags & socket.MSG_DONTWAIT:
            raise AssertionError("this receive would block forever: no reply is queued")
        if self._timeout == 0 or flags & socket.MSG_DONTWAIT:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        raise socket.timeout("timed out")

    def _check_open(self) -> None:
        if self.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _reply(self, request: bytes, kind: int, flags: int, sequence: int) -> list[Item]:
        payload = request[16:]
        self._namespace.requests.append((kind, payload))
        if self._namespace.before_request is not None:
            self._namespace.before_request(kind, payload)
        try:
            if self._protocol == NETLINK_SOCK_DIAG:
                reply = self._sock_diag(kind, flags, sequence, payload)
            elif self._protocol == NETLINK_ROUTE:
                reply = self._route(kind, flags, sequence, payload)
            else:
                raise sock_diag.RequestError(errno.EOPNOTSUPP)
        except sock_diag.RequestError as error:
            return [self._acknowledge(request, sequence, error.code)]
        if flags & F_ACK and not flags & F_DUMP:
            reply.append(self._acknowledge(request, sequence, 0))
        return reply

    def _sock_diag(self, kind: int, flags: int, sequence: int, payload: bytes) -> list[Item]:
        if kind == sock_diag.DESTROY:
            sock_diag.destroy(self._namespace, self._abilities, payload)
            return []
        if kind == sock_diag.GETSOCK and flags & F_DUMP:
            if not self._abilities.supports_legacy_dump:
                raise sock_diag.RequestError(errno.EOPNOTSUPP)
            payload = sock_diag.legacy_request(payload)
        elif kind != sock_diag.BY_FAMILY:
            raise sock_diag.RequestError(errno.EINVAL)
        if not flags & F_DUMP:
            found = sock_diag.one(self._namespace, self._abilities, payload)
            return [message(sock_diag.BY_FAMILY, 0, sequence, self._port, found)]
        try:
            payloads = sock_diag.dump(
                self._namespace, self._abilities, payload, both=kind == sock_diag.GETSOCK
            )
        except sock_diag.DumpError as failure:
            return [self._done(sequence, failure.code)]
        parts = self._parts(kind, sequence, payloads)
        # inet_diag_dump returns the number of bytes, so NLMSG_DONE follows in its own datagram.
        return [*parts, self._done(sequence, 0)]

    def _route(self, kind: int, flags: int, sequence: int, payload: bytes) -> list[Item]:
        if kind == rtnetlink.GETROUTE and not flags & F_DUMP:
            try:
                found = rtnetlink.route_get(self._namespace, payload)
            except routing.Refused as error:
                raise sock_diag.RequestError(error.code) from error
            return [message(rtnetlink.NEWROUTE, 0, sequence, self._port, found)]
        dumped = rtnetlink.dump(self._namespace, kind, payload) if flags & F_DUMP else None
        if dumped is None:
            raise sock_diag.RequestError(errno.EOPNOTSUPP)
        parts = self._parts(dumped[0], sequence, dumped[1])
        done = self._done(sequence, 0)
        return [*parts[:-1], parts[-1] + done] if parts else [done]

    def _parts(self, kind: int, sequence: int, payloads: Sequence[bytes]) -> list[bytes]:
        """Pack messages into datagrams as netlink_dump does."""
        parts: list[bytes] = []
        room = 0
        for payload in payloads:
            encoded = message(kind, F_MULTI, sequence, self._port, payload)
            if not parts or len(encoded) > room:
                room = _MAX_PART if parts else _FIRST_PART
                parts.append(b"")
            parts[-1] += encoded
            room -= len(encoded)
        return parts

    def _done(self, sequence: int, code: int) -> bytes:
        return message(NLMSG_DONE, F_MULTI, sequence, self._port, struct.pack("=i", -code))

    def _acknowledge(self, request: bytes, sequence: int, code: int) -> bytes:
        """An error quotes the request, unless NETLINK_CAP_ACK is set; success quotes its header."""
        quoted = code and not self._capped
        payload = struct.pack("=i", -code) + (request if quoted else request[:16])
        return message(NLMSG_ERROR, 0 if quoted else F_CAPPED, sequence, self._port, payload)

    def _fitting(self, replies: list[Item]) -> list[Item]:
        """Drop acknowledgements beyond the receive buffer, and report ENOBUFS."""
        room = self._abilities.receive_buffer // _ACK_TRUESIZE
        errors = [item for item in replies if _is_error(item)]
        if len(errors) <= room:
            return replies
        lost = {id(item) for item in errors[room:]}
        kept = [item for item in replies if id(item) not in lost]
        return [OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)), *kept]


def _is_error(item: Item) -> bool:
    return isinstance(item, bytes) and HEADER.unpack_from(item)[1] == NLMSG_ERROR
