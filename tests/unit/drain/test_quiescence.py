# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quiescence, and drains with until=sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from linuxnet_sockets.drain.quiescence import PendingBytes, pending_bytes, quiescent_for
from linuxnet_sockets.guard.limits import MaxSockets
from linuxnet_sockets.query.find import find
from linuxnet_sockets.query.record import extensions
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.support.drain_timeline import QUIET, Timeline, left_of, outcomes_of
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import (
    CLOSE_WAIT,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    LAST_ACK,
    LISTEN,
    SYN_SENT,
    UDP,
)
from tests.support.fake_machine import LOCAL, REMOTE, connection


def find_socket(machine: Timeline, sock: FakeSocket) -> Socket:
    machine.add(sock)
    match = {"state": "all", "protocol": ["tcp", "udp"]}
    with NamespaceSession(machine.host, machine.namespace) as session:
        (found,) = find(
            session, parse_selector(match, names=machine.host), extensions=extensions(())
        )
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (0, 0, 0)),
        ({"wqueue": 5000, "tcp_info": {"notsent_bytes": 4000}}, (4000, 1000, 0)),
        ({"wqueue": 5000, "rqueue": 70}, (0, 5000, 70)),
        # SYN and FIN count as a byte each.
        ({"state": SYN_SENT, "wqueue": 1}, (0, 0, 0)),
        ({"state": CLOSE_WAIT, "rqueue": 1}, (0, 0, 0)),
        ({"state": CLOSE_WAIT, "rqueue": 71, "wqueue": 3}, (0, 3, 70)),
        # The application has read up to the FIN.
        ({"state": CLOSE_WAIT, "rqueue": 0}, (0, 0, 0)),
        ({"state": FIN_WAIT1, "wqueue": 1}, (0, 0, 0)),
        ({"state": FIN_WAIT1, "wqueue": 101, "tcp_info": {"notsent_bytes": 61}}, (60, 40, 0)),
        ({"state": LAST_ACK, "wqueue": 101, "rqueue": 1}, (0, 100, 0)),
        ({"state": CLOSING, "wqueue": 1, "rqueue": 8}, (0, 0, 7)),
        ({"state": FIN_WAIT2, "rqueue": 8}, (0, 0, 8)),
    ],
)
def test_pending_bytes_exclude_syn_and_fin(
    machine: Timeline, fields: dict[str, object], expected: tuple[int, int, int]
) -> None:
    assert pending_bytes(find_socket(machine, connection(**fields))) == expected


def test_pending_bytes_are_known_for_tcp_connections_only(machine: Timeline) -> None:
    sock = FakeSocket(protocol=UDP, local=LOCAL, local_port=1, remote=REMOTE, remote_port=2)
    assert pending_bytes(find_socket(machine, sock)) is None
    machine.sockets.remove(sock)
    listener = FakeSocket(local=LOCAL, local_port=1, state=LISTEN, wqueue=128)
    assert pending_bytes(find_socket(machine, listener)) is None
    assert PendingBytes(1, 2, 3).plus(None) == (1, 2, 3)
    assert PendingBytes(1, 2, 3).plus(PendingBytes(10, 20, 30)) == (11, 22, 33)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tcp_info": {"last_data_sent": 700, "last_data_recv": 900}}, 0.7),
        ({"tcp_info": {"last_data_sent": 900, "last_data_recv": 700}}, 0.7),
        ({"tcp_info": QUIET, "wqueue": 1}, None),
        ({"tcp_info": QUIET, "rqueue": 1}, None),
        ({"tcp_info": QUIET, "rqueue": 1, "state": CLOSE_WAIT}, 60.0),
        ({"tcp_info": QUIET, "state": SYN_SENT, "wqueue": 1}, None),
        # The kernel keeps no clocks of a closed connection.
        ({"state": FIN_WAIT2, "timer": 3, "inode": 0}, float("inf")),
    ],
)
def test_quiescence_by_kernel_clocks(
    machine: Timeline, fields: dict[str, object], expected: float | None
) -> None:
    assert quiescent_for(find_socket(machine, connection(**fields)), 0.0) == expected


def test_connection_is_destroyed_once_quiescent(machine: Timeline) -> None:
    quiet = machine.connect(1, tcp_info=QUIET)
    busy = machine.connect(2, tcp_info={"last_data_sent": 10, "last_data_recv": 10})
    full = machine.connect(3, tcp_info={**QUIET, "notsent_bytes": 5}, wqueue=12)
    destroyed_by: dict[float, list[int]] = {}
    for at in (0.05, 5.0):
        machine.at(
            at, lambda at=at: destroyed_by.update({at: list(machine.sockets.destroyed)}) and None
        )
    machine.at(3.0, lambda: vars(busy).update(tcp_info=QUIET))
    report = machine.run(until="sent", grace=10.0)
    assert destroyed_by == {0.05: [quiet.cookie], 5.0: [quiet.cookie, busy.cookie]}
    assert set(outcomes_of(report)) == {quiet.cookie, busy.cookie, full.cookie}
    assert report.progress.sent == 2
    assert report.progress.lost == (5, 7, 0)
    assert [details.sent for details in report.details.values()] == [True, True, False]
    assert report.elapsed == 10.0


class Clocks(Mapping[str, int]):
    """The clocks of a connection whose last data was sent and received at one time."""

    def __init__(self, machine: Timeline, last: float) -> None:
        self._machine = machine
        self._last = machine.now + last

    def __getitem__(self, name: str) -> int:
        if name not in QUIET:
            raise KeyError(name)
        return int((self._machine.now - self._last) * 1000)

    def __iter__(self) -> Iterator[str]:
        return iter(QUIET)

    def __len__(self) -> int:
        return len(QUIET)


