# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the next look comes."""

from __future__ import annotations

import pytest

from linuxnet_sockets.drain.poll_interval import Pauses
from linuxnet_sockets.host.namespaces import Namespace
from tests.support.drain_timeline import FakeDestroyEvents, Timeline
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_machine import LOCAL, REMOTE


def gaps(machine: Timeline) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in zip(machine.looks, machine.looks[1:])]


@pytest.mark.parametrize("deaf", [False, True])
def test_looks_come_ever_more_seldom_and_once_a_second_at_least(
    machine: Timeline, deaf: bool
) -> None:
    machine.deaf = deaf
    machine.connect(1)
    machine.run(grace=30.0, destroy=False)
    found = gaps(machine)
    assert found[:3] == [0.1, 0.15, 0.225]
    assert found == sorted(found[:-1]) + found[-1:]
    assert max(found) == 1.0
    assert len(found) < 37


def test_a_notice_brings_the_next_look_on(machine: Timeline) -> None:
    socks = [machine.connect(port) for port in (1, 2)]
    machine.ends(10.05, socks[0])
    machine.ends(20.05, socks[1])
    report = machine.run(grace=60.0)
    assert report.progress.ended == 2
    for at in (10.05, 20.05):
        (first, *_rest) = [look for look in machine.looks if look >= at]
        assert first - at <= 0.1


def test_without_notices_an_end_is_seen_within_a_second(machine: Timeline) -> None:
    machine.deaf = True
    machine.ends(10.05, machine.connect(1))
    report = machine.run(grace=60.0)
    assert 10.05 <= report.elapsed <= 11.05


def test_an_end_of_which_nobody_tells_is_seen_within_a_second(machine: Timeline) -> None:
    machine.ends(10.05, machine.connect(1), told=False)
    report = machine.run(grace=60.0)
    assert 10.05 <= report.elapsed <= 11.05


def test_many_notices_are_one_look(machine: Timeline) -> None:
    socks = [machine.connect(port) for port in range(1, 101)]
    for index, sock in enumerate(socks[:-1]):
        machine.ends(10.0 + index / 1000, sock)
    machine.ends(12.0, socks[-1])
    machine.run(grace=60.0)
    assert len([look for look in machine.looks if 10.0 <= look <= 10.3]) <= 4


def test_notices_about_others_do_not_make_it_look(machine: Timeline) -> None:
    machine.connect(1)
    for number in range(2000):
        machine.at(5.0 + number / 100, lambda: machine.tell(0xABCDEF))
    machine.run(grace=30.0, destroy=False)
    assert len(machine.looks) < 40


def test_notices_that_were_lost_may_have_told_of_one(machine: Timeline) -> None:
    machine.connect(1)

    def lose() -> None:
        machine.listening[0].lost = True

    machine.at(20.05, lose)
    machine.run(grace=30.0, destroy=False)
    assert any(20.05 <= look <= 20.16 for look in machine.looks)


def test_looks_that_take_long_are_made_less_often(machine: Timeline) -> None:
    machine.look_takes = 0.5
    machine.connect(1)
    for number in range(300):
        machine.at(number / 10, lambda: machine.tell(1))
    machine.run(grace=60.0, destroy=False)
    assert min(gaps(machine)[1:-1]) >= 4.5


def test_it_listens_only_where_something_is_left(machine: Timeline) -> None:
    """An open socket would keep the namespace of a container alive that has been stopped."""
    other = machine.kernel.namespace("other")
    theirs = other.add(
        FakeSocket(local=LOCAL, local_port=9, remote=REMOTE, remote_port=443, inode=0)
    )
    empty = machine.kernel.namespace("empty")
    machine.connect(1)
    spaces = [
        machine.namespace,
        *(
            Namespace(each.name, f"/run/netns/{each.name}", each.identity)
            for each in (other, empty)
        ),
    ]
    open_ones: dict[float, list[str]] = {}
    for at in (4.0, 8.0):
        machine.at(
            at,
            lambda at=at: (
                open_ones.update({at: [each.name for each in machine.listening if not each.closed]})
                and None
            ),
        )
    machine.at(5.0, lambda: other.remove(theirs))
    machine.run(grace=10.0, namespaces=spaces, protect={"kernel": False})
    assert open_ones == {4.0: ["current", "other"], 8.0: ["current"]}


def test_a_notice_socket_that_fails_is_done_without(
    machine: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: FakeDestroyEvents) -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr(FakeDestroyEvents, "take_cookies", broken)
    machine.ends(5.0, machine.connect(1))
    report = machine.run(grace=60.0)
    assert report.progress.ended == 1


def test_it_does_not_wait_longer_than_it_may(machine: Timeline) -> None:
    with Pauses(machine.host) as pauses:
        pauses.wait(machine.now + 0.03, set(), cost=5.0, progress=False)
        assert machine.now == pytest.approx(1000.03)
        pauses.wait(machine.now - 1.0, set(), cost=0.0, progress=False)
        assert machine.now == pytest.approx(1000.03)
