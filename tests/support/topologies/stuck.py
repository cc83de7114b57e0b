# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that make no progress, and such that only look like it.

Each function connects and gives the Steps that lead to what it is about. Time passes before the
last one, so that every clock of the kernel that does not begin with it shows too much.
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
# Seconds that something earlier lasted, which must not be counted.
_ONCE = 1.0
_KEEPALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
_EACH_SECOND = (
    _KEEPALIVE,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
)


def _nothing() -> None:
    pass


class StuckScenario(NamedTuple):
    """A connection, what happens to it early, what happens late, and what then goes on on it.

    turn is to be repeated; when it is complete, the connection has made progress since it began.
    """

    held: HeldSocket
    early: Callable[[], object] = _nothing
    late: Callable[[], object] = _nothing
    repeated: Callable[[], object] | None = None
    pause: float = 0.05


def _close(held: HeldSocket) -> None:
    ends(held)[0].close()
    held.target = None


def _reached(sock: socket.socket, number: int) -> None:
    until(lambda: state(sock) == number, f"state {number}")


def window_shut(factory: ConnectionFactory) -> StuckScenario:
    """The peer has stopped reading."""
    held = factory.held(small=True)
    return StuckScenario(held, late=lambda: states.fill(*ends(held)))


def window_shut_before_data(factory: ConnectionFactory) -> StuckScenario:
    """The window has been shut for some time when there is something to send."""
    held = factory.held(small=True)
    target, _peer = ends(held)
    return StuckScenario(held, lambda: _shut_exactly(target), lambda: target.sendall(bytes(3000)))


def _shut_exactly(target: socket.socket) -> None:
    """Send just so much that the peer's window is shut, and nothing is left to send."""
    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _round in range(100):
        until(lambda: not unacknowledged(target), "all is acknowledged")
        if not window(target):
            return
        target.sendall(bytes(window(target)))
    raise AssertionError("the window does not shut")


def window_shut_again_with_user_timeout(factory: ConnectionFactory) -> StuckScenario:
    """The same, the window was shut before under waiting data, and TCP_USER_TIMEOUT is set."""
    held = factory.held(small=True)
    target, peer = ends(held)

    def early() -> None:
        states.fill(target, peer)
        time.sleep(_ONCE)
        until(lambda: _drain(peer) is None and not unacknowledged(target), "all has arrived")
        _shut_exactly(target)
        # Counted from the first probe of all.
        _give_up_early(target, 3700)

    return StuckScenario(held, early, lambda: target.sendall(bytes(3000)))


def window_shut_then_closed(factory: ConnectionFactory) -> StuckScenario:
    """Data has been waiting for the peer's window when the application closes."""
    held = factory.held(small=True)
    return StuckScenario(held, lambda: states.fill(*ends(held)), lambda: _close(held))


def window_shut_both_done(factory: ConnectionFactory) -> StuckScenario:
    """The same, and the peer was done before."""
    held = factory.held_by_server(small=True)
    target, peer = ends(held)

    def early() -> None:
        peer.shutdown(socket.SHUT_WR)
        _reached(target, states.CLOSE_WAIT)
        states.fill(target, peer)

    return StuckScenario(held, early, lambda: _close(held))


def _acknowledged(sock: socket.socket) -> None:
    """Wait for as long as retransmissions may need that were far apart already."""
    until(lambda: not unacknowledged(sock), "it is acknowledged", seconds=30)


def lost(factory: ConnectionFactory) -> StuckScenario:
    """Nothing reaches the peer any more, and there is something to send."""
    address = factory.add_server_address()
    held = factory.held(address)
    return StuckScenario(
        held, lambda: factory.pair.lose_packets_to(address), lambda: ends(held)[0].sendall(b"x")
    )


def lost_with_user_timeout(factory: ConnectionFactory) -> StuckScenario:
    """The same; TCP_USER_TIMEOUT brings the last timer forward."""
    steps = lost(factory)
    _give_up_early(ends(steps.held)[0], 2500)
    return steps


def _give_up_early(sock: socket.socket, milliseconds: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, milliseconds)


