# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds, counts and ends of a drain."""

from __future__ import annotations

import errno

import pytest

from linuxnet_sockets.errors import (
    EngineUnavailable,
    NamespaceNotFound,
    NetlinkError,
    SocketsError,
)
from linuxnet_sockets.guard.limits import MaxSockets
from linuxnet_sockets.host.namespaces import Namespace
from tests.support.destroy_calls import requested_cookies
from tests.support.drain_timeline import QUIET, Timeline, left_of, outcomes_of
from tests.support.fake_kernel import FakeSocket, faults
from tests.support.fake_kernel.model import (
    CLOSE,
    CLOSE_WAIT,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    LISTEN,
    SYN_RECV,
    TIME_WAIT,
    UDP,
)
from tests.support.fake_machine import LOCAL, LOCAL6, REMOTE, REMOTE6

UDP_MATCH = {"protocol": "udp", "state": "all"}


def udp(port: int, **fields: object) -> FakeSocket:
    return FakeSocket(
        protocol=UDP, local=LOCAL, local_port=port, remote=REMOTE, remote_port=53, **fields
    )


def test_drain_without_matches_ends_at_once(machine: Timeline) -> None:
    report = machine.run()
    assert (report.matched, report.elapsed, report.drained) == (0, 0.0, True)
    assert not report.changed
    assert machine.snapshots == [0.0]


def test_connections_that_end_are_counted_as_ended(machine: Timeline) -> None:
    socks = [machine.connect(port) for port in range(5)]
    machine.ends(3.0, *socks[:2])
    machine.ends(7.0, *socks[2:])
    report = machine.run(grace=60.0)
    assert (report.progress.ended, report.matched, report.counts) == (5, 5, {})
    assert report.drained
    assert not report.changed
    assert report.elapsed == pytest.approx(7.0, abs=0.15)
    assert report.grace_left == pytest.approx(53.0, abs=0.15)
    assert machine.sockets.destroyed == []


def test_rest_is_destroyed_after_grace(machine: Timeline) -> None:
    ending, remaining = machine.connect(1), machine.connect(2)
    machine.ends(3.0, ending)
    report = machine.run(grace=10.0)
    assert report.progress.ended == 1
    assert outcomes_of(report) == {remaining.cookie: "destroyed"}
    assert report.matched == 2
    assert report.elapsed == 10.0
    assert report.drained
    assert report.by_state == {}


def test_rest_is_reported_with_destroy_false(machine: Timeline) -> None:
    remaining = machine.connect(2)
    closing = machine.connect(3, state=CLOSE_WAIT)
    report = machine.run(grace=10.0, destroy=False)
    assert left_of(report) == [remaining.cookie, closing.cookie]
    assert report.by_state == {"established": 1, "close-wait": 1}
    assert not report.drained
    assert not report.failed
    assert machine.sockets.destroyed == []


def test_zero_grace_takes_one_snapshot(machine: Timeline) -> None:
    sock = machine.connect(1)
    report = machine.run(grace=0.0)
    assert outcomes_of(report) == {sock.cookie: "destroyed"}
    assert machine.snapshots[0] == 0.0
    assert report.elapsed == 0.0


def test_time_wait_counts_as_ended_for_any_selector(machine: Timeline) -> None:
    machine.connect(1, state=TIME_WAIT, timer=3)
    sock = machine.connect(2)
    machine.at(2.0, lambda: vars(sock).update(state=TIME_WAIT, timer=3, inode=0))
    report = machine.run({"state": "connected"}, grace=60.0)
    assert (report.matched, report.progress.ended) == (1, 1)
    assert machine.sockets.destroyed == []


def test_connection_that_no_longer_matches_has_not_ended(machine: Timeline) -> None:
    sock, other = machine.connect(1), machine.connect(2)
    machine.at(1.0, lambda: vars(sock).update(state=CLOSE_WAIT))
    machine.at(1.0, lambda: vars(other).update(state=FIN_WAIT2, timer=3, inode=0))
    machine.ends(30.0, other)
    report = machine.run({"state": "established"}, grace=60.0)
    assert report.progress.ended == 1
    assert outcomes_of(report) == {sock.cookie: "destroyed"}
    assert report.results[0].socket.state == "close-wait"


def test_socket_connected_elsewhere_is_another_connection(machine: Timeline) -> None:
    """A socket keeps its cookie when the application connects it elsewhere."""
    sock = machine.connect(1)
    machine.at(2.0, lambda: vars(sock).update(remote_port=8443))
    report = machine.run({"remote_port": 443}, grace=60.0)
    assert (report.progress.ended, report.progress.arrived) == (1, 0)
    assert report.drained
    assert machine.sockets.destroyed == []


