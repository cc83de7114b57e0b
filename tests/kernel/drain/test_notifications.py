# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a drain takes its next snapshot: destroy notifications and the poll interval."""

from __future__ import annotations

import errno

import pytest
from pyroute2 import netns

from linuxnet_sockets.host import namespaces
from linuxnet_sockets.netlink import destroy_events
from tests.kernel.drain.background import Start, close, cookies
from tests.support.topologies import states
from tests.support.topologies.topology import Lab, Pair
from tests.support.topologies.waiting import until


@pytest.mark.usefixtures("long_interval")
@pytest.mark.parametrize("v6", [False, True])
def test_tcp_notifications_bring_snapshot_forward(pair: Pair, start: Start, v6: bool) -> None:
    held = [states.established(pair, v6=v6) for _each in range(3)]
    running = start(pair.client, {"state": "established"}, grace=300.0)
    for connection in held:
        close(connection)
    report = running.report()
    assert (report.progress.ended, report.matched, report.drained) == (3, 3, True)
    assert not report.changed
    assert report.elapsed < 20


@pytest.mark.usefixtures("long_interval")
def test_udp_notification_brings_snapshot_forward(pair: Pair, start: Start) -> None:
    held = states.udp_autobound(pair)
    running = start(pair.client, {"protocol": "udp", "state": "connected"}, grace=300.0)
    assert held.target is not None
    held.target.close()
    assert running.report().progress.ended == 1


def test_notifications_are_limited_to_their_namespace(pair: Pair) -> None:
    here, there = (namespaces.resolve([space.name])[0] for space in (pair.client, pair.server))
    listeners = [
        namespaces.inside(namespace, destroy_events.subscribe) for namespace in (here, there)
    ]
    try:
        held = [states.established(pair), states.established(pair, v6=True)]
        assert not destroy_events.wait(listeners, 0.0)
        expected = {connection.cookie for connection in held}
        notified: set[int] = set()
        for connection in held:
            close(connection)

        def all_notified() -> bool:
            notified.update(listeners[0].take_cookies() or ())
            return expected <= notified

        until(all_notified, "notifications about the closed sockets")
        assert expected.isdisjoint(listeners[1].take_cookies() or ())
    finally:
        for listener in listeners:
            listener.close()


def test_end_is_found_without_subscription(pair: Pair, start: Start) -> None:
    def denied(_namespace: namespaces.Namespace) -> destroy_events.DestroyEventListener:
        raise OSError(errno.EPERM, "not permitted")

    held = states.established(pair)
    running = start(pair.client, {"state": "established"}, seams={"open_destroy_events": denied})
    close(held)
    report = running.report()
    assert report.progress.ended == 1
    assert report.elapsed < 10


def test_reset_without_notification_is_found(pair: Pair, start: Start) -> None:
    """The application holds its descriptor, so the kernel does not destroy the socket yet."""
    held = states.established(pair)
    running = start(pair.client, {"state": "established"})
    assert held.peer is not None
    states.linger_reset(held.peer)
    held.peer.close()
    report = running.report()
    assert report.progress.ended == 1
    assert held.target is not None
    with pytest.raises(ConnectionResetError):
        held.target.recv(1)


def test_drain_continues_when_a_namespace_is_deleted(pair: Pair, lab: Lab, start: Start) -> None:
    """The drain keeps nothing open in a namespace without remaining connections."""
    here, there = states.established(pair), states.established_server(pair)
    assert there.where is pair.server
    match = {"any": [{"local_port": here.local[1]}, {"local_port": there.local[1]}]}
    third = lab.namespace("third")
    running = start([pair.client, third, pair.server], match, grace=20.0)
    close(here)
    third.close()
    close(there)
    report = running.report()
    assert report.progress.ended == 2
    assert report.drained


def test_namespace_without_its_name_stays_tracked(pair: Pair, start: Start) -> None:
    """Processes and their connections outlive the name of the namespace."""
    process = pair.client.spawn("sleep", "60")
    held = states.established(pair)
    running = start(pair.client, {"remote": pair.server4})
    netns.remove(pair.client.name)
    report = running.end_grace()
    assert process.poll() is None
    assert cookies(report, "destroyed") == {held.cookie}
