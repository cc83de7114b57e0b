# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that make no progress, and connections that only seem stuck.

Each function opens a connection and returns its further steps. The caller waits before the late
step, so that a clock of the kernel that started earlier shows a longer time.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from . import states
from .connection_factory import (
    ConnectionFactory,
    ends,
    retransmits,
    state,
    unacknowledged,
    unread,
    window,
)
from .states import HeldSocket, wait_for_state
from .waiting import until

_SO_MAX_PACING_RATE = 47  # include/uapi/asm-generic/socket.h
_TCP_USER_TIMEOUT = 18  # include/uapi/linux/tcp.h
# Duration of an earlier problem in seconds, which must not count.
_EARLIER_S = 1.0
_KEEPALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
_KEEPALIVE_EVERY_SECOND = (
    _KEEPALIVE,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
)


def _no_step() -> None:
    pass


class StuckScenario(NamedTuple):
    """A connection, its early and late steps, and its traffic afterwards.

    repeated: called repeatedly, every `pause` seconds. Each call makes progress on the connection.
    """

    held: HeldSocket
    early: Callable[[], object] = _no_step
    late: Callable[[], object] = _no_step
    repeated: Callable[[], object] | None = None
    pause: float = 0.05


def _close(held: HeldSocket) -> None:
    ends(held)[0].close()
    held.target = None


def _wait_for_tcp_state(sock: socket.socket, number: int) -> None:
    until(lambda: state(sock) == number, f"state {number}")


def zero_window(factory: ConnectionFactory) -> StuckScenario:
    """The peer stops reading."""
    held = factory.client_end(small=True)
    return StuckScenario(held, late=lambda: states.fill(*ends(held)))


def zero_window_before_data(factory: ConnectionFactory) -> StuckScenario:
    """The window is already closed when the application sends data."""
    held = factory.client_end(small=True)
    target, _peer = ends(held)
    return StuckScenario(held, lambda: _fill_window(target), lambda: target.sendall(bytes(3000)))


def _fill_window(target: socket.socket) -> None:
    """Fill the window of the peer exactly. No data remains to be sent."""
    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _round in range(100):
        until(lambda: not unacknowledged(target), "all data acknowledged")
        if not window(target):
            return
        target.sendall(bytes(window(target)))
    raise AssertionError("the window does not close")


def zero_window_again_with_user_timeout(factory: ConnectionFactory) -> StuckScenario:
    """The same with TCP_USER_TIMEOUT, after an earlier zero window with pending data."""
    held = factory.client_end(small=True)
    target, peer = ends(held)

    def early() -> None:
        states.fill(target, peer)
        time.sleep(_EARLIER_S)
        until(
            lambda: _receive_all(peer) is None and not unacknowledged(target), "all data received"
        )
        _fill_window(target)
        # The kernel counts from the first probe ever sent.
        _set_user_timeout(target, 3700)

    return StuckScenario(held, early, lambda: target.sendall(bytes(3000)))


def zero_window_then_closed(factory: ConnectionFactory) -> StuckScenario:
    """The application closes while data waits for the window of the peer."""
    held = factory.client_end(small=True)
    return StuckScenario(held, lambda: states.fill(*ends(held)), lambda: _close(held))


def zero_window_both_done(factory: ConnectionFactory) -> StuckScenario:
    """The same, after the peer has shut down its side."""
    held = factory.server_end(small=True)
    target, peer = ends(held)

    def early() -> None:
        peer.shutdown(socket.SHUT_WR)
        _wait_for_tcp_state(target, states.CLOSE_WAIT)
        states.fill(target, peer)

    return StuckScenario(held, early, lambda: _close(held))


def _wait_until_acknowledged(sock: socket.socket) -> None:
    """Wait for the acknowledgement. Backoff may already delay retransmissions by many seconds."""
    until(lambda: not unacknowledged(sock), "data acknowledged", seconds=30)


def lost(factory: ConnectionFactory) -> StuckScenario:
    """Packets to the peer are lost, and the application sends data."""
    address = factory.add_server_address()
    held = factory.client_end(address)
    return StuckScenario(
        held, lambda: factory.pair.lose_packets_to(address), lambda: ends(held)[0].sendall(b"x")
    )


def lost_with_user_timeout(factory: ConnectionFactory) -> StuckScenario:
    """The same; TCP_USER_TIMEOUT brings the last timer forward."""
    steps = lost(factory)
    _set_user_timeout(ends(steps.held)[0], 2500)
    return steps


def _set_user_timeout(sock: socket.socket, milliseconds: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, milliseconds)