def test_closed_socket_that_keeps_its_port_has_ended(machine: Timeline) -> None:
    sock = machine.connect(1)
    machine.at(2.0, lambda: vars(sock).update(state=13))
    report = machine.run(grace=60.0)
    assert report.progress.ended == 1


def test_udp_ends_when_disconnected(machine: Timeline) -> None:
    four = machine.add(udp(1))
    six = machine.add(
        FakeSocket(protocol=UDP, local=LOCAL6, local_port=2, remote=REMOTE6, remote_port=53)
    )
    # The record keeps the address of an IPv6 remote.
    machine.at(2.0, lambda: vars(six).update(state=CLOSE, remote_port=0))
    machine.at(3.0, lambda: vars(four).update(state=CLOSE, remote_port=0, dst=bytes(4)))
    report = machine.run(UDP_MATCH, protect={"unconnected": False}, grace=60.0)
    assert (report.progress.ended, report.progress.arrived) == (2, 0)
    assert report.counts == {}
    assert report.drained


def test_disconnected_udp_is_not_drained_again(machine: Timeline) -> None:
    sock = machine.add(udp(1))
    machine.ends(5.0, machine.connect(2))
    report = machine.run(
        {"protocol": ["udp", "tcp"], "state": "all"},
        protect={"unconnected": False},
        until="sent",
        settle=1.0,
        grace=60.0,
    )
    assert outcomes_of(report) == {sock.cookie: "disconnected"}
    assert (report.progress.ended, report.progress.arrived, report.matched) == (1, 0, 2)
    assert machine.sockets.destroyed == [sock.cookie]


def test_protected_sockets_are_not_awaited(machine: Timeline) -> None:
    machine.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    salt = machine.connect(1, remote_port=4505)
    report = machine.run(grace=60.0)
    assert report.counts == {"protected": 2}
    assert report.matched == 2
    assert report.elapsed == 0.0
    assert {result.reason.rule for result in report.results if result.reason} == {
        "listeners",
        "control_connection",
    }
    assert salt in machine.sockets.sockets


def test_connection_protected_later_is_not_destroyed(machine: Timeline) -> None:
    """The application passes its socket to sshd."""
    sock = machine.connect(1)
    machine.process(700, comm="sshd", program="/usr/sbin/sshd")
    machine.at(5.0, lambda: machine.hold(700, sock))
    report = machine.run({"state": "all"}, grace=10.0)
    assert outcomes_of(report) == {sock.cookie: "protected"}
    assert report.counts == {"protected": 1}
    assert (report.matched, report.progress.ended) == (1, 0)
    assert report.drained
    assert machine.sockets.destroyed == []


def test_connection_protected_at_start_stays_protected(machine: Timeline) -> None:
    sock = machine.connect(1, remote_port=22)
    machine.connect(2)
    machine.process(700, comm="sshd", program="/usr/sbin/sshd")
    machine.hold(700, sock)
    end = machine.proc / "700" / "fd" / "0"
    machine.at(5.0, end.unlink)
    report = machine.run({"state": "all"}, grace=10.0)
    assert report.counts == {"destroyed": 1, "protected": 1}
    assert sock in machine.sockets.sockets


@pytest.mark.parametrize(
    ("arrivals", "ended", "counts", "matched"),
    [("include", 1, {"destroyed": 1}, 2), ("ignore", 1, {}, 1)],
)
def test_arrivals_are_included_or_ignored(
    machine: Timeline, arrivals: str, ended: int, counts: dict[str, int], matched: int
) -> None:
    first = machine.connect(1)
    machine.at(2.0, lambda: machine.connect(2) and None)
    machine.at(2.0, lambda: machine.connect(3, remote_port=4505) and None)
    machine.ends(5.0, first)
    report = machine.run({"state": "established"}, grace=10.0, arrivals=arrivals)
    protected = report.counts.pop("protected")
    assert protected == 1
    assert (report.progress.ended, report.progress.arrived) == (ended, 1)
    found = {name: count for name, count in report.counts.items() if name != "protected"}
    assert found == counts
    assert report.matched == matched + protected
    assert [details.arrived for key, details in report.details.items() if key[2] == 2] in (
        [],
        [True],
    )


def test_protected_arrivals_that_ended_are_not_counted(machine: Timeline) -> None:
    """Such as health checks, which connect again and again."""
    machine.connect(1)
    machine.connect(2, remote_port=4505)
    for number in range(5):

        def arrive(number: int = number) -> None:
            check = machine.connect(100 + number, remote_port=4505)
            machine.ends(2.0 * number + 3.0, check)

        machine.at(2.0 * number + 1.0, arrive)
    report = machine.run({"state": "established"}, grace=20.0)
    assert report.counts == {"destroyed": 1, "protected": 1}
    assert (report.matched, report.progress.arrived) == (2, 0)


