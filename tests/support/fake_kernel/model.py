# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a fake kernel: namespaces, sockets, addresses, links and abilities."""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Union

from .routing import FakeRoute, FakeRule, default_rules

# enum in include/net/tcp_states.h
ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE = range(1, 8)
CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING, NEW_SYN_RECV, BOUND_INACTIVE = range(8, 14)

TCP, UDP, UDPLITE, RAW, MPTCP = 6, 17, 136, 255, 262

Item = Union[bytes, OSError]  # The result of a receive: a datagram, or an error to raise.
Fault = Callable[[list[Item]], list[Item]]

_WITHOUT_PROCESS = frozenset({TIME_WAIT, NEW_SYN_RECV})


@dataclass
class FakeSocket:
    """A socket.

    local, remote: text, v4-mapped as ::ffff:192.0.2.1. The family is that of local.
    mark, cgroup_id, congestion: None: not reported.
    explicit_port: the application bound the port. Default: True, except for TCP sockets that do not
    listen. reuseport: sockets with the same number form a SO_REUSEPORT group.
    errno: a destroy returns this and does nothing. immortal: a destroy returns 0 and does nothing.
    on_destroy: called after the socket was aborted.
    """

    protocol: int = TCP
    local: str = "127.0.0.1"
    local_port: int = 0
    remote: str | None = None
    remote_port: int = 0
    state: int = ESTABLISHED
    ifindex: int = 0
    uid: int = 0
    inode: int | None = None
    cookie: int = 0
    timer: int = 0
    retrans: int = 0
    expires: int = 0
    rqueue: int = 0
    wqueue: int = 0
    mark: int | None = 0
    cgroup_id: int | None = 1
    tos: int = 0
    tclass: int = 0
    class_id: int = 0
    shutdown: int = 0
    v6only: bool = False
    congestion: str | None = "cubic"
    tcp_info: Mapping[str, int] = field(default_factory=dict)
    memory: tuple[int, ...] = (0, 131072, 0, 16384, 0, 0, 0, 0, 0)
    ulp: str | None = None
    raw_protocol: int = 0
    explicit_port: bool | None = None
    explicit_address: bool = True
    reuseport: int = 0
    attributes: Mapping[int, bytes] = field(default_factory=dict)
    errno: int = 0
    immortal: bool = False
    on_destroy: Callable[[FakeNamespace, FakeSocket], None] | None = None
    errors: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        address = ipaddress.ip_address(self.local)
        self.family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self.src = address.packed
        if self.remote is None:
            self.dst = bytes(len(self.src))
        else:
            self.dst = ipaddress.ip_address(self.remote).packed
        if self.protocol == RAW:
            self.local_port = self.raw_protocol  # inet_num
        if len(self.src) != len(self.dst):
            raise ValueError("local and remote of different families")
        if self.explicit_port is None:
            self.explicit_port = self.protocol != TCP or self.state == LISTEN
        if self.inode is None:
            self.inode = 0 if self.state in _WITHOUT_PROCESS else next(_inodes)

    @property
    def mapped(self) -> bool:
        return self.family == socket.AF_INET6 and is_mapped(self.dst if any(self.dst) else self.src)

    @property
    def has_process(self) -> bool:
        return self.state not in _WITHOUT_PROCESS


_inodes = itertools.count(10_000)


def is_mapped(address: bytes) -> bool:
    return len(address) == 16 and address[:12] == bytes(10) + b"\xff\xff"


@dataclass
class FakeAddress:
    """An address of the link with this index. peer: for a point-to-point link."""

    local: str
    prefix_length: int
    index: int
    peer: str | None = None
    scope: int = 0
    flags: int = 0x80
    label: str | None = None


@dataclass
class FakeLink:
    """A link, by default UP, BROADCAST, RUNNING, MULTICAST and LOWER_UP.

    kind: ARPHRD_*. link_kind: IFLA_INFO_KIND. vrf_table: nonzero for a VRF.
    """

    index: int
    name: str
    flags: int = 0x11043
    kind: int = 1
    mtu: int = 1500
    operstate: int = 6
    carrier: int = 1
    master: int = 0
    link_kind: str = ""
    vrf_table: int = 0
    alternative_names: tuple[str, ...] = ()


