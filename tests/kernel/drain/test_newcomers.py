# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that come while it waits."""

from __future__ import annotations

from linuxnet_sockets.guard.limits import MaxSockets
from tests.kernel.drain.running import Start, close, cookies
from tests.support.topologies import states
from tests.support.topologies.topology import Pair


def test_newcomers_are_drained_too(pair: Pair, start: Start) -> None:
    first = states.established(pair)
    running = start(pair.client, {"remote": pair.server4})
    later = states.established(pair)
    close(first)
    running.looked()
    report = running.last()
    assert (report.progress.ended, report.progress.arrived, report.matched) == (1, 1, 2)
    assert cookies(report, "destroyed") == {later.cookie}
    (mark,) = report.marks.values()
    assert mark.arrived


def test_newcomers_are_left_alone(pair: Pair, start: Start) -> None:
    first = states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, arrivals="ignore")
    later = states.established(pair)
    running.looked()
    close(first)
    report = running.report()
    assert (report.progress.ended, report.progress.arrived, report.matched) == (1, 1, 1)
    assert report.drained
    assert not report.changed
    assert later.target is not None
    later.target.sendall(b"x")


def test_newcomers_end_it(pair: Pair, start: Start) -> None:
    first = states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, grace=20.0, arrivals="fail")
    later = states.established(pair)
    report = running.report()
    assert [sock.cookie for sock in report.refused] == [later.cookie]
    assert report.failed
    assert not report.changed
    assert report.elapsed < 10
    assert {cookie for _label, _protocol, cookie in report.left} == {first.cookie, later.cookie}
    for each in (first, later):
        assert each.target is not None
        each.target.sendall(b"x")


def test_newcomers_count_for_the_limit(pair: Pair, start: Start) -> None:
    states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, max_sockets=MaxSockets(number=1))
    later = states.established(pair)
    running.looked()
    report = running.last()
    assert report.counts == {"limit": 2}
    assert later.target is not None
    later.target.sendall(b"x")
