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
from .bed import Bed, ends, retransmits, state, unacknowledged, unread, window
from .states import Held, wait_for
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


class Steps(NamedTuple):
    """A connection, what happens to it early, what happens late, and what then goes on on it.

    turn is to be repeated; when it is complete, the connection has made progress since it began.
    """

    held: Held
    early: Callable[[], object] = _nothing
    late: Callable[[], object] = _nothing
    turn: Callable[[], object] | None = None
    pause: float = 0.05


def _close(held: Held) -> None:
    ends(held)[0].close()
    held.target = None


def _reached(sock: socket.socket, number: int) -> None:
    until(lambda: state(sock) == number, f"state {number}")


def window_shut(bed: Bed) -> Steps:
    """The peer has stopped reading."""
    held = bed.held(small=True)
    return Steps(held, late=lambda: states.fill(*ends(held)))


def window_shut_before_data(bed: Bed) -> Steps:
    """The window has been shut for some time when there is something to send."""
    held = bed.held(small=True)
    target, _peer = ends(held)
    return Steps(held, lambda: _shut_exactly(target), lambda: target.sendall(bytes(3000)))


def _shut_exactly(target: socket.socket) -> None:
    """Send just so much that the peer's window is shut, and nothing is left to send."""
    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _round in range(100):
        until(lambda: not unacknowledged(target), "all is acknowledged")
        if not window(target):
            return
        target.sendall(bytes(window(target)))
    raise AssertionError("the window does not shut")


def window_shut_again_with_user_timeout(bed: Bed) -> Steps:
    """The same, the window was shut before under waiting data, and TCP_USER_TIMEOUT is set."""
    held = bed.held(small=True)
    target, peer = ends(held)

    def early() -> None:
        states.fill(target, peer)
        time.sleep(_ONCE)
        until(lambda: _drain(peer) is None and not unacknowledged(target), "all has arrived")
        _shut_exactly(target)
        # Counted from the first probe of all.
        _give_up_early(target, 3700)

    return Steps(held, early, lambda: target.sendall(bytes(3000)))


def window_shut_then_closed(bed: Bed) -> Steps:
    """Data has been waiting for the peer's window when the application closes."""
    held = bed.held(small=True)
    return Steps(held, lambda: states.fill(*ends(held)), lambda: _close(held))


def window_shut_both_done(bed: Bed) -> Steps:
    """The same, and the peer was done before."""
    held = bed.held_by_server(small=True)
    target, peer = ends(held)

    def early() -> None:
        peer.shutdown(socket.SHUT_WR)
        _reached(target, states.CLOSE_WAIT)
        states.fill(target, peer)

    return Steps(held, early, lambda: _close(held))


def _acknowledged(sock: socket.socket) -> None:
    """Wait for as long as retransmissions may need that were far apart already."""
    until(lambda: not unacknowledged(sock), "it is acknowledged", seconds=30)


def lost(bed: Bed) -> Steps:
    """Nothing reaches the peer any more, and there is something to send."""
    address = bed.mortal()
    held = bed.held(address)
    return Steps(held, lambda: bed.pair.lose(address), lambda: ends(held)[0].sendall(b"x"))


def lost_with_user_timeout(bed: Bed) -> Steps:
    """The same; TCP_USER_TIMEOUT brings the last timer forward."""
    steps = lost(bed)
    _give_up_early(ends(steps.held)[0], 2500)
    return steps


def _give_up_early(sock: socket.socket, milliseconds: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, milliseconds)


def lost_again(bed: Bed) -> Steps:
    """The same for the second time. Without timestamps, what backed off at the first stays so."""
    address = bed.mortal()
    held = bed.held(address)
    target, _peer = ends(held)

    def early() -> None:
        _lose_once(bed, address, target)
        bed.pair.lose(address)

    return Steps(held, early, lambda: target.sendall(b"x"))


def _lose_once(bed: Bed, address: str, target: socket.socket) -> None:
    """Data that is lost at first arrives at a later attempt."""
    bed.pair.lose(address)
    target.sendall(b"x")
    time.sleep(_ONCE)
    bed.pair.deliver(address)
    _acknowledged(target)


def lost_then_closed(bed: Bed) -> Steps:
    """Data has been retransmitted for some time when the application closes."""
    address = bed.mortal()
    held = bed.held(address)

    def early() -> None:
        bed.pair.lose(address)
        ends(held)[0].sendall(b"x")

    return Steps(held, early, lambda: _close(held))


def fin_lost(bed: Bed) -> Steps:
    """Nothing reaches the peer any more, and the application closes."""
    address = bed.mortal()
    held = bed.held(address)
    return Steps(held, lambda: bed.pair.lose(address), lambda: _close(held))


def fin_lost_with_user_timeout(bed: Bed) -> Steps:
    """The same with TCP_USER_TIMEOUT, and it had to wait once before."""
    address = bed.mortal()
    held = bed.held(address)
    target, _peer = ends(held)

    def early() -> None:
        _lose_once(bed, address, target)
        bed.pair.lose(address)
        _give_up_early(target, 1500)

    return Steps(held, early, lambda: _close(held))


def lost_for_a_moment(bed: Bed) -> Steps:
    """Data that is lost at first arrives a little later."""
    address = bed.mortal()
    held = bed.held(address)
    target, _peer = ends(held)

    def early() -> None:
        bed.pair.lose(address)
        target.sendall(b"x")
        until(lambda: retransmits(target), "a retransmission", seconds=30)
        bed.pair.deliver(address)
        _acknowledged(target)

    return Steps(held, early)


