# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guard, max_sockets, pace and check mode of a drain."""

from __future__ import annotations

import socket

import pytest

from linuxnet_sockets.guard.limits import MaxSockets
from linuxnet_sockets.guard.options import parse_guard
from linuxnet_sockets.host.host import Host
from tests.kernel.drain.background import Start, cookies, run
from tests.support.topologies import states
from tests.support.topologies.states import cookie_of
from tests.support.topologies.topology import Pair


def test_protected_connections_are_not_awaited(pair: Pair) -> None:
    held, protected = states.established(pair), states.established(pair)
    guard = parse_guard(
        {
            **dict.fromkeys(("control_connection", "ssh_sessions", "kernel"), False),
            "selectors": [{"remote_port": protected.remote[1]}],
        },
        names=Host(),
        files=None,
    )
    report = run(pair.client, {"remote": pair.server4}, grace=0.2, guard=guard)
    assert report.counts == {"destroyed": 1, "protected": 1}
    assert cookies(report, "destroyed") == {held.cookie}
    report = run(pair.client, {"remote": pair.server4}, grace=20.0, guard=guard)
    assert report.counts == {"protected": 1}
    assert report.drained
    assert report.elapsed < 5
    assert protected.target is not None
    protected.target.sendall(b"x")


def test_max_sockets_is_checked_before_waiting(pair: Pair) -> None:
    for _index in range(3):
        states.established(pair)
    limit = MaxSockets(number=2)
    report = run(pair.client, {"remote": pair.server4}, grace=20.0, max_sockets=limit)
    assert report.counts == {"limit": 3}
    assert report.exceeded == (3, limit, None)
    assert report.elapsed < 5


def test_check_mode_predicts_the_destroyed_sockets(pair: Pair) -> None:
    held = [states.established(pair) for _index in range(3)]
    for until_ in ("closed", "sent"):
        report = run(pair.client, {"remote": pair.server4}, grace=20.0, check=True, until=until_)
        assert cookies(report, "destroyed") == {connection.cookie for connection in held}
        assert report.elapsed < 5
    for connection in held:
        assert connection.target is not None
        connection.target.sendall(b"x")
    report = run(pair.client, {"remote": pair.server4}, grace=0.0)
    assert cookies(report, "destroyed") == {connection.cookie for connection in held}


def test_pace_spreads_destruction(pair: Pair) -> None:
    for _index in range(6):
        states.established(pair)
    report = run(pair.client, {"remote": pair.server4}, grace=0.0, rate=20.0)
    assert report.counts == {"destroyed": 6}
    assert report.elapsed >= 0.2


def test_only_remaining_connections_are_reset(pair: Pair, start: Start) -> None:
    """Of 200 connections, 40 are protected health checks, 100 end in time and 60 remain."""
    service = states.listener(pair.server, pair.server4)
    checks = states.listener(pair.server, pair.server4)
    pairs: dict[str, list[tuple[socket.socket, socket.socket]]] = {}
    for name, count, listener in (
        ("ends", 100, service),
        ("remains", 60, service),
        ("check", 40, checks),
    ):
        for _index in range(count):
            client = pair.client.socket()
            client.connect(listener.getsockname())
            pairs.setdefault(name, []).append(
                (client, pair.server.close_at_end(listener.accept()[0]))
            )
    guard = parse_guard(
        {
            **dict.fromkeys(("control_connection", "ssh_sessions", "kernel"), False),
            "selectors": [{"local_port": checks.getsockname()[1]}],
        },
        names=Host(),
        files=None,
    )
    running = start(pair.server, {"local": pair.server4}, guard=guard)
    for client, accepted in pairs["ends"]:
        client.sendall(b"bye")
        client.close()
        assert accepted.recv(10) == b"bye"
        assert accepted.recv(10) == b""
        accepted.close()
    running.next_snapshot()
    report = running.end_grace()
    assert report.progress.ended == 100
    assert report.counts == {"destroyed": 60, "protected": 40}
    assert report.matched == 200
    remaining = {cookie_of(accepted) for _client, accepted in pairs["remains"]}
    assert cookies(report, "destroyed") == remaining
    for client, _accepted in pairs["remains"]:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    for client, accepted in pairs["check"]:
        client.sendall(b"x")
        assert accepted.recv(1) == b"x"
