# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Messages of inet socket diag: dump sockets, and destroy them (include/uapi/linux/inet_diag.h).

sockets = dump(connection, "tcp", socket.AF_INET, 1 << constants.ESTABLISHED)
errnos = destroy(connection, sockets)
"""

from __future__ import annotations

import errno
import functools
import socket
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from ..errors import HandlerMissing, MalformedMessage, NetlinkError
from . import attributes, constants
from .connection import Connection, DecodeRun

# include/uapi/linux/inet_diag.h
TCPDIAG_GETSOCK = 18
# include/uapi/linux/sock_diag.h
SOCK_DIAG_BY_FAMILY = 20
SOCK_DESTROY = 21

# Request attributes.
REQ_BYTECODE = 1
REQ_PROTOCOL = 3

# Extensions: bit 1 << (n - 1) of a request's idiag_ext requests attribute n. Attributes above 8
# come without a request, depending on the socket and the caller's privileges.
MEMINFO = 1
INFO = 2
VEGASINFO = 3
CONG = 4
TOS = 5
TCLASS = 6
SKMEMINFO = 7
SHUTDOWN = 8
SKV6ONLY = 11
DCTCPINFO = 9
LOCALS = 12
PEERS = 13
MARK = 15
BBRINFO = 16
CLASS_ID = 17
MD5SIG = 18
ULP_INFO = 19
SK_BPF_STORAGES = 20
CGROUP_ID = 21
SOCKOPT = 22

ANY_STATE = 0xFFFFFFFF

# struct inet_diag_req_v2, 56 bytes: family, protocol, idiag_ext, pad, idiag_states, then struct
# inet_diag_sockid. Ports are big endian, here and in a message: packed and unpacked natively, then
# swapped.
_REQUEST = struct.Struct("=BBBBIHH16s16sIII")
_NOWHERE = b"\0" * 16
# struct inet_diag_req, 60 bytes: family, src_len, dst_len, idiag_ext, struct inet_diag_sockid,
# idiag_states, idiag_dbs.
_LEGACY_REQUEST = struct.Struct("=BBBB48xII")
# struct nlmsghdr, then struct inet_diag_msg.
_MESSAGE = "=16xBBBBHH16s16sIIIIIIII"
_MESSAGE_SIZE = struct.calcsize(_MESSAGE)
_HEADER_SIZE = 16
_RAW_PROTOCOL_MAX = 255
# A number that does not fit the u8 is 0, which has no handler. A kernel that does not know
# INET_DIAG_REQ_PROTOCOL (before 5.9) then finds none; 255 would select its raw sockets.
_NUMBERS = {
    name: number if number <= _RAW_PROTOCOL_MAX else 0
    for name, number in constants.PROTOCOLS.items()
}
_htons = socket.htons
# No such message, an unknown or forbidden instruction in the filter, or no handler. A dump of one
# family tells these apart.
_TRY_ONE_FAMILY = (errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ENOENT)

T = TypeVar("T")


class DiagMessage(NamedTuple):
    """A socket as the kernel dumped it: struct inet_diag_msg, and the name of its protocol.

    family: AF_INET or AF_INET6. src, dst: 16 bytes, an IPv4 address in the first four.
    cookie: 64 bits, SO_COOKIE. expires: milliseconds. rqueue, wqueue: bytes, or connections of a
    listener. attributes: raw netlink attributes.
    """

    protocol: str
    family: int
    state: int
    timer: int
    retrans: int
    sport: int
    dport: int
    src: bytes
    dst: bytes
    ifindex: int
    cookie: int
    expires: int
    rqueue: int
    wqueue: int
    uid: int
    inode: int
    attributes: bytes


def extension_bits(extensions: Sequence[int]) -> int:
    """The idiag_ext byte that requests these attributes (numbers up to 8)."""
    bits = 0
    for extension in extensions:
        bits |= 1 << (extension - 1)
    return bits


def _request_without_sockid(protocol: str, family: int, extensions: int, states: int) -> bytes:
    """Encode a request whose sockid is all zero."""
    number = _NUMBERS[protocol]
    return _REQUEST.pack(
        family, number, extensions, 0, states, 0, 0, _NOWHERE, _NOWHERE, 0, 0, 0
    ) + _protocol_attribute(protocol)


def _protocol_attribute(protocol: str) -> bytes:
    """The attribute for a protocol that does not fit the request's u8 (MPTCP)."""
    number = constants.PROTOCOLS[protocol]
    if number <= _RAW_PROTOCOL_MAX:
        return b""
    return attributes.encode(REQ_PROTOCOL, struct.pack("=I", number))


