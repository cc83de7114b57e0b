# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real sockets in each state, opened by real clients and servers.

Each function opens sockets in the two namespaces of a Pair and returns a HeldSocket: the socket in
that state, and the other sockets. It stays in the state until a timer of the kernel ends it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from . import proc_net
from .topology import LabNamespace, Pair
from .waiting import until

SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
IPPROTO_MPTCP = 262
IPPROTO_UDPLITE = 136
_UNUSED_PORT = itertools.count(20_001)

ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE = range(1, 8)
CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = range(8, 12)


@dataclass
class HeldSocket:
    """A socket that stays in its state.

    where: its namespace. target: the descriptor of the application, or None without one. peer: the
    descriptor of the other end. others: further descriptors, such as the listener. cookie:
    SO_COOKIE, or None if there never was a descriptor.
    """

    where: LabNamespace
    local: tuple[str, int]
    remote: tuple[str, int]
    target: socket.socket | None = None
    peer: socket.socket | None = None
    others: list[socket.socket] = field(default_factory=list)
    cookie: int | None = None

    def close(self) -> None:
        """Close all descriptors. Connections are reset, which leaves no TIME_WAIT."""
        for sock in (self.target, self.peer, *self.others):
            if sock is not None:
                with contextlib.suppress(OSError):
                    linger_reset(sock)
                sock.close()


def cookie_of(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


def linger_reset(sock: socket.socket) -> None:
    """Make close() send a reset (SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))


def _name(address: tuple[object, ...]) -> tuple[str, int]:
    return str(address[0]), int(str(address[1]))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _mapped(address: str, mapped: bool) -> str:
    return f"::ffff:{address}" if mapped else address


def wait_for_state(
    where: LabNamespace, state: int, local: tuple[str, int], remote: int = 0
) -> None:
    """Wait until /proc/net/tcp shows the local end (and remote port, unless 0) in the state."""
    address, port = str(ipaddress.ip_address(local[0])), local[1]

    def is_listed() -> bool:
        return any(
            (line.state, line.local, line.local_port) == (state, address, port)
            and remote in (0, line.remote_port)
            for line in proc_net.read(where)
        )

    until(is_listed, f"{local} in state {state}")


def listener(
    where: LabNamespace,
    address: str,
    port: int = 0,
    *,
    protocol: int = 0,
    options: Iterable[tuple[int, int, int]] = (),
) -> socket.socket:
    """Open a TCP or MPTCP listener. port: 0 chooses an unused one."""
    sock = where.socket(_family(address), socket.SOCK_STREAM, protocol)
    for option in options:
        sock.setsockopt(*option)
    sock.bind((address, port or next(_UNUSED_PORT)))
    sock.listen(64)
    return sock


def listening(pair: Pair, *, v6: bool = False) -> HeldSocket:
    sock = listener(pair.server, pair.server6 if v6 else pair.server4)
    local = _name(sock.getsockname())
    return HeldSocket(
        pair.server, local, ("::" if v6 else "0.0.0.0", 0), sock, cookie=cookie_of(sock)
    )


def connected(
    pair: Pair,
    *,
    v6: bool = False,
    mapped: bool = False,
    protocol: int = 0,
    server_options: Iterable[tuple[int, int, int]] = (),
    client_options: Iterable[tuple[int, int, int]] = (),
    address: str = "",
) -> tuple[socket.socket, socket.socket, socket.socket]:
    """Return (client, accepted, listener). address: a further address of the server, or empty."""
    address = address or (pair.server6 if v6 else pair.server4)
    if mapped:
        listens = pair.server.socket(socket.AF_INET6, socket.SOCK_STREAM, protocol)
        listens.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        for option in server_options:
            listens.setsockopt(*option)
        listens.bind(("::", next(_UNUSED_PORT)))
        listens.listen(16)
    else:
        listens = listener(pair.server, address, protocol=protocol, options=server_options)
    family = socket.AF_INET6 if v6 or mapped else socket.AF_INET
    client = pair.client.socket(family, socket.SOCK_STREAM, protocol)
    for option in client_options:
        client.setsockopt(*option)
    client.connect((_mapped(address, mapped), listens.getsockname()[1]))
    accepted, _address = listens.accept()
    return client, pair.server.close_at_end(accepted), listens


def hold(
    where: LabNamespace, target: socket.socket, peer: socket.socket, *others: socket.socket
) -> HeldSocket:
    return HeldSocket(
        where,
        _name(target.getsockname()),
        _name(target.getpeername()),
        target,
        peer,
        list(others),
        cookie_of(target),
    )


def established(pair: Pair, *, v6: bool = False, mapped: bool = False) -> HeldSocket:
    """The client's end of a connection, without data in flight."""
    client, accepted, listens = connected(pair, v6=v6, mapped=mapped)
    return hold(pair.client, client, accepted, listens)


def established_server(pair: Pair, *, v6: bool = False) -> HeldSocket:
    """The server's end of a connection."""
    client, accepted, listens = connected(pair, v6=v6)
    return hold(pair.server, accepted, client, listens)


def syn_sent(pair: Pair, *, v6: bool = False) -> HeldSocket:
    """A client whose SYN gets no reply."""
    address = (pair.silent6 if v6 else pair.silent, 7)
    client = pair.client.socket(_family(address[0]), socket.SOCK_STREAM)
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        client.connect(address)
    return HeldSocket(
        pair.client, _name(client.getsockname()), address, client, cookie=cookie_of(client)
    )


def new_syn_recv(pair: Pair, *, v6: bool = False) -> HeldSocket:
    """The server's end of a half-open connection, kept so by TCP_DEFER_ACCEPT."""
    listens = listener(
        pair.server,
        pair.server6 if v6 else pair.server4,
        options=[(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 120)],
    )
    client = pair.client.socket(listens.family, socket.SOCK_STREAM)
    client.connect(listens.getsockname())
    local, remote = _name(listens.getsockname()), _name(client.getsockname())
    wait_for_state(pair.server, SYN_RECV, local, remote[1])
    return HeldSocket(pair.server, local, remote, None, client, [listens])


def fill(sock: socket.socket, peer: socket.socket) -> int:
    """Send until the window of the peer, which does not read, is closed. Returns the bytes sent."""
    sent = 0
    sock.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(65536))
    # Fill the space that the data in flight has left.
    until(lambda: _unread(peer) > 0, "data in the receive queue of the peer")
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(65536))
    sock.settimeout(5)
    return sent


