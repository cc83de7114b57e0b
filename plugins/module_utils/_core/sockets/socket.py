# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: one socket within one look: how every field of it is read."""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Mapping
from typing import Any, TypeVar

from ..host.processes import Process
from ..netlink import attributes as wire_attributes
from ..netlink import constants, inet_diag, info
from ..netlink.constants import V4_MAPPED_PREFIX
from .slots import Slot
from .snapshot import Snapshot

T = TypeVar("T")

_CLOCKLESS = (constants.SYN_SENT, constants.SYN_RECV, constants.LISTENING)
_FAMILY_NAMES = {number: name for name, number in constants.FAMILIES.items()}
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_NOT_ASKED: Mapping[str, int] = {}


class Socket:
    """A socket as the kernel dumped it, and the environment of that look.

    A property that is None is unknown: the kernel did not say, may not say to this caller, or what
    it says is meaningless for such a socket.
    """

    __slots__ = ("_attributes", "_cached_slot", "_cached_value", "_tcp_info", "message", "snapshot")

    def __init__(self, message: inet_diag.DiagMessage, snapshot: Snapshot) -> None:
        self.message = message
        self.snapshot = snapshot
        self._attributes: Mapping[int, bytes] | None = None
        self._tcp_info: Mapping[str, int] | None = _NOT_ASKED
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
        """(namespace's name, protocol, cookie): what tells this socket from every other."""
        message = self.message
        return self.snapshot.namespace.name, message.protocol, message.cookie

    @property
    def protocol(self) -> str:
        return self.message.protocol

    @property
    def ends(self) -> tuple[str, bool, str, str]:
        """(family, mapped, local, remote)"""
        message = self.message
        return _ends(message.family, message.src, message.dst)

    @property
    def family(self) -> str:
        """inet or inet6; a v4-mapped socket is inet6."""
        return self.ends[0]

    @property
    def mapped(self) -> bool:
        """An AF_INET6 socket that carries IPv4."""
        return self.ends[1]

    @property
    def state_number(self) -> int:
        """As vocabulary.STATES numbers them."""
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
        """4 bytes for IPv4, v4-mapped included; else 16."""
        return _plain(self.message.family, self.message.src)

    @property
    def remote_address(self) -> bytes:
        """4 bytes for IPv4, v4-mapped included; else 16. All zero: the socket has no remote."""
        return _plain(self.message.family, self.message.dst)

    @property
    def local(self) -> str:
        return self.ends[2]

    @property
    def remote(self) -> str:
        return self.ends[3]

    @property
    def local_port(self) -> int:
        """Of a raw socket: the protocol that it receives."""
        return self.message.sport

    @property
    def remote_port(self) -> int:
        return self.message.dport

    @property
    def has_remote(self) -> bool:
        """Connected, or on the way there.

        Datagram and raw sockets say so by their state: an IPv6 one that was disconnected keeps the
        address in its record (__udp_disconnect), and a raw one has no port.
        """
        message = self.message
        if message.protocol in constants.STREAMS:
            return message.dport != 0
        return message.state != constants.CLOSED

    @property
    def ifindex(self) -> int:
        """The interface that the socket is bound to; 0: none."""
        return self.message.ifindex

    @property
    def device(self) -> str | None:
        """The name of the interface that the socket is bound to; None: none, or it is gone."""
        return self.snapshot.interface_name(self.message.ifindex) if self.message.ifindex else None

    @property
    def uid(self) -> int | None:
        """None where the kernel says 0 for want of an owner.

        TIME_WAIT and half-open connections always say 0 (inet_twsk_diag_fill, inet_req_diag_fill),
        orphans do on older kernels; none of them has an inode.
        """
        message = self.message
        return message.uid if message.uid or message.inode else None

    @property
    def user(self) -> str | None:
        """The name of the uid; None where it is not known or has none."""
        uid = self.uid
        return None if uid is None else self.snapshot.user_name(uid)

    @property
    def inode(self) -> int:
        """0: no process owns the socket any more, or does yet."""
        return self.message.inode

    @property
    def cookie(self) -> int:
        return self.message.cookie

    @property
    def cookie_hex(self) -> str:
        """As ss prints it behind `sk:`."""
        return f"{self.message.cookie:x}"

    @property
    def attributes(self) -> Mapping[int, bytes]:
        """The attributes that came with the message, by number."""
        if self._attributes is None:
            self._attributes = wire_attributes.parse(self.message.attributes)
        return self._attributes

    @property
    def tcp_info(self) -> Mapping[str, int] | None:
        """struct tcp_info by the kernel's names; None where it was not asked for or did not come.

        An MPTCP socket's INFO is another struct (mptcp_info), so it is not read as this one.
        """
        if self._tcp_info is _NOT_ASKED:
            raw = self.attributes.get(inet_diag.INFO) if self.message.protocol == "tcp" else None
            self._tcp_info = info.decode_tcp_info(raw) if raw else None
        return self._tcp_info

    @property
    def mark(self) -> int | None:
        """SO_MARK. The kernel tells it to callers with CAP_NET_ADMIN alone."""
        return _number(self.attributes.get(inet_diag.MARK), _U32)

    @property
    def cgroup_id(self) -> int | None:
        """The cgroup v2 in which the socket was made (Linux 5.8 and later)."""
        return _number(self.attributes.get(inet_diag.CGROUP_ID), _U64)

    @property
    def cgroup(self) -> str | None:
        """That cgroup's path; None where it is not known or is gone."""
        identifier = self.cgroup_id
        return None if identifier is None else self.snapshot.cgroup_path(identifier)

    @property
    def timer(self) -> str | None:
        """Which timer runs: on (retransmission), keepalive, timewait, persist; None: none."""
        timer = self.message.timer
        return constants.TIMERS[timer] if timer < len(constants.TIMERS) else "on"

    @property
    def timer_ms(self) -> int | None:
        """Milliseconds until that timer fires; None: none runs."""
        return self.message.expires if self.message.timer else None

    @property
    def retransmits(self) -> int:
        """How often the running timer fired without an answer: retransmissions, zero-window
        probes or keepalive probes, as ss prints them in timer:(...)."""
        return self.message.retrans

    @property
    def send_queue(self) -> int:
        """Bytes not acknowledged yet, or not sent; of a listener the most it lets wait."""
        return self.message.wqueue

    @property
    def recv_queue(self) -> int:
        """Bytes that the application has not read; of a listener the connections that wait."""
        return self.message.rqueue

    @property
    def idle_ms(self) -> int | None:
        """Milliseconds without data either way.

        With data unacknowledged only what was received counts, since each retransmission resets
        the sending clock. None: no clock (not TCP, a listener, struct tcp_info did not come, or the
        handshake is not done: till then both clocks count from the boot of the machine).
        """
        fields = self.tcp_info
        if fields is None or self.message.state in _CLOCKLESS:
            return None
        received = fields.get("last_data_recv")
        if received is None:
            return None
        return received if fields["unacked"] else min(received, fields["last_data_sent"])

    @property
    def congestion(self) -> str | None:
        """The congestion control algorithm's name; None where it was not asked for."""
        raw = self.attributes.get(inet_diag.CONG)
        return raw.rstrip(b"\0").decode("ascii", "replace") if raw else None

    @property
    def class_id(self) -> int | None:
        """The traffic class (SO_PRIORITY, or the net_cls cgroup's); None where it did not come."""
        return _number(self.attributes.get(inet_diag.CLASS_ID), _U32)

    @property
    def ulp(self) -> str | None:
        """The upper layer protocol (tls, mptcp, ...) of a TCP socket; None: none."""
        raw = self.attributes.get(inet_diag.ULP_INFO)
        return info.ulp_name(raw) if raw else None

    @property
    def ulp_info(self) -> Mapping[str, int] | None:
        """What that protocol tells of itself; None where there is none, or it tells nothing."""
        raw = self.attributes.get(inet_diag.ULP_INFO)
        return (info.decode_ulp_info(raw) or None) if raw else None

    @property
    def mptcp_info(self) -> Mapping[str, int] | None:
        """struct mptcp_info of an MPTCP socket; None where it was not asked for or did not come."""
        raw = self.attributes.get(inet_diag.INFO) if self.message.protocol == "mptcp" else None
        return info.decode_mptcp_info(raw) if raw else None

    @property
    def mptcp_token(self) -> int | None:
        """The local token of an MPTCP connection, or of the one that a TCP subflow carries.

        None for other sockets, and for listeners, which have no token yet.
        """
        fields = self.mptcp_info if self.message.protocol == "mptcp" else self.ulp_info
        if fields is None:
            return None
        return fields.get("token", fields.get("token_loc")) or None

    @property
    def processes(self) -> tuple[Process, ...] | None:
        """Who holds the socket; None where that is not known, or nobody asked."""
        return self.snapshot.processes(self.message.inode)


def _plain(family: int, address: bytes) -> bytes:
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
        address_text(_plain(family, src)),
        address_text(_plain(family, dst)),
    )


def address_text(address: bytes) -> str:
    """An address of 4 or 16 bytes as people write it (inet_ntop(3))."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _number(raw: bytes | None, layout: struct.Struct) -> int | None:
    if raw is None or len(raw) != layout.size:
        return None
    (value,) = layout.unpack(raw)
    return int(value)