def test_ignored_arrival_is_counted_once(machine: Timeline) -> None:
    machine.connect(1)
    machine.at(2.0, lambda: machine.connect(2) and None)
    report = machine.run({"state": "established"}, grace=30.0, arrivals="ignore")
    assert report.progress.arrived == 1
    assert len(machine.snapshots) > 20


def test_arrival_ends_drain_with_arrivals_fail(machine: Timeline) -> None:
    first = machine.connect(1)
    machine.at(2.0, lambda: machine.connect(2) and None)
    report = machine.run({"state": "established"}, grace=30.0, arrivals="fail")
    assert [sock.local_port for sock in report.forbidden_arrivals] == [2]
    assert report.failed
    assert not report.drained
    assert report.finished
    assert left_of(report)[0] == first.cookie
    assert len(report.left) == 2
    assert machine.sockets.destroyed == []
    assert report.elapsed < 4


def test_arrival_at_end_of_grace_prevents_destruction(machine: Timeline) -> None:
    machine.connect(1)
    machine.at(10.0, lambda: machine.connect(2) and None)
    report = machine.run({"state": "established"}, grace=10.0, arrivals="fail")
    assert len(report.forbidden_arrivals) == 1
    assert machine.sockets.destroyed == []


# Limits.


def test_max_sockets_is_checked_before_waiting(machine: Timeline) -> None:
    for port in range(3):
        machine.connect(port)
    report = machine.run(grace=60.0, destroy_options={"max_sockets": MaxSockets(number=2)})
    assert report.counts == {"limit": 3}
    assert report.elapsed == 0.0
    assert report.failed
    assert left_of(report) == []


def test_max_sockets_does_not_apply_with_destroy_false(machine: Timeline) -> None:
    for port in range(3):
        machine.connect(port)
    report = machine.run(
        grace=1.0, destroy=False, destroy_options={"max_sockets": MaxSockets(number=2)}
    )
    assert report.counts == {}
    assert len(report.left) == 3


def test_max_sockets_includes_arrivals(machine: Timeline) -> None:
    for port in range(2):
        machine.connect(port)
    machine.at(2.0, lambda: machine.connect(7) and None)
    report = machine.run(grace=10.0, destroy_options={"max_sockets": MaxSockets(number=2)})
    assert report.counts == {"limit": 3}
    assert machine.sockets.destroyed == []


def test_max_sockets_excludes_ended_connections(machine: Timeline) -> None:
    ending, _remaining = machine.connect(1), machine.connect(2)
    machine.at(2.0, lambda: machine.connect(7) and None)
    machine.ends(3.0, ending)
    report = machine.run(grace=10.0, destroy_options={"max_sockets": MaxSockets(number=2)})
    assert report.counts == {"destroyed": 2}


def test_max_sockets_as_share_of_population(machine: Timeline) -> None:
    for port in range(1, 5):
        machine.connect(port)
    match = {"local_port": "1-2"}
    refused = machine.run(
        match, grace=10.0, destroy_options={"max_sockets": MaxSockets(share=0.49)}
    )
    assert refused.counts == {"limit": 2}
    assert refused.exceeded == (2, MaxSockets(share=0.49), 4)
    done = machine.run(match, grace=10.0, destroy_options={"max_sockets": MaxSockets(share=0.5)})
    assert done.counts == {"destroyed": 2}


# Check mode.


@pytest.mark.parametrize("until", ["closed", "sent"])
def test_check_mode_predicts_without_waiting(machine: Timeline, until: str) -> None:
    socks = [machine.connect(port) for port in range(3)]
    plan = machine.run(destroy_options={"check": True}, until=until)
    assert outcomes_of(plan) == {sock.cookie: "destroyed" for sock in socks}
    assert plan.elapsed == 0.0
    assert plan.changed
    assert machine.sockets.destroyed == []
    assert machine.listeners == []


def test_check_mode_with_destroy_false_predicts_no_change(machine: Timeline) -> None:
    machine.connect(1)
    plan = machine.run(destroy_options={"check": True}, destroy=False)
    assert (plan.changed, len(plan.left)) == (False, 1)


# Sockets that cannot be destroyed.


def test_surviving_socket_fails_the_drain(machine: Timeline) -> None:
    sock = machine.connect(1, immortal=True)
    report = machine.run(grace=5.0)
    assert outcomes_of(report) == {sock.cookie: "survived"}
    assert report.failed
    assert not report.drained


def test_connection_not_permitted_to_destroy_may_still_end(machine: Timeline) -> None:
    sock = machine.connect(1, errno=errno.EPERM, tcp_info=QUIET)
    machine.ends(20.0, sock)
    report = machine.run(until="sent", grace=60.0)
    assert report.counts == {}
    assert report.progress.ended == 1
    assert not report.failed
    assert requested_cookies(machine.sockets).count(sock.cookie) == 1