def lost_again(factory: ConnectionFactory) -> StuckScenario:
    """The same for the second time. Without timestamps, the backoff of the first remains."""
    address = factory.add_server_address()
    held = factory.client_end(address)
    target, _peer = ends(held)

    def early() -> None:
        _retransmit_once(factory, address, target)
        factory.pair.lose_packets_to(address)

    return StuckScenario(held, early, lambda: target.sendall(b"x"))


def _retransmit_once(factory: ConnectionFactory, address: str, target: socket.socket) -> None:
    """Lose data first; a retransmission arrives."""
    factory.pair.lose_packets_to(address)
    target.sendall(b"x")
    time.sleep(_EARLIER_S)
    factory.pair.deliver_packets_to(address)
    _wait_until_acknowledged(target)


def lost_then_closed(factory: ConnectionFactory) -> StuckScenario:
    """The application closes while data is being retransmitted."""
    address = factory.add_server_address()
    held = factory.client_end(address)

    def early() -> None:
        factory.pair.lose_packets_to(address)
        ends(held)[0].sendall(b"x")

    return StuckScenario(held, early, lambda: _close(held))


def fin_lost(factory: ConnectionFactory) -> StuckScenario:
    """Packets to the peer are lost, and the application closes."""
    address = factory.add_server_address()
    held = factory.client_end(address)
    return StuckScenario(held, lambda: factory.pair.lose_packets_to(address), lambda: _close(held))


def fin_lost_with_user_timeout(factory: ConnectionFactory) -> StuckScenario:
    """The same with TCP_USER_TIMEOUT, after an earlier loss."""
    address = factory.add_server_address()
    held = factory.client_end(address)
    target, _peer = ends(held)

    def early() -> None:
        _retransmit_once(factory, address, target)
        factory.pair.lose_packets_to(address)
        _set_user_timeout(target, 1500)

    return StuckScenario(held, early, lambda: _close(held))


def lost_for_a_moment(factory: ConnectionFactory) -> StuckScenario:
    """Data is lost at first; a retransmission arrives."""
    address = factory.add_server_address()
    held = factory.client_end(address)
    target, _peer = ends(held)

    def early() -> None:
        factory.pair.lose_packets_to(address)
        target.sendall(b"x")
        until(lambda: retransmits(target), "a retransmission", seconds=30)
        factory.pair.deliver_packets_to(address)
        _wait_until_acknowledged(target)

    return StuckScenario(held, early)


def syn_lost(factory: ConnectionFactory) -> StuckScenario:
    """The SYN gets no reply."""
    client = factory.socket()
    client.setblocking(False)
    client.bind((factory.client_address, 0))
    local = client.getsockname()
    remote = (factory.silent_address, 7)

    def late() -> None:
        with contextlib.suppress(BlockingIOError):
            client.connect(remote)

    return StuckScenario(
        HeldSocket(factory.pair.client, (local[0], local[1]), remote, client), late=late
    )


def syn_lost_with_user_timeout(factory: ConnectionFactory) -> StuckScenario:
    """The same; TCP_USER_TIMEOUT brings the last timer forward."""
    steps = syn_lost(factory)
    target = steps.held.target
    assert target is not None
    _set_user_timeout(target, 700)
    return steps


def not_closed(factory: ConnectionFactory) -> StuckScenario:
    """The peer has shut down its side; the application does not close."""
    held = factory.server_end()
    target, peer = ends(held)

    def late() -> None:
        peer.shutdown(socket.SHUT_WR)
        _wait_for_tcp_state(target, states.CLOSE_WAIT)

    return StuckScenario(held, late=late)


def not_closed_but_sends(factory: ConnectionFactory) -> StuckScenario:
    """The peer has shut down its side; the application continues to send."""
    steps = not_closed(factory)
    target, peer = ends(steps.held)
    return steps._replace(repeated=lambda: _send_and_receive(target, peer))


def _send_and_receive(sender: socket.socket, receiver: socket.socket) -> None:
    sender.sendall(b"x")
    receiver.recv(1)
    until(lambda: not unacknowledged(sender), "data acknowledged")


def half_closed(factory: ConnectionFactory) -> StuckScenario:
    """The application has shut down its side, the peer has not."""
    held = factory.client_end()
    target, _peer = ends(held)

    def late() -> None:
        target.shutdown(socket.SHUT_WR)
        _wait_for_tcp_state(target, states.FIN_WAIT2)

    return StuckScenario(held, late=late)


def half_closed_but_receives(factory: ConnectionFactory) -> StuckScenario:
    """The application has shut down its side; the peer continues to send."""
    steps = half_closed(factory)
    target, peer = ends(steps.held)
    return steps._replace(repeated=lambda: _send_and_receive(peer, target))


