# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that are lost with destroyed connections."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

import pytest

from tests.kernel.drain.background import run
from tests.kernel.releases import may_xfail_stuck_orphan
from tests.support.topologies import states
from tests.support.topologies.topology import Pair
from tests.support.topologies.waiting import until

_SIOCOUTQNSD = 0x894B  # include/uapi/linux/sockios.h
_TIOCOUTQ = 0x5411
_FIONREAD = 0x541B


def test_lost_bytes_equal_ioctls(pair: Pair) -> None:
    """SIOCOUTQ counts unacknowledged bytes, SIOCOUTQNSD unsent and FIONREAD unread ones."""
    held = states.zero_window(pair)
    assert held.target is not None
    assert held.peer is not None
    held.peer.sendall(bytes(1234))
    target = held.target
    until(lambda: _ioctl(target, _FIONREAD) == 1234, "the peer's bytes arrived")
    unsent = _ioctl(target, _SIOCOUTQNSD)
    queued = _ioctl(target, _TIOCOUTQ)
    report = run(pair.client, {"remote": pair.server4}, grace=0.0)
    assert unsent > 0
    assert report.progress.lost == (unsent, queued - unsent, 1234)


@pytest.mark.parametrize("name", ["close-wait", "fin-wait-2"])
def test_fin_is_not_a_lost_byte(pair: Pair, name: str) -> None:
    held = states.TCP_STATES[name](pair)
    report = run(held.where, {"state": name}, grace=0.0)
    ((result,), (details,)) = report.results, report.details.values()
    assert result.socket.recv_queue == (1 if name == "close-wait" else 0)
    assert details.lost == (0, 0, 0)


@may_xfail_stuck_orphan
def test_lost_bytes_equal_bytes_missing_at_peer(pair: Pair) -> None:
    """A FIN behind the data counts as one byte of the send queue.

    Some of the unacknowledged bytes may have arrived.
    """
    client, accepted, _listens = states.connected(
        pair, server_options=states.SMALL, client_options=states.SMALL
    )
    written = states.fill(client, accepted)
    local, remote = client.getsockname(), client.getpeername()
    client.close()
    states.wait_for_state(pair.client, states.FIN_WAIT1, local, remote[1])
    report = run(pair.client, {"remote": pair.server4}, grace=0.0)
    assert report.counts == {"destroyed": 1}
    received = 0
    with contextlib.suppress(ConnectionResetError):
        while part := accepted.recv(1 << 20):
            received += len(part)
    lost = report.progress.lost
    assert lost.unsent > 0
    missing = written - received
    assert lost.unsent <= missing <= lost.unsent + lost.unacknowledged


def _ioctl(sock: socket.socket, request: int) -> int:
    (value,) = struct.unpack("=i", fcntl.ioctl(sock, request, bytes(4)))
    return int(value)