def syn_lost(bed: Bed) -> Steps:
    """Nobody answers the SYN."""
    client = bed.socket()
    client.setblocking(False)
    client.bind((bed.client_address, 0))
    local = client.getsockname()
    remote = (bed.silent_address, 7)

    def late() -> None:
        with contextlib.suppress(BlockingIOError):
            client.connect(remote)

    return Steps(Held(bed.pair.client, (local[0], local[1]), remote, client), late=late)


def syn_lost_with_user_timeout(bed: Bed) -> Steps:
    """The same; TCP_USER_TIMEOUT brings the last timer forward."""
    steps = syn_lost(bed)
    target = steps.held.target
    assert target is not None
    _give_up_early(target, 700)
    return steps


def not_closed(bed: Bed) -> Steps:
    """The peer is done, the application does not close."""
    held = bed.held_by_server()
    target, peer = ends(held)

    def late() -> None:
        peer.shutdown(socket.SHUT_WR)
        _reached(target, states.CLOSE_WAIT)

    return Steps(held, late=late)


def not_closed_but_sends(bed: Bed) -> Steps:
    """The peer is done, and the application goes on sending."""
    steps = not_closed(bed)
    target, peer = ends(steps.held)
    return steps._replace(turn=lambda: _send(target, peer))


def _send(one: socket.socket, other: socket.socket) -> None:
    one.sendall(b"x")
    other.recv(1)
    until(lambda: not unacknowledged(one), "it is acknowledged")


def half_closed(bed: Bed) -> Steps:
    """The application has said that it is done, the peer has not."""
    held = bed.held()
    target, _peer = ends(held)

    def late() -> None:
        target.shutdown(socket.SHUT_WR)
        _reached(target, states.FIN_WAIT2)

    return Steps(held, late=late)


def half_closed_but_receives(bed: Bed) -> Steps:
    """The application has said that it is done, and the peer goes on sending."""
    steps = half_closed(bed)
    target, peer = ends(steps.held)
    return steps._replace(turn=lambda: _send(peer, target))


def peer_stays(bed: Bed) -> Steps:
    """The application has closed, the peer has not; the kernel will forget (tcp_fin_timeout)."""
    held = bed.held()

    def late() -> None:
        _close(held)
        wait_for(held.where, states.FIN_WAIT2, held.local, held.remote[1])

    return Steps(held, late=late)


def nothing_said(bed: Bed) -> Steps:
    """Nobody says anything."""
    return Steps(bed.held())


def pool(bed: Bed) -> Steps:
    """Nobody says anything, and keepalive will ask in two hours."""
    held = bed.held()
    ends(held)[0].setsockopt(*_KEEPALIVE)
    return Steps(held)


def asked_each_second(bed: Bed) -> Steps:
    """Nobody says anything, and keepalive probes are answered."""
    held = bed.held()
    for option in _EACH_SECOND:
        ends(held)[0].setsockopt(*option)
    return Steps(held)


def asking_peer(bed: Bed) -> Steps:
    """Nobody says anything but the peer's keepalive, which no clock of this end takes note of."""
    held = bed.held()
    for option in _EACH_SECOND:
        ends(held)[1].setsockopt(*option)
    return Steps(held)


def talking(bed: Bed) -> Steps:
    """Every question is answered."""
    held = bed.held()
    target, peer = ends(held)

    def turn() -> None:
        _send(target, peer)
        _send(peer, target)

    return Steps(held, turn=turn)


def pushing(bed: Bed) -> Steps:
    """This end sends, the other has nothing to say but that it arrived."""
    held = bed.held()
    target, peer = ends(held)
    return Steps(held, turn=lambda: _send(target, peer))


def slow_reader(bed: Bed) -> Steps:
    """The peer reads now and then: its window opens and shuts."""
    held = bed.held(small=True)
    target, peer = ends(held)
    target.setblocking(False)

    return Steps(held, turn=lambda: _read_and_more(target, peer), pause=0.3)


def bulk(bed: Bed) -> Steps:
    """As much as goes, all the time."""
    held = bed.held()
    target, peer = ends(held)
    target.setblocking(False)
    # Not more than the machine can take.
    target.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, 4_000_000)
    return Steps(held, turn=lambda: _read_and_more(target, peer), pause=0)


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


def not_accepted(bed: Bed) -> Steps:
    """In the queue of a server that has other things to do."""
    _client, _accepted, listens = bed.connected()
    late = bed.socket()
    late.connect((bed.server_address, listens.getsockname()[1]))
    here, there = late.getpeername(), late.getsockname()
    held = Held(bed.pair.server, here[:2], there[:2], None, late, [listens])
    return Steps(held)


def not_accepted_and_done(bed: Bed) -> Steps:
    """The same, and the client does not wait for it."""
    held = not_accepted(bed).held
    assert held.peer is not None
    peer = held.peer

    def late() -> None:
        peer.shutdown(socket.SHUT_WR)
        _reached(peer, states.FIN_WAIT2)

    return Steps(held, late=late)


def half_open(bed: Bed) -> Steps:
    """A handshake that is not complete, and has no socket yet."""
    return Steps(states.new_syn_recv(bed.pair, v6=bed.kind == "inet6"))


def ended(bed: Bed) -> Steps:
    """In TIME_WAIT."""
    return Steps(states.time_wait(bed.pair, v6=bed.kind == "inet6"))


def waiting(bed: Bed) -> Steps:
    """A listener."""
    return Steps(states.listening(bed.pair, v6=bed.kind == "inet6"))
