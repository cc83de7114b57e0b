# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: inet socket diag messages (include/uapi/linux/inet_diag.h)."""

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

# Extensions: of a request, bit 1 << (n - 1) of idiag_ext asks for attribute n. Those above 8 come
# unasked, where the socket and the caller's privileges give them.
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
# inet_diag_sockid. Ports are big endian on the wire, here and in a message: read and written
# natively, and swapped.
_REQUEST = struct.Struct("=BBBBIHH16s16sIII")
_NOWHERE = b"\0" * 16
# struct inet_diag_req, 60 bytes: family, src_len, dst_len, idiag_ext, struct inet_diag_sockid,
# idiag_states, idiag_dbs.
_FORMER_REQUEST = struct.Struct("=BBBB48xII")
# struct nlmsghdr, then struct inet_diag_msg.
_MESSAGE = "=16xBBBBHH16s16sIIIIIIII"
_MESSAGE_SIZE = struct.calcsize(_MESSAGE)
_HEADER_SIZE = 16
_RAW_PROTOCOL_MAX = 255
# A number that does not fit is 0 there, which no handler has: a kernel that does not read the
# attribute (before 5.9) finds none, where 255 would be its raw sockets.
_NUMBERS = {
    name: number if number <= _RAW_PROTOCOL_MAX else 0
    for name, number in constants.PROTOCOLS.items()
}
_htons = socket.htons
# A kernel without the message, an op of the filter that it does not know or this caller may not
# use, a handler that is missing: asked for one family, it says which.
_NOT_SO = (errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ENOENT)

T = TypeVar("T")


class DiagMessage(NamedTuple):
    """One socket as the kernel dumped it: struct inet_diag_msg, and its protocol's name.

    family: AF_INET or AF_INET6. src, dst: 16 bytes, an IPv4 address in the first four.
    cookie: 64 bits, SO_COOKIE. expires: milliseconds. attributes: raw netlink attributes.
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
    """The idiag_ext byte that asks for these attributes (numbers up to 8)."""
    bits = 0
    for extension in extensions:
        bits |= 1 << (extension - 1)
    return bits


def _request_of_none(protocol: str, family: int, extensions: int, states: int) -> bytes:
    """A request whose sockid is all zero."""
    number = _NUMBERS[protocol]
    return _REQUEST.pack(
        family, number, extensions, 0, states, 0, 0, _NOWHERE, _NOWHERE, 0, 0, 0
    ) + _protocol_attribute(protocol)


def _protocol_attribute(protocol: str) -> bytes:
    """Protocols that do not fit the request's u8 (MPTCP) go in an attribute."""
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
    """struct inet_diag_req_v2 and its attributes, for a dump."""
    request = _request_of_none(protocol, family, extensions, states)
    if bytecode:
        request += attributes.encode(REQ_BYTECODE, bytecode)
    return request


def dump_request_of_both(
    states: int = ANY_STATE, extensions: int = 0, bytecode: bytes = b""
) -> bytes:
    """struct inet_diag_req and its attributes, for a TCPDIAG_GETSOCK of both families.

    The family in it is not read: inet_diag_dump_compat makes AF_UNSPEC of any.
    """
    request = _FORMER_REQUEST.pack(socket.AF_UNSPEC, 0, 0, extensions, states, 0)
    return request + (attributes.encode(REQ_BYTECODE, bytecode) if bytecode else b"")


def _decoder(protocol: str, make: Callable[[DiagMessage], T | None]) -> DecodeRun[T]:
    ntohs = socket.ntohs
    # As Sock._make, without its Python frame.
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
    """A message of so many bytes, its netlink header included."""
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
    """The sockets of one protocol and family in these states that the bytecode accepts.

    Raises HandlerMissing, and what Connection.dump raises.
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
    """As dump, but of each socket only what `make` makes of it is kept, and nothing of None.

    The memory is that of what is kept, not that of what the kernel lists. A dump that was
    interrupted begins anew, so `make` should count nothing by itself.
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
    """As dump_map, of both families at once; None where they must be asked for one by one.

    A dump of one family walks over all sockets of the protocol and leaves out the other's
    (inet_diag_dump_icsk), so two dumps are two walks. The message from before there were families
    takes one walk; it knows TCP alone, and a kernel that refuses it may still answer the other.
    Raises what Connection.dump raises.
    """
    if protocol != "tcp":
        return None
    request = dump_request_of_both(states, extensions, bytecode)
    try:
        return _dumped(make, connection, protocol, TCPDIAG_GETSOCK, request)
    except NetlinkError as error:
        if error.errno not in _NOT_SO:
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
    """As dump_map, of both families, in as few walks as the kernel allows."""
    asked = (states, extensions, bytecode)
    found = dump_map_one_walk(make, connection, protocol, *asked)
    if found is None:
        found = []
        for family in constants.FAMILIES.values():
            found += dump_map(make, connection, protocol, family, *asked)
    return found


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
    """The payload of a SOCK_DESTROY for exactly this socket, its cookie included.

    A raw socket's inner protocol, its local port in a dump, goes where the request has padding
    (sdiag_raw_protocol of struct inet_diag_req_raw).
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
    """Ask the kernel to destroy each; the errno that answers each, 0 for an acknowledgement.

    An acknowledgement alone proves nothing for UDP, and ENOENT does not prove that the socket is
    gone: look again. Raises what Connection.execute raises.
    """
    return connection.execute(
        "destroy sockets", SOCK_DESTROY, [destroy_request(message) for message in socks]
    )


def probe_destroy(connection: Connection, protocol: str, family: int) -> int:
    """The errno of destroying no socket at all: an all-zero sockid with the cookie {0, 0}.

    It harms nothing and takes no privilege. ENOENT: the kernel can destroy (or has no handler for
    the protocol: a dump tells); EOPNOTSUPP: it cannot.
    """
    payload = _request_of_none(protocol, family, 0, ANY_STATE)
    return connection.execute(
        f"ask whether {protocol} sockets can be destroyed", SOCK_DESTROY, [payload]
    )[0]
