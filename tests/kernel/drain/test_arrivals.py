# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that start to match during a drain."""

from __future__ import annotations

from linuxnet_sockets.guard.limits import MaxSockets
from tests.kernel.drain.background import Start, close, cookies
from tests.support.topologies import states
from tests.support.topologies.topology import Pair


def test_arrivals_are_included(pair: Pair, start: Start) -> None:
    first = states.established(pair)
    running = start(pair.client, {"remote": pair.server4})
    later = states.established(pair)
    close(first)
    running.next_snapshot()
    report = running.end_grace()
    assert (report.progress.ended, report.progress.arrived, report.matched) == (1, 1, 2)
    assert cookies(report, "destroyed") == {later.cookie}
    (details,) = report.details.values()
    assert details.arrived


def test_arrivals_are_ignored(pair: Pair, start: Start) -> None:
    first = states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, arrivals="ignore")
    later = states.established(pair)
    running.next_snapshot()
    close(first)
    report = running.report()
    assert (report.progress.ended, report.progress.arrived, report.matched) == (1, 1, 1)
    assert report.drained
    assert not report.changed
    assert later.target is not None
    later.target.sendall(b"x")


def test_arrival_fails_the_drain(pair: Pair, start: Start) -> None:
    first = states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, grace=20.0, arrivals="fail")
    later = states.established(pair)
    report = running.report()
    assert [sock.cookie for sock in report.forbidden_arrivals] == [later.cookie]
    assert report.failed
    assert not report.changed
    assert report.elapsed < 10
    assert {cookie for _name, _protocol, cookie in report.left} == {first.cookie, later.cookie}
    for held in (first, later):
        assert held.target is not None
        held.target.sendall(b"x")


def test_arrivals_count_against_max_sockets(pair: Pair, start: Start) -> None:
    states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, max_sockets=MaxSockets(number=1))
    later = states.established(pair)
    running.next_snapshot()
    report = running.end_grace()
    assert report.counts == {"limit": 2}
    assert later.target is not None
    later.target.sendall(b"x")