def lost_again(factory: ConnectionFactory) -> StuckScenario:
    """The same for the second time. Without timestamps, what backed off at the first stays so."""
    address = factory.add_server_address()
    held = factory.held(address)
    target, _peer = ends(held)

    def early() -> None:
        _lose_once(factory, address, target)
        factory.pair.lose_packets_to(address)

    return StuckScenario(held, early, lambda: target.sendall(b"x"))


def _lose_once(factory: ConnectionFactory, address: str, target: socket.socket) -> None:
    """Data that is lost at first arrives at a later attempt."""
    factory.pair.lose_packets_to(address)
    target.sendall(b"x")
    time.sleep(_ONCE)
    factory.pair.deliver_packets_to(address)
    _acknowledged(target)


def lost_then_closed(factory: ConnectionFactory) -> StuckScenario:
    """Data has been retransmitted for some time when the application closes."""
    address = factory.add_server_address()
    held = factory.held(address)

    def early() -> None:
        factory.pair.lose_packets_to(address)
        ends(held)[0].sendall(b"x")

    return StuckScenario(held, early, lambda: _close(held))


def fin_lost(factory: ConnectionFactory) -> StuckScenario:
    """Nothing reaches the peer any more, and the application closes."""
    address = factory.add_server_address()
    held = factory.held(address)
    return StuckScenario(held, lambda: factory.pair.lose_packets_to(address), lambda: _close(held))


def fin_lost_with_user_timeout(factory: ConnectionFactory) -> StuckScenario:
    """The same with TCP_USER_TIMEOUT, and it had to wait once before."""
    address = factory.add_server_address()
    held = factory.held(address)
    target, _peer = ends(held)

    def early() -> None:
        _lose_once(factory, address, target)
        factory.pair.lose_packets_to(address)
        _give_up_early(target, 1500)

    return StuckScenario(held, early, lambda: _close(held))


def lost_for_a_moment(factory: ConnectionFactory) -> StuckScenario:
    """Data that is lost at first arrives a little later."""
    address = factory.add_server_address()
    held = factory.held(address)
    target, _peer = ends(held)

    def early() -> None:
        factory.pair.lose_packets_to(address)
        target.sendall(b"x")
        until(lambda: retransmits(target), "a retransmission", seconds=30)
        factory.pair.deliver_packets_to(address)
        _acknowledged(target)

    return StuckScenario(held, early)


def syn_lost(factory: ConnectionFactory) -> StuckScenario:
    """Nobody answers the SYN."""
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
    _give_up_early(target, 700)
    return steps


def not_closed(factory: ConnectionFactory) -> StuckScenario:
    """The peer is done, the application does not close."""
    held = factory.held_by_server()
    target, peer = ends(held)

    def late() -> None:
        peer.shutdown(socket.SHUT_WR)
        _reached(target, states.CLOSE_WAIT)

    return StuckScenario(held, late=late)


def not_closed_but_sends(factory: ConnectionFactory) -> StuckScenario:
    """The peer is done, and the application goes on sending."""
    steps = not_closed(factory)
    target, peer = ends(steps.held)
    return steps._replace(repeated=lambda: _send(target, peer))


def _send(one: socket.socket, other: socket.socket) -> None:
    one.sendall(b"x")
    other.recv(1)
    until(lambda: not unacknowledged(one), "it is acknowledged")


def half_closed(factory: ConnectionFactory) -> StuckScenario:
    """The application has said that it is done, the peer has not."""
    held = factory.held()
    target, _peer = ends(held)

    def late() -> None:
        target.shutdown(socket.SHUT_WR)
        _reached(target, states.FIN_WAIT2)

    return StuckScenario(held, late=late)


def half_closed_but_receives(factory: ConnectionFactory) -> StuckScenario:
    """The application has said that it is done, and the peer goes on sending."""
    steps = half_closed(factory)
    target, peer = ends(steps.held)
    return steps._replace(repeated=lambda: _send(peer, target))


def peer_open(factory: ConnectionFactory) -> StuckScenario:
    """The application has closed, the peer has not; the kernel will forget (tcp_fin_timeout)."""
    held = factory.held()

    def late() -> None:
        _close(held)
        wait_for_state(held.where, states.FIN_WAIT2, held.local, held.remote[1])

    return StuckScenario(held, late=late)