def peer_open(factory: ConnectionFactory) -> StuckScenario:
    """The application has closed, the peer has not; ended by the kernel (tcp_fin_timeout)."""
    held = factory.client_end()

    def late() -> None:
        _close(held)
        wait_for_state(held.where, states.FIN_WAIT2, held.local, held.remote[1])

    return StuckScenario(held, late=late)


def idle(factory: ConnectionFactory) -> StuckScenario:
    """No data in either direction."""
    return StuckScenario(factory.client_end())


def idle_with_keepalive(factory: ConnectionFactory) -> StuckScenario:
    """No data in either direction, and keepalive probes start after two hours."""
    held = factory.client_end()
    ends(held)[0].setsockopt(*_KEEPALIVE)
    return StuckScenario(held)


def keepalive_answered(factory: ConnectionFactory) -> StuckScenario:
    """No data in either direction, and the peer answers keepalive probes."""
    held = factory.client_end()
    for option in _KEEPALIVE_EVERY_SECOND:
        ends(held)[0].setsockopt(*option)
    return StuckScenario(held)


def peer_keepalive(factory: ConnectionFactory) -> StuckScenario:
    """Only keepalive probes of the peer, which TCP_INFO of this end does not record."""
    held = factory.client_end()
    for option in _KEEPALIVE_EVERY_SECOND:
        ends(held)[1].setsockopt(*option)
    return StuckScenario(held)


def request_and_response(factory: ConnectionFactory) -> StuckScenario:
    """Requests are answered."""
    held = factory.client_end()
    target, peer = ends(held)

    def repeated() -> None:
        _send_and_receive(target, peer)
        _send_and_receive(peer, target)

    return StuckScenario(held, repeated=repeated)


def sending_only(factory: ConnectionFactory) -> StuckScenario:
    """This end sends, the peer only acknowledges."""
    held = factory.client_end()
    target, peer = ends(held)
    return StuckScenario(held, repeated=lambda: _send_and_receive(target, peer))


def slow_reader(factory: ConnectionFactory) -> StuckScenario:
    """The peer reads at intervals: its window opens and closes."""
    held = factory.client_end(small=True)
    target, peer = ends(held)
    target.setblocking(False)

    return StuckScenario(held, repeated=lambda: _receive_and_send(target, peer), pause=0.3)


def bulk(factory: ConnectionFactory) -> StuckScenario:
    """Continuous transfer at the maximum rate."""
    held = factory.client_end()
    target, peer = ends(held)
    target.setblocking(False)
    # Limit the load of the machine.
    target.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, 4_000_000)
    return StuckScenario(held, repeated=lambda: _receive_and_send(target, peer), pause=0)


def _receive_and_send(target: socket.socket, peer: socket.socket) -> None:
    _receive_all(peer)
    _send_possible(target)
    until(lambda: unread(peer), "more data received: the window was open")


def _receive_all(sock: socket.socket) -> None:
    """Empty the receive queue."""
    while unread(sock):
        sock.recv(1 << 18)


def _send_possible(sock: socket.socket) -> None:
    """Send until the non-blocking socket accepts no more data."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))


def not_accepted(factory: ConnectionFactory) -> StuckScenario:
    """In the accept queue of a server."""
    _client, _accepted, listens = factory.connected()
    late = factory.socket()
    late.connect((factory.server_address, listens.getsockname()[1]))
    here, there = late.getpeername(), late.getsockname()
    held = HeldSocket(factory.pair.server, here[:2], there[:2], None, late, [listens])
    return StuckScenario(held)


def not_accepted_and_done(factory: ConnectionFactory) -> StuckScenario:
    """The same, and the client shuts down its side."""
    held = not_accepted(factory).held
    assert held.peer is not None
    peer = held.peer

    def late() -> None:
        peer.shutdown(socket.SHUT_WR)
        _wait_for_tcp_state(peer, states.FIN_WAIT2)

    return StuckScenario(held, late=late)


def half_open(factory: ConnectionFactory) -> StuckScenario:
    """A half-open connection: a request socket (SYN_RECV)."""
    return StuckScenario(states.new_syn_recv(factory.pair, v6=factory.kind == "inet6"))


def time_wait(factory: ConnectionFactory) -> StuckScenario:
    """A connection in TIME_WAIT."""
    return StuckScenario(states.time_wait(factory.pair, v6=factory.kind == "inet6"))


def listening(factory: ConnectionFactory) -> StuckScenario:
    """A listener."""
    return StuckScenario(states.listening(factory.pair, v6=factory.kind == "inet6"))