def _unread(sock: socket.socket) -> int:
    return len(sock.recv(65536, socket.MSG_PEEK | socket.MSG_DONTWAIT))


SMALL = [
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 8192),
    (socket.SOL_SOCKET, socket.SO_SNDBUF, 65536),
]


def zero_window(pair: Pair) -> HeldSocket:
    """The client's end with a zero window of the server; the persist timer runs."""
    client, accepted, listens = connected(pair, server_options=SMALL, client_options=SMALL)
    fill(client, accepted)
    return hold(pair.client, client, accepted, listens)


def fin_wait_1_orphan(pair: Pair) -> HeldSocket:
    """The client's end, closed by the application while data waits for the window."""
    held = zero_window(pair)
    assert held.target is not None
    held.target.close()
    held.target = None
    wait_for_state(pair.client, FIN_WAIT1, held.local, held.remote[1])
    return held


def fin_wait_2(pair: Pair) -> HeldSocket:
    """The client's end after a shutdown; the server has not closed."""
    client, accepted, listens = connected(pair)
    held = hold(pair.client, client, accepted, listens)
    client.shutdown(socket.SHUT_WR)
    wait_for_state(pair.client, FIN_WAIT2, held.local, held.remote[1])
    return held


def fin_wait_2_orphan(pair: Pair) -> HeldSocket:
    """The client's end after close(); the server has not closed."""
    held = fin_wait_2(pair)
    assert held.target is not None
    held.target.close()
    held.target = None
    return held


def close_wait(pair: Pair) -> HeldSocket:
    """The server's end after a shutdown by the client."""
    client, accepted, listens = connected(pair)
    held = hold(pair.server, accepted, client, listens)
    client.shutdown(socket.SHUT_WR)
    wait_for_state(pair.server, CLOSE_WAIT, held.local, held.remote[1])
    return held


def last_ack(pair: Pair) -> HeldSocket:
    """The server's end: both sides have closed, but the server's FIN waits for the window."""
    client, accepted, listens = connected(pair, server_options=SMALL, client_options=SMALL)
    held = hold(pair.server, accepted, client, listens)
    client.shutdown(socket.SHUT_WR)
    wait_for_state(pair.server, CLOSE_WAIT, held.local, held.remote[1])
    fill(accepted, client)
    accepted.close()
    held.target = None
    wait_for_state(pair.server, LAST_ACK, held.local, held.remote[1])
    return held


def closing(pair: Pair) -> HeldSocket:
    """The client's end: both sides have shut down, but the client's FIN waits for the window."""
    held = zero_window(pair)
    assert held.target is not None
    assert held.peer is not None
    held.target.shutdown(socket.SHUT_WR)
    held.peer.shutdown(socket.SHUT_WR)
    wait_for_state(pair.client, CLOSING, held.local, held.remote[1])
    return held