def dump_request(
    protocol: str,
    family: int,
    states: int = ANY_STATE,
    extensions: int = 0,
    bytecode: bytes = b"",
) -> bytes:
    """Encode a dump of one family: struct inet_diag_req_v2 and its attributes."""
    request = _request_without_sockid(protocol, family, extensions, states)
    if bytecode:
        request += attributes.encode(REQ_BYTECODE, bytecode)
    return request


def dump_request_both_families(
    states: int = ANY_STATE, extensions: int = 0, bytecode: bytes = b""
) -> bytes:
    """Encode a dump of both families: TCPDIAG_GETSOCK with struct inet_diag_req.

    The kernel ignores its family: inet_diag_dump_compat uses AF_UNSPEC.
    """
    request = _LEGACY_REQUEST.pack(socket.AF_UNSPEC, 0, 0, extensions, states, 0)
    return request + (attributes.encode(REQ_BYTECODE, bytecode) if bytecode else b"")


def _decoder(protocol: str, make: Callable[[DiagMessage], T | None]) -> DecodeRun[T]:
    ntohs = socket.ntohs
    # Like DiagMessage._make, without its Python frame.
    new = tuple.__new__

    def decode_run(datagram: bytes, size: int) -> list[T]:
        kept: list[T] = []
        for (
            family,
            state,
            timer,
            retrans,
            sport,
            dport,
            src,
            dst,
            ifindex,
            cookie_low,
            cookie_high,
            expires,
            rqueue,
            wqueue,
            uid,
            inode,
            attributes_,
        ) in _layout(size).iter_unpack(datagram):
            item = make(
                new(
                    DiagMessage,
                    (
                        protocol,
                        family,
                        state,
                        timer,
                        retrans,
                        ntohs(sport),
                        ntohs(dport),
                        src,
                        dst,
                        ifindex,
                        cookie_high << 32 | cookie_low,
                        expires,
                        rqueue,
                        wqueue,
                        uid,
                        inode,
                        attributes_,
                    ),
                )
            )
            if item is not None:
                kept.append(item)
        return kept

    return decode_run


@functools.lru_cache(maxsize=256)
def _layout(size: int) -> struct.Struct:
    """The layout of a message of this size in bytes, its netlink header included."""
    if size < _MESSAGE_SIZE:
        raise MalformedMessage("a socket diag message", f"{size} bytes of {_MESSAGE_SIZE}")
    return struct.Struct(f"{_MESSAGE}{size - _MESSAGE_SIZE}s")


def dump(
    connection: Connection,
    protocol: str,
    family: int,
    states: int = ANY_STATE,
    extensions: int = 0,
    bytecode: bytes = b"",
) -> list[DiagMessage]:
    """List the sockets of one protocol and family in these states that the bytecode accepts.

    states: a mask of 1 << state. extensions: see extension_bits. Raises HandlerMissing, and what
    Connection.dump raises.
    """
    return dump_map(_unchanged, connection, protocol, family, states, extensions, bytecode)


def _unchanged(message: DiagMessage) -> DiagMessage:
    return message


def dump_map(
    make: Callable[[DiagMessage], T | None],
    connection: Connection,
    protocol: str,
    family: int,
    states: int = ANY_STATE,
    extensions: int = 0,
    bytecode: bytes = b"",
) -> list[T]:
    """Like dump, but map each message with `make`, and drop those that it maps to None.

    Memory is used for the results only, not for each message. An interrupted dump is repeated, so
    `make` must not count or collect by itself.
    """
    request = dump_request(protocol, family, states, extensions, bytecode)
    try:
        return _dumped(make, connection, protocol, SOCK_DIAG_BY_FAMILY, request)
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            raise HandlerMissing(protocol) from error
        raise