@pytest.mark.parametrize("settle", [0.35, 0.8, 2.5])
def test_snapshot_follows_when_a_connection_may_be_quiescent(
    machine: Timeline, settle: float
) -> None:
    machine.connect(1, tcp_info=Clocks(machine, 0.0))
    report = machine.run(until="sent", settle=settle, grace=60.0)
    assert report.counts == {"destroyed": 1}
    assert settle <= report.elapsed <= settle + 0.11


def test_until_closed_keeps_quiescent_connections(machine: Timeline) -> None:
    sock = machine.connect(1, tcp_info=QUIET)
    machine.ends(5.0, sock)
    report = machine.run(until="closed", grace=10.0)
    assert (report.progress.ended, report.counts) == (1, {})


def test_destroy_false_waits_until_all_are_quiescent_at_once(machine: Timeline) -> None:
    first, second = (machine.connect(port, tcp_info=QUIET, wqueue=9) for port in (1, 2))
    machine.at(1.0, lambda: vars(first).update(wqueue=0))
    machine.at(2.0, lambda: vars(first).update(wqueue=1))
    machine.at(2.0, lambda: vars(second).update(wqueue=0))
    machine.at(6.0, lambda: vars(first).update(wqueue=0))
    report = machine.run(until="sent", destroy=False, grace=60.0)
    assert left_of(report) == [first.cookie, second.cookie]
    assert report.drained
    assert 6.0 <= report.elapsed <= 7.1
    assert machine.sockets.destroyed == []


def test_udp_is_quiescent_after_empty_queues_for_settle(machine: Timeline) -> None:
    sock = machine.add(
        FakeSocket(
            protocol=UDP,
            local=LOCAL,
            local_port=1,
            remote=REMOTE,
            remote_port=2,
            explicit_port=False,
        )
    )
    machine.at(1.5, lambda: vars(sock).update(rqueue=512))
    machine.at(4.0, lambda: vars(sock).update(rqueue=0))
    report = machine.run(
        {"protocol": "udp", "state": "connected"}, until="sent", settle=2.0, grace=60.0
    )
    assert report.counts == {"destroyed": 1}
    assert 6.0 <= report.elapsed <= 8.1
    assert report.progress.sent == 1


def test_paced_drain_observes_other_connections(machine: Timeline) -> None:
    for port in range(20):
        machine.connect(port, tcp_info=QUIET)
    machine.ends(1.5, machine.connect(99, tcp_info=QUIET))
    report = machine.run(until="sent", grace=60.0, destroy_options={"rate": 5.0})
    assert report.counts == {"destroyed": 20}
    assert report.progress.ended == 1
    assert 3.0 <= report.elapsed <= 8.0


def test_paced_drain_finds_arrivals(machine: Timeline) -> None:
    for port in range(50):
        machine.connect(port, tcp_info=QUIET)
    machine.at(2.0, lambda: machine.connect(99, tcp_info=QUIET) and None)
    report = machine.run(
        {"state": "established"},
        until="sent",
        grace=60.0,
        arrivals="fail",
        destroy_options={"rate": 5.0},
    )
    assert [sock.local_port for sock in report.forbidden_arrivals] == [99]
    assert report.counts["destroyed"] <= 20


def test_connection_in_use_again_is_not_destroyed(machine: Timeline) -> None:
    """It has not ended either: it only no longer matches."""
    machine.snapshot_takes_s = 0.6
    for port in range(1, 6):
        machine.connect(port, tcp_info=QUIET)
    busy = machine.sockets.sockets[-1]
    machine.at(1.0, lambda: vars(busy).update(rqueue=70))
    machine.ends(30.0, busy)
    report = machine.run(
        {"state": "established"}, until="sent", grace=60.0, destroy_options={"rate": 5.0}
    )
    assert busy.cookie not in machine.sockets.destroyed
    assert (report.counts, report.progress.ended) == ({"destroyed": 4}, 1)
    assert report.elapsed >= 30.0


def test_ignored_arrivals_are_not_destroyed(machine: Timeline) -> None:
    busy = machine.connect(1, wqueue=1)
    machine.at(2.0, lambda: machine.connect(2, tcp_info=QUIET) and None)
    machine.ends(9.0, busy)
    report = machine.run({"state": "established"}, until="sent", grace=20.0, arrivals="ignore")
    assert (report.progress.ended, report.progress.arrived) == (1, 1)
    assert machine.sockets.destroyed == []


def test_max_sockets_includes_destroyed_connections(machine: Timeline) -> None:
    first = [machine.connect(port, tcp_info=QUIET) for port in range(2)]
    machine.connect(8, wqueue=1)
    machine.at(2.0, lambda: machine.connect(7, tcp_info=QUIET) and None)
    limit = MaxSockets(number=3)
    report = machine.run(
        {"state": ["established"]}, until="sent", grace=10.0, destroy_options={"max_sockets": limit}
    )
    # Two, then the arrival; the fourth would exceed the limit.
    assert report.counts == {"destroyed": 3, "limit": 1}
    assert report.exceeded == (4, limit, None)
    assert machine.sockets.destroyed[:2] == [sock.cookie for sock in first]


def test_listener_is_never_quiescent(machine: Timeline) -> None:
    machine.add(FakeSocket(local=LOCAL, local_port=80, state=LISTEN, tcp_info=QUIET))
    busy = machine.connect(1, state=ESTABLISHED)
    machine.ends(2.0, busy)
    report = machine.run(
        {"state": "all"}, protect={"listeners": False}, until="sent", grace=5.0, destroy=False
    )
    assert report.by_state == {"listening": 1}
    assert not report.drained