def time_wait(pair: Pair, *, v6: bool = False) -> HeldSocket:
    """The client's end after both sides have closed, the client first."""
    client, accepted, listens = connected(pair, v6=v6)
    held = hold(pair.client, client, accepted, listens)
    client.close()
    assert accepted.recv(1) == b""
    accepted.close()
    held.target = held.peer = None
    wait_for_state(pair.client, TIME_WAIT, held.local, held.remote[1])
    return held


def bound_inactive(pair: Pair) -> HeldSocket:
    """A TCP socket that is bound, but neither listening nor connected."""
    sock = pair.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind((pair.client4, next(_UNUSED_PORT)))
    local = _name(sock.getsockname())
    return HeldSocket(pair.client, local, ("0.0.0.0", 0), sock, cookie=cookie_of(sock))


def _datagram(
    pair: Pair, protocol: int, *, explicit: bool, v6: bool = False, mapped: bool = False
) -> HeldSocket:
    client_address = _mapped(pair.client6 if v6 else pair.client4, mapped)
    server_address = pair.server6 if v6 else pair.server4
    peer = pair.server.socket(_family(server_address), socket.SOCK_DGRAM, protocol)
    peer.bind((server_address, next(_UNUSED_PORT)))
    sock = pair.client.socket(_family(client_address), socket.SOCK_DGRAM, protocol)
    if explicit:
        sock.bind((client_address, next(_UNUSED_PORT)))
    sock.connect((_mapped(server_address, mapped), peer.getsockname()[1]))
    return _held_datagram(pair.client, sock, peer)


def _held_datagram(where: LabNamespace, sock: socket.socket, peer: socket.socket) -> HeldSocket:
    return HeldSocket(
        where,
        _name(sock.getsockname()),
        _name(sock.getpeername()),
        sock,
        peer,
        cookie=cookie_of(sock),
    )


def udp_explicit(pair: Pair, *, v6: bool = False, mapped: bool = False) -> HeldSocket:
    """A connected UDP socket on a port that the application chose. The peer is not connected."""
    return _datagram(pair, 0, explicit=True, v6=v6, mapped=mapped)


def udp_autobound(pair: Pair, *, v6: bool = False) -> HeldSocket:
    """A connected UDP socket on a port that the kernel chose."""
    return _datagram(pair, 0, explicit=False, v6=v6)


def udp_unconnected(pair: Pair, *, v6: bool = False) -> HeldSocket:
    """A bound UDP socket without a remote address."""
    address = pair.client6 if v6 else pair.client4
    sock = pair.client.socket(_family(address), socket.SOCK_DGRAM)
    sock.bind((address, next(_UNUSED_PORT)))
    local = _name(sock.getsockname())
    return HeldSocket(
        pair.client, local, ("::" if v6 else "0.0.0.0", 0), sock, cookie=cookie_of(sock)
    )


def udplite_connected(pair: Pair, *, v6: bool = False) -> HeldSocket:
    return _datagram(pair, IPPROTO_UDPLITE, explicit=True, v6=v6)


def reuseport(
    where: LabNamespace, address: str, kind: socket.SocketKind, count: int
) -> list[socket.socket]:
    """Open `count` sockets of one SO_REUSEPORT group. Stream sockets listen."""
    port = next(_UNUSED_PORT)
    group: list[socket.socket] = []
    for _number in range(count):
        sock = where.socket(_family(address), kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(8)
        group.append(sock)
    return group


def mptcp(pair: Pair) -> HeldSocket:
    """The client's end of an MPTCP connection. Raises OSError without MPTCP in the kernel."""
    for where in (pair.client, pair.server):
        where.sysctl("mptcp/enabled", 1)
    client, accepted, listens = connected(pair, protocol=IPPROTO_MPTCP)
    # After acknowledged data, the handshake is complete and the connection is no fallback.
    client.sendall(b"hello")
    assert accepted.recv(5) == b"hello"
    return hold(pair.client, client, accepted, listens)


def raw(pair: Pair) -> HeldSocket:
    """A connected raw socket for ICMP."""
    sock = pair.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.connect((pair.server4, 0))
    return HeldSocket(
        pair.client, (pair.client4, 1), (pair.server4, 0), sock, cookie=cookie_of(sock)
    )


# TCP states by the name that ss(8) uses.
TCP_STATES: dict[str, Callable[[Pair], HeldSocket]] = {
    "established": established,
    "syn-sent": syn_sent,
    "syn-recv": new_syn_recv,
    "fin-wait-1": fin_wait_1_orphan,
    "fin-wait-2": fin_wait_2,
    "time-wait": time_wait,
    "close-wait": close_wait,
    "last-ack": last_ack,
    "listening": listening,
    "closing": closing,
}
