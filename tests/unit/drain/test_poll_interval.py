# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time between the snapshots of a drain."""

from __future__ import annotations

import pytest

from linuxnet_sockets.drain.poll_interval import PollInterval
from linuxnet_sockets.host.namespaces import Namespace
from tests.support.drain_timeline import FakeDestroyEvents, Timeline
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_machine import LOCAL, REMOTE


def gaps(machine: Timeline) -> list[float]:
    pairs = zip(machine.snapshots, machine.snapshots[1:])
    return [round(later - earlier, 3) for earlier, later in pairs]


@pytest.mark.parametrize("without_subscription", [False, True])
def test_interval_grows_to_one_second(machine: Timeline, without_subscription: bool) -> None:
    machine.without_subscription = without_subscription
    machine.connect(1)
    machine.run(grace=30.0, destroy=False)
    found = gaps(machine)
    assert found[:3] == [0.1, 0.15, 0.225]
    assert found == sorted(found[:-1]) + found[-1:]
    assert max(found) == 1.0
    assert len(found) < 37


def test_notification_brings_next_snapshot_forward(machine: Timeline) -> None:
    socks = [machine.connect(port) for port in (1, 2)]
    machine.ends(10.05, socks[0])
    machine.ends(20.05, socks[1])
    report = machine.run(grace=60.0)
    assert report.progress.ended == 2
    for at in (10.05, 20.05):
        first = min(time for time in machine.snapshots if time >= at)
        assert first - at <= 0.1


def test_end_is_found_within_a_second_without_subscription(machine: Timeline) -> None:
    machine.without_subscription = True
    machine.ends(10.05, machine.connect(1))
    report = machine.run(grace=60.0)
    assert 10.05 <= report.elapsed <= 11.05


def test_end_without_notification_is_found_within_a_second(machine: Timeline) -> None:
    machine.ends(10.05, machine.connect(1), notify=False)
    report = machine.run(grace=60.0)
    assert 10.05 <= report.elapsed <= 11.05


def test_many_notifications_share_a_snapshot(machine: Timeline) -> None:
    socks = [machine.connect(port) for port in range(1, 101)]
    for index, sock in enumerate(socks[:-1]):
        machine.ends(10.0 + index / 1000, sock)
    machine.ends(12.0, socks[-1])
    machine.run(grace=60.0)
    assert len([time for time in machine.snapshots if 10.0 <= time <= 10.3]) <= 4


def test_notifications_about_other_sockets_are_ignored(machine: Timeline) -> None:
    machine.connect(1)
    for number in range(2000):
        machine.at(5.0 + number / 100, lambda: machine.notify(0xABCDEF))
    machine.run(grace=30.0, destroy=False)
    assert len(machine.snapshots) < 40


def test_dropped_notifications_cause_a_snapshot(machine: Timeline) -> None:
    machine.connect(1)

    def lose() -> None:
        machine.listeners[0].lost = True

    machine.at(20.05, lose)
    machine.run(grace=30.0, destroy=False)
    assert any(20.05 <= time <= 20.16 for time in machine.snapshots)


def test_slow_snapshots_are_less_frequent(machine: Timeline) -> None:
    machine.snapshot_takes_s = 0.5
    machine.connect(1)
    for number in range(300):
        machine.at(number / 10, lambda: machine.notify(1))
    machine.run(grace=60.0, destroy=False)
    assert min(gaps(machine)[1:-1]) >= 4.5


def test_subscribes_only_where_connections_remain(machine: Timeline) -> None:
    """An open listener would keep the namespace of a stopped container alive."""
    other = machine.kernel.namespace("other")
    sock = other.add(FakeSocket(local=LOCAL, local_port=9, remote=REMOTE, remote_port=443, inode=0))
    empty = machine.kernel.namespace("empty")
    machine.connect(1)
    spaces = [
        machine.namespace,
        *(
            Namespace(fake.name, f"/run/netns/{fake.name}", fake.identity)
            for fake in (other, empty)
        ),
    ]
    subscribed: dict[float, list[str]] = {}
    for at in (4.0, 8.0):
        machine.at(
            at,
            lambda at=at: (
                subscribed.update(
                    {at: [fake.name for fake in machine.listeners if not fake.closed]}
                )
                and None
            ),
        )
    machine.at(5.0, lambda: other.remove(sock))
    machine.run(grace=10.0, namespaces=spaces, protect={"kernel": False})
    assert subscribed == {4.0: ["current", "other"], 8.0: ["current"]}


def test_failed_listener_is_closed(machine: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: FakeDestroyEvents) -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr(FakeDestroyEvents, "take_cookies", broken)
    machine.ends(5.0, machine.connect(1))
    report = machine.run(grace=60.0)
    assert report.progress.ended == 1


def test_wait_ends_at_its_limit(machine: Timeline) -> None:
    with PollInterval(machine.host) as interval:
        interval.wait(machine.now + 0.03, set(), cost=5.0, progress=False)
        assert machine.now == pytest.approx(1000.03)
        interval.wait(machine.now - 1.0, set(), cost=0.0, progress=False)
        assert machine.now == pytest.approx(1000.03)
