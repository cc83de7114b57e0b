# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an order protects and how much it may do: guard, limits, pace, check mode."""

from __future__ import annotations

import socket

import pytest

from linuxnet_sockets.guard.limits import MaxSockets
from linuxnet_sockets.guard.options import parse_guard
from linuxnet_sockets.host.host import Host
from tests.kernel.drain.running import Start, cookies, run
from tests.support.topologies import states
from tests.support.topologies.states import cookie_of
from tests.support.topologies.topology import Pair


def test_what_is_protected_is_not_waited_for(pair: Pair) -> None:
    held, kept = states.established(pair), states.established(pair)
    guard = parse_guard(
        {
            **dict.fromkeys(("control_connection", "ssh_sessions", "kernel"), False),
            "selectors": [{"remote_port": kept.remote[1]}],
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
    assert kept.target is not None
    kept.target.sendall(b"x")


def test_too_many_are_refused_before_it_waits(pair: Pair) -> None:
    for _each in range(3):
        states.established(pair)
    limit = MaxSockets(number=2)
    report = run(pair.client, {"remote": pair.server4}, grace=20.0, max_sockets=limit)
    assert report.counts == {"limit": 3}
    assert report.exceeded == (3, limit, None)
    assert report.elapsed < 5


def test_check_mode_does_not_wait_and_names_them(pair: Pair) -> None:
    held = [states.established(pair) for _each in range(3)]
    for until_ in ("closed", "sent"):
        report = run(pair.client, {"remote": pair.server4}, grace=20.0, check=True, until=until_)
        assert cookies(report, "destroyed") == {each.cookie for each in held}
        assert report.elapsed < 5
    for each in held:
        assert each.target is not None
        each.target.sendall(b"x")
    report = run(pair.client, {"remote": pair.server4}, grace=0.0)
    assert cookies(report, "destroyed") == {each.cookie for each in held}


def test_pace_spreads_what_is_destroyed(pair: Pair) -> None:
    for _each in range(6):
        states.established(pair)
    report = run(pair.client, {"remote": pair.server4}, grace=0.0, rate=20.0)
    assert report.counts == {"destroyed": 6}
    assert report.elapsed >= 0.2


def test_of_many_only_those_are_reset_that_stay(pair: Pair, start: Start) -> None:
    """200 connections: 40 of health checks are left out, 100 end in time, 60 do not."""
    listens = states.listener(pair.server, pair.server4)
    checks = states.listener(pair.server, pair.server4)
    pairs: dict[str, list[tuple[socket.socket, socket.socket]]] = {}
    for name, count, where in (
        ("ends", 100, listens),
        ("stays", 60, listens),
        ("check", 40, checks),
    ):
        for _each in range(count):
            client = pair.client.socket()
            client.connect(where.getsockname())
            pairs.setdefault(name, []).append((client, pair.server.keep(where.accept()[0])))
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
    running.looked()
    report = running.last()
    assert report.progress.ended == 100
    assert report.counts == {"destroyed": 60, "protected": 40}
    assert report.matched == 200
    stays = {cookie_of(accepted) for _client, accepted in pairs["stays"]}
    assert cookies(report, "destroyed") == stays
    for client, _accepted in pairs["stays"]:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    for client, accepted in pairs["check"]:
        client.sendall(b"x")
        assert accepted.recv(1) == b"x"
