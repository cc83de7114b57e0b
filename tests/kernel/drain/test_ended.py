# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connections count as ended."""

from __future__ import annotations

import ctypes
import socket
import struct

import pytest

from tests.kernel.drain.background import Start, close, cookies, run
from tests.kernel.releases import release
from tests.support.topologies import states
from tests.support.topologies.topology import Pair


def test_time_wait_is_not_awaited(pair: Pair, start: Start) -> None:
    """ansible.builtin.wait_for waits a minute for each connection in TIME_WAIT."""
    old, held = states.time_wait(pair), states.established(pair)
    running = start(pair.client, {"state": "connected", "remote": pair.server4}, grace=20.0)
    close(held)
    report = running.report()
    assert (report.matched, report.progress.ended, report.counts) == (1, 1, {})
    assert report.elapsed < 15
    for connection in (old, held):
        states.wait_for_state(pair.client, states.TIME_WAIT, connection.local, connection.remote[1])


def test_connections_are_found_with_ipv6_disabled(pair: Pair, start: Start) -> None:
    """ansible.builtin.wait_for finds no IPv4 connection on a host without IPv6."""
    for scope in ("all", "default"):
        pair.client.sysctl(f"ipv6/conf/{scope}/disable_ipv6", 1)
    held, mapped = states.established(pair), states.established(pair, mapped=True)
    running = start(pair.client, {"remote": pair.server4}, grace=20.0)
    close(held)
    assert not running.is_done
    close(mapped)
    assert running.report().progress.ended == 2


@pytest.mark.parametrize(
    "name", ["close-wait", "last-ack", "closing", "fin-wait-1", "fin-wait-2", "syn-sent"]
)
def test_closing_connection_has_not_ended(pair: Pair, name: str) -> None:
    """ansible.builtin.wait_for treats CLOSE_WAIT, LAST_ACK and CLOSING as drained."""
    held = states.TCP_STATES[name](pair)
    match = {"local_port": held.local[1], "remote_port": held.remote[1]}
    report = run(held.where, match, grace=0.3, destroy=False)
    assert report.by_state == {name: 1}
    assert not report.drained
    assert not report.failed
    assert report.elapsed >= 0.3
    report = run(held.where, match, grace=0.0)
    if held.target is None and release() < (6, 11):
        # On such a kernel the socket might never close (see kernel_defect).
        assert report.counts == {"kernel_defect": 1}
        assert not report.drained
        return
    assert report.counts == {"destroyed": 1}
    assert report.drained
    # A second run finds nothing and does not wait.
    report = run(held.where, match, grace=20.0)
    assert (report.matched, report.changed) == (0, False)
    assert report.elapsed < 5


def test_connection_closed_by_application_only_has_not_ended(pair: Pair, start: Start) -> None:
    """The socket keeps its cookie when the kernel keeps only its timer."""
    held = states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, destroy=False)
    assert held.target is not None
    held.target.close()
    states.wait_for_state(pair.client, states.FIN_WAIT2, held.local, held.remote[1])
    running.next_snapshot()
    report = running.end_grace()
    assert report.by_state == {"fin-wait-2": 1}
    assert report.progress.arrived == 0
    assert set(report.left) == {(pair.client.name, "tcp", held.cookie)}


def test_connection_that_no_longer_matches_is_awaited(pair: Pair, start: Start) -> None:
    held = states.established(pair)
    running = start(pair.client, {"state": "established"})
    assert held.peer is not None
    assert held.target is not None
    held.peer.close()
    states.wait_for_state(pair.client, states.CLOSE_WAIT, held.local, held.remote[1])
    running.next_snapshot()
    report = running.end_grace()
    assert report.progress.ended == 0
    assert cookies(report, "destroyed") == {held.cookie}
    (result,) = report.results
    assert result.socket.state == "close-wait"
    with pytest.raises(ConnectionAbortedError):
        held.target.send(b"x")


def test_udp_ends_when_disconnected(pair: Pair, start: Start) -> None:
    held = states.udp_explicit(pair), states.udp_explicit(pair, v6=True)
    match = {"protocol": "udp", "state": "connected"}
    running = start(pair.client, match)
    for connection in held:
        assert connection.target is not None
        # AF_UNSPEC removes the remote (connect(2)).
        _disconnect(connection.target)
    report = running.report()
    assert (report.progress.ended, report.drained) == (2, True)
    remaining = states.udp_explicit(pair)
    report = run(pair.client, match, grace=0.2)
    assert cookies(report, "disconnected") == {remaining.cookie}
    assert report.drained
    assert report.details[pair.client.name, "udp", remaining.cookie or 0].lost is None


def _disconnect(sock: socket.socket) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    address = struct.pack("=H14x", socket.AF_UNSPEC)
    assert libc.connect(sock.fileno(), address, len(address)) == 0
