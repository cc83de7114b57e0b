# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drains with until=sent: a connection is destroyed once its data has arrived."""

from __future__ import annotations

import socket

import pytest

from tests.kernel.drain.background import Start, run
from tests.support.topologies import proc_net, states
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import Pair
from tests.support.topologies.waiting import until


def test_connection_is_destroyed_once_quiescent(pair: Pair, start: Start) -> None:
    quiet, unread, silent = (states.established(pair) for _index in range(3))
    for held in (quiet, unread):
        assert held.peer is not None
        held.peer.sendall(b"0123456789")
    assert quiet.target is not None
    assert quiet.peer is not None
    assert silent.peer is not None
    assert unread.target is not None
    # Data sent during the drain arrives too.
    running = start(pair.client, {"remote": pair.server4}, until="sent", settle=0.4)
    quiet.target.sendall(b"an answer")
    assert quiet.target.recv(100) == b"0123456789"

    def is_reset() -> bool:
        assert silent.peer is not None
        try:
            silent.peer.send(b"")
            return not silent.peer.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    until(is_reset, "the silent connection is reset before the grace ends")
    until(lambda: not _is_established(pair, quiet), "the other connection is quiescent too")
    report = running.end_grace()
    assert quiet.peer.recv(100) == b"an answer"
    with pytest.raises(ConnectionResetError):
        quiet.peer.recv(1)
    assert report.counts == {"destroyed": 3}
    assert report.progress.sent == 2
    details = {key[2]: entry for key, entry in report.details.items()}
    assert details[unread.cookie].sent is False
    assert report.progress.lost == (0, 0, 10)
    assert not report.failed


def _is_established(pair: Pair, held: HeldSocket) -> bool:
    return any(
        (line.state, line.local_port) == (states.ESTABLISHED, held.local[1])
        for line in proc_net.read(pair.client)
    )


def test_destroy_false_ends_when_all_are_quiescent(pair: Pair) -> None:
    held = [states.established(pair) for _index in range(2)]
    report = run(
        pair.client,
        {"remote": pair.server4},
        until="sent",
        settle=0.3,
        grace=20.0,
        destroy=False,
    )
    assert {cookie for _name, _protocol, cookie in report.left} == {
        connection.cookie for connection in held
    }
    assert report.drained
    assert not report.changed
    assert report.elapsed < 10


def test_quiescent_udp_is_destroyed(pair: Pair) -> None:
    states.udp_autobound(pair)
    match = {"protocol": "udp", "state": "connected"}
    report = run(pair.client, match, grace=20.0, until="sent", settle=0.3)
    assert report.counts == {"destroyed": 1}
    assert report.progress.sent == 1
    assert 0.3 <= report.elapsed < 10