LOOPBACK = FakeLink(1, "lo", flags=0x10049, kind=772, mtu=65536, operstate=0)


@dataclass
class Abilities:
    """The abilities of a kernel, and the privilege of its caller.

    privileged: CAP_NET_ADMIN. handlers: protocols with a diag handler.
    destroys: CONFIG_INET_DIAG_DESTROY. unknown_ops: filter instructions of newer kernels.
    protocol_attribute: INET_DIAG_REQ_PROTOCOL (Linux 5.9).
    destroys_time_wait: about Linux 6.0. reports_cgroup: CONFIG_SOCK_CGROUP_DATA, Linux 5.8.
    reports_sockopt: Linux 5.10. reports_bound_inactive: Linux 6.8.
    supports_legacy_dump: TCPDIAG_GETSOCK, which lists both families of TCP.
    info_size: the length of struct tcp_info in bytes.
    receive_buffer: the capacity of a netlink socket's queue, in skb truesize.
    """

    privileged: bool = True
    handlers: frozenset[int] = frozenset({TCP, UDP, UDPLITE, MPTCP})
    destroys: bool = True
    unknown_ops: frozenset[int] = frozenset()
    protocol_attribute: bool = True
    destroys_time_wait: bool = True
    reports_cgroup: bool = True
    reports_sockopt: bool = True
    reports_bound_inactive: bool = True
    supports_legacy_dump: bool = True
    info_size: int = 248
    receive_buffer: int = 212_992


class FakeNamespace:
    """A network namespace: its sockets, links, addresses, routes and rules.

    routes: in addition to those of the addresses. route_errors: the errno of a look-up, by
    destination.
    requests: (message type, payload) of all requests, in order.
    faults: each applies to the replies of one later send.
    before_request: called with (type, payload) before each request is processed; it may change the
    namespace, to race with the caller.
    destroyed: the cookies of aborted sockets, in order.
    """

    def __init__(self, name: str, identity: tuple[int, int], cookies: itertools.count) -> None:
        self.name = name
        self.identity = identity
        self.sockets: list[FakeSocket] = []
        self.links: list[FakeLink] = [LOOPBACK]
        self.addresses: list[FakeAddress] = [
            FakeAddress("127.0.0.1", 8, 1, scope=254, label="lo"),
            FakeAddress("::1", 128, 1, scope=254),
        ]
        self.routes: list[FakeRoute] = []
        self.rules: list[FakeRule] = default_rules()
        self.route_errors: dict[str, int] = {}
        self.requests: list[tuple[int, bytes]] = []
        self.faults: deque[Fault] = deque()
        self.before_request: Callable[[int, bytes], None] | None = None
        self.destroyed: list[int] = []
        self._cookies = cookies

    def add(self, *sockets: FakeSocket) -> FakeSocket:
        """Add sockets, and return the last. A cookie of 0 becomes the next free one."""
        for sock in sockets:
            if not sock.cookie:
                sock.cookie = next(self._cookies)
            self.sockets.append(sock)
        return sockets[-1]

    def remove(self, sock: FakeSocket) -> None:
        self.sockets = [each for each in self.sockets if each is not sock]

    def by_cookie(self, cookie: int) -> FakeSocket | None:
        return next((each for each in self.sockets if each.cookie == cookie), None)

    def link(self, index: int, name: str, *addresses: str, flags: int = 0x11043) -> FakeLink:
        """Add a link and its addresses, which are text with a prefix length."""
        link = FakeLink(index, name, flags=flags)
        self.links.append(link)
        for text in addresses:
            interface = ipaddress.ip_interface(text)
            scope = 253 if interface.ip.is_link_local else 0
            label = name if interface.version == 4 else None
            self.addresses.append(
                FakeAddress(
                    str(interface.ip), interface.network.prefixlen, index, scope=scope, label=label
                )
            )
        return link
