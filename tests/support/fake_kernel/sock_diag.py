# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NETLINK_SOCK_DIAG of the fake kernel: dumps, look-ups and SOCK_DESTROY.

It follows net/core/sock_diag.c, net/ipv4/inet_diag.c, tcp_diag.c, udp_diag.c, raw_diag.c, tcp.c
(tcp_abort), udp.c (udp_abort) and net/mptcp/mptcp_diag.c.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

from . import bytecode, lookup, model, records
from .model import Abilities, FakeNamespace, FakeSocket

GETSOCK = 18
BY_FAMILY = 20
DESTROY = 21
_REQUEST = struct.Struct("=BBBBI")
_REQUEST_LENGTH = 56
# struct inet_diag_req of the legacy message, and the offset of idiag_states in it.
_LEGACY_LENGTH = 60
_LEGACY_STATES = 52
_REQ_BYTECODE = 1
_REQ_PROTOCOL = 3
_NOCOOKIE = 0xFFFFFFFF_FFFFFFFF
_MAX_FAMILY = 46
_MAX_PROTOCOL = 263


class RequestError(Exception):
    """The kernel rejects the request with an errno."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Request:
    """A struct inet_diag_req_v2 with its attributes. Raises RequestError."""

    def __init__(self, payload: bytes, abilities: Abilities, *, both: bool = False) -> None:
        if len(payload) < 2:
            raise RequestError(errno.EINVAL)
        self.family = payload[0]
        if self.family >= _MAX_FAMILY:
            raise RequestError(errno.EINVAL)
        if self.family not in (socket.AF_INET, socket.AF_INET6) and not both:
            raise RequestError(errno.ENOENT)
        if len(payload) < _REQUEST_LENGTH:
            raise RequestError(errno.EINVAL)
        _family, self.protocol, self.extensions, self.pad, self.states = _REQUEST.unpack_from(
            payload
        )
        sport, dport, src, dst = struct.unpack_from("!HH16s16s", payload, 8)
        ifindex, low, high = struct.unpack_from("=III", payload, 44)
        self.cookie = high << 32 | low
        size = 4 if self.family == socket.AF_INET else 16
        self.tuple = lookup.Tuple(self.family, src[:size], sport, dst[:size], dport, ifindex)
        self.bytecode: bytes | None = None
        for kind, value in _attributes(payload[_REQUEST_LENGTH:]):
            if kind == _REQ_BYTECODE:
                self.bytecode = value
            elif kind == _REQ_PROTOCOL and abilities.protocol_attribute:
                if len(value) != 4:
                    raise RequestError(errno.EINVAL)
                (self.protocol,) = struct.unpack("=I", value)
        self.handled = self.protocol < _MAX_PROTOCOL and self.protocol in abilities.handlers


def legacy_request(payload: bytes) -> bytes:
    """inet_diag_dump_compat: convert a TCPDIAG_GETSOCK into a request of AF_UNSPEC."""
    if len(payload) < _LEGACY_LENGTH:
        raise RequestError(errno.EINVAL)
    (states,) = struct.unpack_from("=I", payload, _LEGACY_STATES)
    head = _REQUEST.pack(socket.AF_UNSPEC, socket.IPPROTO_TCP, payload[3], 0, states)
    return head + payload[4:_LEGACY_STATES] + payload[_LEGACY_LENGTH:]


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """nla_for_each_attr: stops without an error at an attribute that does not fit."""
    offset = 0
    while offset + 4 <= len(raw):
        length, kind = struct.unpack_from("=HH", raw, offset)
        if length < 4 or offset + length > len(raw):
            return
        yield kind & 0x3FFF, raw[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def dump(
    namespace: FakeNamespace, abilities: Abilities, payload: bytes, *, both: bool = False
) -> list[bytes]:
    """Return the payloads of a dump. Raises RequestError before it starts, DumpError at its end.

    both: accept a payload of legacy_request, for both families.
    """
    request = Request(payload, abilities, both=both)
    if request.bytecode is not None:
        code = bytecode.audit(
            request.bytecode, privileged=abilities.privileged, unknown=abilities.unknown_ops
        )
        if code:
            raise RequestError(code)
    if not request.handled:
        raise DumpError(errno.ENOENT)
    return [
        records.encode(sock, abilities, request.extensions)
        for sock in namespace.sockets
        if _in_dump(sock, request, abilities)
    ]


class DumpError(Exception):
    """The dump started; its NLMSG_DONE carries the errno."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _in_dump(sock: FakeSocket, request: Request, abilities: Abilities) -> bool:
    if sock.protocol != request.protocol or request.family not in (socket.AF_UNSPEC, sock.family):
        return False
    if sock.state == model.BOUND_INACTIVE and not abilities.reports_bound_inactive:
        return False
    states = request.states
    if states & 1 << model.SYN_RECV:
        states |= 1 << model.NEW_SYN_RECV
    # raw_diag_dump ignores the states.
    if sock.protocol != model.RAW and not states & 1 << sock.state:
        return False
    key = request.tuple
    if key.local_port not in (0, sock.local_port):
        return False
    if key.remote_port and (key.remote_port != sock.remote_port or sock.state == model.LISTEN):
        return False
    return request.bytecode is None or bytecode.run(request.bytecode, _entry(sock))


