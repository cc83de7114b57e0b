# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lets a drain look again: notices of the kernel, and the time."""

from __future__ import annotations

import errno

import pytest
from pyroute2 import netns

from linuxnet_sockets.host import namespaces
from linuxnet_sockets.netlink import destroy_events
from tests.kernel.drain.running import Start, close, cookies
from tests.support.topologies import states
from tests.support.topologies.topology import Lab, Pair
from tests.support.topologies.waiting import until


@pytest.mark.usefixtures("only_woken")
@pytest.mark.parametrize("v6", [False, True])
def test_notices_wake_it(pair: Pair, start: Start, v6: bool) -> None:
    held = [states.established(pair, v6=v6) for _each in range(3)]
    running = start(pair.client, {"state": "established"}, grace=300.0)
    for each in held:
        close(each)
    report = running.report()
    assert (report.progress.ended, report.matched, report.drained) == (3, 3, True)
    assert not report.changed
    assert report.elapsed < 20


@pytest.mark.usefixtures("only_woken")
def test_notices_of_udp_wake_it(pair: Pair, start: Start) -> None:
    held = states.udp_autobound(pair)
    running = start(pair.client, {"protocol": "udp", "state": "connected"}, grace=300.0)
    assert held.target is not None
    held.target.close()
    assert running.report().progress.ended == 1


def test_notices_are_those_of_their_namespace(pair: Pair) -> None:
    here, there = (namespaces.resolve([each.name])[0] for each in (pair.client, pair.server))
    listening = [namespaces.inside(each, destroy_events.subscribe) for each in (here, there)]
    try:
        held = [states.established(pair), states.established(pair, v6=True)]
        assert not destroy_events.wait(listening, 0.0)
        meant = {each.cookie for each in held}
        told: set[int] = set()
        for each in held:
            close(each)

        def heard() -> bool:
            told.update(listening[0].take_cookies() or ())
            return meant <= told

        until(heard, "notices of the sockets that were closed")
        assert meant.isdisjoint(listening[1].take_cookies() or ())
    finally:
        for each in listening:
            each.close()


def test_without_notices_it_looks_by_itself(pair: Pair, start: Start) -> None:
    def deaf(_namespace: namespaces.Namespace) -> destroy_events.DestroyEventListener:
        raise OSError(errno.EPERM, "not here")

    held = states.established(pair)
    running = start(pair.client, {"state": "established"}, seams={"open_destroy_events": deaf})
    close(held)
    report = running.report()
    assert report.progress.ended == 1
    assert report.elapsed < 10


def test_a_reset_of_which_no_notice_comes_is_seen(pair: Pair, start: Start) -> None:
    """The application still holds its descriptor, so the socket is not destroyed."""
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


def test_several_namespaces_of_which_one_goes(pair: Pair, lab: Lab, start: Start) -> None:
    """Nothing is left open in a namespace in which nothing is left."""
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


def test_a_namespace_without_its_name_is_the_same(pair: Pair, start: Start) -> None:
    """Deleting the name leaves processes in it, and their connections."""
    process = pair.client.spawn("sleep", "60")
    held = states.established(pair)
    running = start(pair.client, {"remote": pair.server4})
    netns.remove(pair.client.name)
    report = running.last()
    assert process.poll() is None
    assert cookies(report, "destroyed") == {held.cookie}