def test_kernel_defect_is_reported_and_left(machine: Timeline) -> None:
    machine.release = "5.10.0"
    orphan = machine.connect(1, state=FIN_WAIT1, wqueue=9, inode=0)
    report = machine.run(grace=5.0)
    assert outcomes_of(report) == {orphan.cookie: "kernel_defect"}
    assert not report.failed
    assert not report.drained


def test_socket_connected_elsewhere_may_be_protected(machine: Timeline) -> None:
    sock = machine.connect(1)
    other = machine.connect(2)
    machine.at(2.0, lambda: vars(sock).update(remote_port=4505))
    report = machine.run({"state": "established"}, grace=10.0)
    assert outcomes_of(report) == {sock.cookie: "protected", other.cookie: "destroyed"}
    assert (report.progress.ended, report.matched) == (1, 3)


def test_unknown_engine_is_rejected_before_first_snapshot(machine: Timeline) -> None:
    machine.connect(1)
    with pytest.raises(EngineUnavailable):
        machine.run(destroy_options={"engine": "tomorrow"})
    assert machine.snapshots == []


# Failed snapshots.


def test_failure_of_first_snapshot_is_raised(machine: Timeline) -> None:
    machine.connect(1)
    machine.sockets.faults.append(faults.done_with(errno.EACCES))
    with pytest.raises(NetlinkError):
        machine.run(grace=60.0)


def test_failed_snapshot_is_repeated(machine: Timeline) -> None:
    sock = machine.connect(1)
    machine.at(1.0, lambda: machine.sockets.faults.append(faults.done_with(errno.EACCES)))
    machine.ends(5.0, sock)
    report = machine.run(grace=60.0)
    assert report.progress.ended == 1


def test_failure_of_last_snapshot_is_raised(machine: Timeline) -> None:
    machine.connect(1)

    def fail_snapshots() -> None:
        machine.sockets.faults.extend([faults.done_with(errno.EACCES)] * 1000)

    machine.at(9.99, fail_snapshots)
    with pytest.raises(SocketsError):
        machine.run(grace=10.0)


def test_destroyed_sockets_are_reported_when_last_snapshot_fails(machine: Timeline) -> None:
    quiet = machine.connect(1, tcp_info={"last_data_recv": 60_000, "last_data_sent": 60_000})
    busy = machine.connect(2, wqueue=7)

    def fail_snapshots() -> None:
        machine.sockets.faults.extend([faults.done_with(errno.EACCES)] * 1000)

    machine.at(9.99, fail_snapshots)
    report = machine.run(until="sent", grace=10.0)
    assert outcomes_of(report) == {quiet.cookie: "destroyed", busy.cookie: "survived"}
    assert report.failed
    (reason,) = [result.reason for result in report.results if result.outcome == "survived"]
    assert reason is not None
    assert reason.rule == "error"


# Namespaces.


def test_connections_of_deleted_namespace_have_ended(
    machine: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = machine.kernel.namespace("other")
    other.add(FakeSocket(local=LOCAL, local_port=1, remote=REMOTE, remote_port=443, inode=0))
    spaces = [machine.namespace, Namespace("other", "/run/netns/other", other.identity)]
    opened = machine.open

    def open_netlink(namespace: Namespace, protocol: int) -> object:
        if namespace.name == "other" and machine.now >= 1005.0:
            raise NamespaceNotFound("other")
        return opened(namespace, protocol)

    monkeypatch.setattr(machine, "open", open_netlink)
    report = machine.run(grace=60.0, namespaces=spaces, protect={"kernel": False})
    assert report.progress.ended == 1
    assert report.elapsed < 7


def test_explicit_namespace_must_exist_at_start(
    machine: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_namespace: Namespace, _protocol: int) -> object:
        raise NamespaceNotFound("other")

    monkeypatch.setattr(machine, "open", missing)
    with pytest.raises(NamespaceNotFound):
        machine.run(namespaces=[Namespace("other", "/run/netns/other", (4, 7))])
    report = machine.run(namespaces=[Namespace("pid:7", "/proc/7/ns/net", (4, 7), explicit=False)])
    assert report.matched == 0


def test_half_open_connection_that_opens_is_no_arrival(machine: Timeline) -> None:
    sock = machine.connect(1, state=SYN_RECV)
    machine.at(1.0, lambda: vars(sock).update(state=ESTABLISHED))
    machine.ends(5.0, sock)
    report = machine.run({"state": "connected"}, protect={"kernel": False}, grace=60.0)
    assert (report.progress.ended, report.progress.arrived) == (1, 0)