def dump_map_one_walk(
    make: Callable[[DiagMessage], T | None],
    connection: Connection,
    protocol: str,
    states: int = ANY_STATE,
    extensions: int = 0,
    bytecode: bytes = b"",
) -> list[T] | None:
    """Like dump_map, for both families in one walk; None if each needs a dump of its own.

    A dump of one family walks all sockets of the protocol and skips those of the other family
    (inet_diag_dump_icsk), so two dumps are two walks. The older message TCPDIAG_GETSOCK needs one
    walk, but supports TCP only. A kernel that rejects it may still accept a dump of one family.
    Raises what Connection.dump raises.
    """
    if protocol != "tcp":
        return None
    request = dump_request_both_families(states, extensions, bytecode)
    try:
        return _dumped(make, connection, protocol, TCPDIAG_GETSOCK, request)
    except NetlinkError as error:
        if error.errno not in _TRY_ONE_FAMILY:
            raise
        return None


def dump_map_both_families(
    make: Callable[[DiagMessage], T | None],
    connection: Connection,
    protocol: str,
    states: int = ANY_STATE,
    extensions: int = 0,
    bytecode: bytes = b"",
) -> list[T]:
    """Like dump_map, for both families, in as few walks as the kernel allows."""
    request = (states, extensions, bytecode)
    results = dump_map_one_walk(make, connection, protocol, *request)
    if results is None:
        results = []
        for family in constants.FAMILIES.values():
            results += dump_map(make, connection, protocol, family, *request)
    return results


def _dumped(
    make: Callable[[DiagMessage], T | None],
    connection: Connection,
    protocol: str,
    kind: int,
    request: bytes,
) -> list[T]:
    decode_run = _decoder(protocol, make)

    def decode(datagram: bytes, offset: int, end: int) -> T | None:
        start = offset - _HEADER_SIZE
        kept = decode_run(datagram[start:end], end - start)
        return kept[0] if kept else None

    return connection.dump(f"list {protocol} sockets", kind, request, decode, decode_run)


def destroy_request(message: DiagMessage) -> bytes:
    """Encode the payload of a SOCK_DESTROY for exactly this socket, its cookie included.

    The inner protocol of a raw socket (its local port in a dump) replaces the padding of the
    request (sdiag_raw_protocol of struct inet_diag_req_raw).
    """
    protocol = message.protocol
    request = _REQUEST.pack(
        message.family,
        _NUMBERS[protocol],
        0,
        message.sport & 0xFF if protocol == "raw" else 0,
        ANY_STATE,
        _htons(message.sport),
        _htons(message.dport),
        message.src,
        message.dst,
        message.ifindex,
        message.cookie & 0xFFFFFFFF,
        message.cookie >> 32,
    )
    return request if protocol != "mptcp" else request + _protocol_attribute(protocol)


def destroy(connection: Connection, socks: Sequence[DiagMessage]) -> list[int]:
    """Destroy these sockets. Returns the errno of each request; 0: acknowledged.

    Dump again to verify: an acknowledgement proves nothing for UDP, and ENOENT does not prove that
    the socket is gone. Raises what Connection.execute raises.
    """
    return connection.execute(
        "destroy sockets", SOCK_DESTROY, [destroy_request(message) for message in socks]
    )


def probe_destroy(connection: Connection, protocol: str, family: int) -> int:
    """Probe whether the kernel can destroy sockets of this protocol. Returns an errno.

    The request has an all-zero sockid with the cookie {0, 0}, which no socket has, and needs no
    privilege. ENOENT: the kernel can destroy, or has no handler for the protocol, as a dump shows.
    EOPNOTSUPP: it cannot. Raises what Connection.execute raises.
    """
    payload = _request_without_sockid(protocol, family, 0, ANY_STATE)
    return connection.execute(
        f"ask whether {protocol} sockets can be destroyed", SOCK_DESTROY, [payload]
    )[0]
