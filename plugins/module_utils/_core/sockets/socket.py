# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""A decoded socket of a snapshot."""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Mapping
from typing import Any, TypeVar

from ..host.processes import Process
from ..netlink import attributes as netlink_attributes
from ..netlink import constants, inet_diag, info
from ..netlink.constants import V4_MAPPED_PREFIX
from .slots import Slot
from .snapshot import Snapshot

T = TypeVar("T")

_STATES_WITHOUT_CLOCK = (constants.SYN_SENT, constants.SYN_RECV, constants.LISTENING)
_FAMILY_NAMES = {number: name for name, number in constants.FAMILIES.items()}
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_NOT_DECODED: Mapping[str, int] = {}


class Socket:
    """A dumped socket and its snapshot. Properties are decoded on use.

    None means unknown: the kernel did not report it, does not report it to this caller, or reports
    a value without meaning for this socket.
    """

    __slots__ = ("_attributes", "_cached_slot", "_cached_value", "_tcp_info", "message", "snapshot")

    def __init__(self, message: inet_diag.DiagMessage, snapshot: Snapshot) -> None:
        self.message = message
        self.snapshot = snapshot
        self._attributes: Mapping[int, bytes] | None = None
        self._tcp_info: Mapping[str, int] | None = _NOT_DECODED
        self._cached_slot: Slot[Any] | None = None
        self._cached_value: Any = None

    def cached(self, slot: Slot[T]) -> T | None:
        """The value cached last, if it was cached in this slot."""
        value: T | None = self._cached_value if self._cached_slot is slot else None
        return value

    def cache(self, slot: Slot[T], value: T | None) -> None:
        """Cache one value that can be computed again. There are many sockets: no room for more."""
        self._cached_slot = slot
        self._cached_value = value

    @property
    def identity(self) -> tuple[str, str, int]:
        """(name of the namespace, protocol, cookie): unique on the host."""
        message = self.message
        return self.snapshot.namespace.name, message.protocol, message.cookie

    @property
    def protocol(self) -> str:
        return self.message.protocol

    @property
    def ends(self) -> tuple[str, bool, str, str]:
        """(family, mapped, local address, remote address), the addresses as text."""
        message = self.message
        return _ends(message.family, message.src, message.dst)

    @property
    def family(self) -> str:
        """inet or inet6; a v4-mapped socket is inet6."""
        return self.ends[0]

    @property
    def mapped(self) -> bool:
        """Whether this is an AF_INET6 socket with IPv4 addresses (v4-mapped)."""
        return self.ends[1]

    @property
    def state_number(self) -> int:
        """The state, numbered as in constants.STATES."""
        message = self.message
        if message.state == constants.CLOSED and message.protocol == "tcp":
            return constants.BOUND_INACTIVE
        return message.state

    @property
    def state(self) -> str:
        message = self.message
        if message.state == constants.CLOSED:
            return constants.STATE_NAMES[self.state_number]
        return constants.STATE_NAMES[message.state]

    @property
    def local_address(self) -> bytes:
        """4 bytes for IPv4 and v4-mapped, else 16."""
        return _unmapped(self.message.family, self.message.src)

    @property
    def remote_address(self) -> bytes:
        """4 bytes for IPv4 and v4-mapped, else 16. All zero: no remote."""
        return _unmapped(self.message.family, self.message.dst)

    @property
    def local(self) -> str:
        return self.ends[2]

    @property
    def remote(self) -> str:
        return self.ends[3]

    @property
    def local_port(self) -> int:
        """The local port; of a raw socket, the protocol that it receives."""
        return self.message.sport

    @property
    def remote_port(self) -> int:
        return self.message.dport

    @property
    def has_remote(self) -> bool:
        """Whether the socket is connected or connecting.

        For datagram and raw sockets the state decides: a disconnected IPv6 socket keeps the address
        of its remote (__udp_disconnect), and a raw socket has no port.
        """
        message = self.message
        if message.protocol in constants.STREAMS:
            return message.dport != 0
        return message.state != constants.CLOSED

    @property
    def ifindex(self) -> int:
        """The index of the interface that the socket is bound to; 0: none."""
        return self.message.ifindex

    @property
    def device(self) -> str | None:
        """The name of that interface; None: none, or it no longer exists."""
        return self.snapshot.interface_name(self.message.ifindex) if self.message.ifindex else None

    @property
    def uid(self) -> int | None:
        """The uid of the owner; None if the kernel reports 0 because there is no owner.

        It does so for TIME_WAIT and half-open connections (inet_twsk_diag_fill,
        inet_req_diag_fill) and, on older kernels, for orphans. None of them has an inode.
        """
        message = self.message
        return message.uid if message.uid or message.inode else None

    @property
    def user(self) -> str | None:
        """The name of that user; None: unknown, or the user has no name."""
        uid = self.uid
        return None if uid is None else self.snapshot.user_name(uid)

    @property
    def inode(self) -> int:
        """The inode; 0: the socket has no file, since it was closed or is not yet accepted."""
        return self.message.inode

    @property
    def cookie(self) -> int:
        return self.message.cookie

    @property
    def cookie_hex(self) -> str:
        """The cookie as ss prints it after `sk:`."""
        return f"{self.message.cookie:x}"

    @property
    def attributes(self) -> Mapping[int, bytes]:
        """The attributes of the message by number."""
        if self._attributes is None:
            self._attributes = netlink_attributes.parse(self.message.attributes)
        return self._attributes

    @property
    def tcp_info(self) -> Mapping[str, int] | None:
        """struct tcp_info by the kernel's names; None: not in the message.

        An MPTCP socket has another struct instead: mptcp_info.
        """
        if self._tcp_info is _NOT_DECODED:
            raw = self.attributes.get(inet_diag.INFO) if self.message.protocol == "tcp" else None
            self._tcp_info = info.decode_tcp_info(raw) if raw else None
        return self._tcp_info

    @property
    def mark(self) -> int | None:
        """SO_MARK. The kernel reports it only to callers with CAP_NET_ADMIN."""
        return _number(self.attributes.get(inet_diag.MARK), _U32)

    @property
    def cgroup_id(self) -> int | None:
        """The id of the cgroup v2 that created the socket (Linux 5.8 and later)."""
        return _number(self.attributes.get(inet_diag.CGROUP_ID), _U64)

    @property
    def cgroup(self) -> str | None:
        """The path of that cgroup; None: unknown, or it no longer exists."""
        identifier = self.cgroup_id
        return None if identifier is None else self.snapshot.cgroup_path(identifier)

    @property
    def timer(self) -> str | None:
        """The running timer: on (retransmission), keepalive, timewait or persist; None: none."""
        timer = self.message.timer
        return constants.TIMERS[timer] if timer < len(constants.TIMERS) else "on"

    @property
    def timer_ms(self) -> int | None:
        """Milliseconds until that timer fires; None: no timer."""
        return self.message.expires if self.message.timer else None

    @property
    def retransmits(self) -> int:
        """How often the running timer fired without an answer, as ss prints it in timer:(...).

        It counts retransmissions, zero-window probes or keepalive probes.
        """
        return self.message.retrans

    @property
    def send_queue(self) -> int:
        """Bytes that are unacknowledged or unsent; of a listener, its backlog limit."""
        return self.message.wqueue

    @property
    def recv_queue(self) -> int:
        """Bytes that the application has not read; of a listener, the connections to accept."""
        return self.message.rqueue

    @property
    def idle_ms(self) -> int | None:
        """Milliseconds without data in either direction.

        With unacknowledged data only the receive clock counts: each retransmission resets the send
        clock. None: not TCP, a listener, no struct tcp_info, or the handshake is incomplete. Until
        it is complete, both clocks count from boot.
        """
        fields = self.tcp_info
        if fields is None or self.message.state in _STATES_WITHOUT_CLOCK:
            return None
        received = fields.get("last_data_recv")
        if received is None:
            return None
        return received if fields["unacked"] else min(received, fields["last_data_sent"])

    @property
    def congestion(self) -> str | None:
        """The name of the congestion control algorithm; None: not in the message."""
        raw = self.attributes.get(inet_diag.CONG)
        return raw.rstrip(b"\0").decode("ascii", "replace") if raw else None

    @property
    def class_id(self) -> int | None:
        """The traffic class (SO_PRIORITY, or of the net_cls cgroup); None: not in the message."""
        return _number(self.attributes.get(inet_diag.CLASS_ID), _U32)

    @property
    def ulp(self) -> str | None:
        """The upper layer protocol (tls, mptcp, ...) of a TCP socket; None: none."""
        raw = self.attributes.get(inet_diag.ULP_INFO)
        return info.ulp_name(raw) if raw else None

    @property
    def ulp_info(self) -> Mapping[str, int] | None:
        """The details of that protocol; None: no such protocol, or no details."""
        raw = self.attributes.get(inet_diag.ULP_INFO)
        return (info.decode_ulp_info(raw) or None) if raw else None

    @property
    def mptcp_info(self) -> Mapping[str, int] | None:
        """struct mptcp_info of an MPTCP socket; None: not in the message."""
        raw = self.attributes.get(inet_diag.INFO) if self.message.protocol == "mptcp" else None
        return info.decode_mptcp_info(raw) if raw else None

    @property
    def mptcp_token(self) -> int | None:
        """The local token of an MPTCP connection, for its socket and its TCP subflows.

        None for other sockets and for listeners, which have no token.
        """
        fields = self.mptcp_info if self.message.protocol == "mptcp" else self.ulp_info
        if fields is None:
            return None
        return fields.get("token", fields.get("token_loc")) or None

    @property
    def processes(self) -> tuple[Process, ...] | None:
        """The processes that hold the socket; None: not loaded, or none."""
        return self.snapshot.processes(self.message.inode)


def _unmapped(family: int, address: bytes) -> bytes:
    if family == socket.AF_INET:
        return address[:4]
    if address[:12] == V4_MAPPED_PREFIX:
        return address[12:]
    return address


@functools.lru_cache(maxsize=1 << 16)
def _ends(family: int, src: bytes, dst: bytes) -> tuple[str, bool, str, str]:
    mapped = family == socket.AF_INET6 and V4_MAPPED_PREFIX in (src[:12], dst[:12])
    return (
        _FAMILY_NAMES[family],
        mapped,
        address_text(_unmapped(family, src)),
        address_text(_unmapped(family, dst)),
    )


def address_text(address: bytes) -> str:
    """Format an address of 4 or 16 bytes (inet_ntop(3))."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _number(raw: bytes | None, layout: struct.Struct) -> int | None:
    if raw is None or len(raw) != layout.size:
        return None
    (value,) = layout.unpack(raw)
    return int(value)