def _entry(sock: FakeSocket) -> bytecode.Entry:
    full = sock.state not in (model.TIME_WAIT, model.NEW_SYN_RECV)
    return bytecode.Entry(
        family=sock.family,
        src=sock.src.ljust(16, b"\0"),
        dst=sock.dst.ljust(16, b"\0"),
        sport=sock.local_port,
        dport=sock.remote_port,
        # A mini socket has no userlocks, so its port counts as chosen by the kernel.
        autobound=not sock.explicit_port or not full,
        ifindex=sock.ifindex,
        mark=0 if sock.state == model.TIME_WAIT else sock.mark or 0,
        cgroup=(sock.cgroup_id or 0) if full else 0,
    )


def one(namespace: FakeNamespace, abilities: Abilities, payload: bytes) -> bytes:
    """Return the payload of the reply to an exact look-up. Raises RequestError."""
    request = Request(payload, abilities)
    found = _find(namespace, request, exact_dump=True)
    return records.encode(found, abilities, request.extensions)


def destroy(namespace: FakeNamespace, abilities: Abilities, payload: bytes) -> None:
    """Abort the socket that the request selects. Raises RequestError."""
    request = Request(payload, abilities)
    if not request.handled:
        raise RequestError(errno.ENOENT)
    if not abilities.destroys or request.protocol == model.MPTCP:
        raise RequestError(errno.EOPNOTSUPP)
    sock = _find(namespace, request)
    if not abilities.privileged:
        raise RequestError(errno.EPERM)
    if request.protocol == model.UDPLITE:
        # A handler, but no diag_destroy in udplite_prot.
        raise RequestError(errno.EOPNOTSUPP)
    if sock.errno:
        raise RequestError(sock.errno)
    if not abilities.destroys_time_wait and is_time_wait(sock):
        raise RequestError(errno.EOPNOTSUPP)
    if sock.immortal:
        return
    abort(namespace, sock)


def is_time_wait(sock: FakeSocket) -> bool:
    """True also for FIN_WAIT_2 with the timer of TIME_WAIT (inet_twsk_diag_fill)."""
    return sock.state == model.TIME_WAIT or sock.timer == 3


def _find(namespace: FakeNamespace, request: Request, *, exact_dump: bool = False) -> FakeSocket:
    if not request.handled:
        raise RequestError(errno.ENOENT)
    key = request.tuple
    stale = errno.ENOENT
    if request.protocol == model.TCP:
        found = lookup.find_tcp(namespace.sockets, key)
    elif request.protocol == model.MPTCP:
        # mptcp_diag_dump_one takes the lower half of the cookie for the token.
        found = None
    elif request.protocol == model.RAW:
        found = lookup.find_raw(namespace.sockets, request.pad, key)
        if found is not None:
            return found
    else:
        if exact_dump:
            # udp_dump_one takes src for the source of a packet, which is the socket's remote end.
            stale = errno.ESTALE
            key = lookup.Tuple(
                key.family,
                key.remote,
                key.remote_port,
                key.local,
                key.local_port,
                key.ifindex,
            )
        found = lookup.find_udp(namespace.sockets, request.protocol, key)
    if found is None:
        raise RequestError(errno.ENOENT)
    if request.cookie not in (_NOCOOKIE, found.cookie):
        raise RequestError(stale)
    return found


def abort(namespace: FakeNamespace, sock: FakeSocket) -> None:
    """tcp_abort; udp_abort and raw_abort, which disconnect (__udp_disconnect)."""
    sock.errors.append(errno.ECONNABORTED)
    namespace.destroyed.append(sock.cookie)
    if sock.protocol == model.TCP and sock.explicit_port and sock.inode:
        # tcp_set_state keeps a port bound by the application until it closes the descriptor.
        sock.state = model.BOUND_INACTIVE
    elif sock.protocol in (model.TCP, model.RAW) or not sock.explicit_port:
        namespace.remove(sock)
    else:
        # sk_v6_daddr keeps its value.
        if sock.family == socket.AF_INET:
            sock.dst = bytes(4)
            sock.remote = None
        sock.remote_port = 0
        sock.state = model.CLOSE
        sock.ifindex = 0
        if not sock.explicit_address:
            sock.src = bytes(len(sock.src))
            sock.local = "0.0.0.0" if sock.family == socket.AF_INET else "::"
    if sock.on_destroy is not None:
        sock.on_destroy(namespace, sock)