def idle(factory: ConnectionFactory) -> StuckScenario:
    """Nobody says anything."""
    return StuckScenario(factory.held())


def idle_with_keepalive(factory: ConnectionFactory) -> StuckScenario:
    """Nobody says anything, and keepalive will ask in two hours."""
    held = factory.held()
    ends(held)[0].setsockopt(*_KEEPALIVE)
    return StuckScenario(held)


def keepalive_answered(factory: ConnectionFactory) -> StuckScenario:
    """Nobody says anything, and keepalive probes are answered."""
    held = factory.held()
    for option in _EACH_SECOND:
        ends(held)[0].setsockopt(*option)
    return StuckScenario(held)


def peer_keepalive(factory: ConnectionFactory) -> StuckScenario:
    """Nobody says anything but the peer's keepalive, which no clock of this end takes note of."""
    held = factory.held()
    for option in _EACH_SECOND:
        ends(held)[1].setsockopt(*option)
    return StuckScenario(held)


def request_and_response(factory: ConnectionFactory) -> StuckScenario:
    """Every question is answered."""
    held = factory.held()
    target, peer = ends(held)

    def repeated() -> None:
        _send(target, peer)
        _send(peer, target)

    return StuckScenario(held, repeated=repeated)


def sending_only(factory: ConnectionFactory) -> StuckScenario:
    """This end sends, the other has nothing to say but that it arrived."""
    held = factory.held()
    target, peer = ends(held)
    return StuckScenario(held, repeated=lambda: _send(target, peer))


def slow_reader(factory: ConnectionFactory) -> StuckScenario:
    """The peer reads now and then: its window opens and shuts."""
    held = factory.held(small=True)
    target, peer = ends(held)
    target.setblocking(False)

    return StuckScenario(held, repeated=lambda: _read_and_more(target, peer), pause=0.3)


def bulk(factory: ConnectionFactory) -> StuckScenario:
    """As much as goes, all the time."""
    held = factory.held()
    target, peer = ends(held)
    target.setblocking(False)
    # Not more than the machine can take.
    target.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, 4_000_000)
    return StuckScenario(held, repeated=lambda: _read_and_more(target, peer), pause=0)


def _read_and_more(target: socket.socket, peer: socket.socket) -> None:
    _drain(peer)
    _offer(target)
    until(lambda: unread(peer), "more arrives: the window was open")


def _drain(sock: socket.socket) -> None:
    """Receive all that has arrived."""
    while unread(sock):
        sock.recv(1 << 18)


def _offer(sock: socket.socket) -> None:
    """Send as much as is taken; the socket does not block."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))


def not_accepted(factory: ConnectionFactory) -> StuckScenario:
    """In the queue of a server that has other things to do."""
    _client, _accepted, listens = factory.connected()
    late = factory.socket()
    late.connect((factory.server_address, listens.getsockname()[1]))
    here, there = late.getpeername(), late.getsockname()
    held = HeldSocket(factory.pair.server, here[:2], there[:2], None, late, [listens])
    return StuckScenario(held)


def not_accepted_and_done(factory: ConnectionFactory) -> StuckScenario:
    """The same, and the client does not wait for it."""
    held = not_accepted(factory).held
    assert held.peer is not None
    peer = held.peer

    def late() -> None:
        peer.shutdown(socket.SHUT_WR)
        _reached(peer, states.FIN_WAIT2)

    return StuckScenario(held, late=late)


def half_open(factory: ConnectionFactory) -> StuckScenario:
    """A handshake that is not complete, and has no socket yet."""
    return StuckScenario(states.new_syn_recv(factory.pair, v6=factory.kind == "inet6"))


def time_wait(factory: ConnectionFactory) -> StuckScenario:
    """In TIME_WAIT."""
    return StuckScenario(states.time_wait(factory.pair, v6=factory.kind == "inet6"))


def listening(factory: ConnectionFactory) -> StuckScenario:
    """A listener."""
    return StuckScenario(states.listening(factory.pair, v6=factory.kind == "inet6"))
