# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drain waits for, what it counts, and when it is over."""

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
from tests.support.destroy_calls import cookies_asked_for
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


def test_nothing_to_wait_for(machine: Timeline) -> None:
    report = machine.run()
    assert (report.matched, report.elapsed, report.drained) == (0, 0.0, True)
    assert not report.changed
    assert machine.looks == [0.0]


def test_all_end_by_themselves(machine: Timeline) -> None:
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


def test_the_rest_is_destroyed_when_the_grace_is_over(machine: Timeline) -> None:
    ends, stays = machine.connect(1), machine.connect(2)
    machine.ends(3.0, ends)
    report = machine.run(grace=10.0)
    assert report.progress.ended == 1
    assert outcomes_of(report) == {stays.cookie: "destroyed"}
    assert report.matched == 2
    assert report.elapsed == 10.0
    assert report.drained
    assert report.by_state == {}


def test_the_rest_is_told_where_it_is_not_to_be_destroyed(machine: Timeline) -> None:
    stays = machine.connect(2)
    waits = machine.connect(3, state=CLOSE_WAIT)
    report = machine.run(grace=10.0, destroy=False)
    assert left_of(report) == [stays.cookie, waits.cookie]
    assert report.by_state == {"established": 1, "close-wait": 1}
    assert not report.drained
    assert not report.failed
    assert machine.sockets.destroyed == []


def test_no_grace_is_one_look(machine: Timeline) -> None:
    stays = machine.connect(1)
    report = machine.run(grace=0.0)
    assert outcomes_of(report) == {stays.cookie: "destroyed"}
    assert machine.looks[0] == 0.0
    assert report.elapsed == 0.0


def test_time_wait_has_ended_whatever_the_selector_says(machine: Timeline) -> None:
    machine.connect(1, state=TIME_WAIT, timer=3)
    sock = machine.connect(2)
    machine.at(2.0, lambda: vars(sock).update(state=TIME_WAIT, timer=3, inode=0))
    report = machine.run({"state": "connected"}, grace=60.0)
    assert (report.matched, report.progress.ended) == (1, 1)
    assert machine.sockets.destroyed == []


def test_a_state_that_was_not_selected_is_no_end(machine: Timeline) -> None:
    sock, other = machine.connect(1), machine.connect(2)
    machine.at(1.0, lambda: vars(sock).update(state=CLOSE_WAIT))
    machine.at(1.0, lambda: vars(other).update(state=FIN_WAIT2, timer=3, inode=0))
    machine.ends(30.0, other)
    report = machine.run({"state": "established"}, grace=60.0)
    assert report.progress.ended == 1
    assert outcomes_of(report) == {sock.cookie: "destroyed"}
    assert report.results[0].socket.state == "close-wait"


def test_a_socket_that_is_connected_elsewhere_is_another_connection(machine: Timeline) -> None:
    """The application disconnected the socket and connected it elsewhere: same cookie."""
    sock = machine.connect(1)
    machine.at(2.0, lambda: vars(sock).update(remote_port=8443))
    report = machine.run({"remote_port": 443}, grace=60.0)
    assert (report.progress.ended, report.progress.arrived) == (1, 0)
    assert report.drained
    assert machine.sockets.destroyed == []


def test_a_closed_socket_that_keeps_its_port_has_ended(machine: Timeline) -> None:
    sock = machine.connect(1)
    machine.at(2.0, lambda: vars(sock).update(state=13))
    report = machine.run(grace=60.0)
    assert report.progress.ended == 1


def test_udp_ends_when_it_is_disconnected(machine: Timeline) -> None:
    four = machine.add(udp(1))
    six = machine.add(
        FakeSocket(protocol=UDP, local=LOCAL6, local_port=2, remote=REMOTE6, remote_port=53)
    )
    # The address of an IPv6 remote stays in the record.
    machine.at(2.0, lambda: vars(six).update(state=CLOSE, remote_port=0))
    machine.at(3.0, lambda: vars(four).update(state=CLOSE, remote_port=0, dst=bytes(4)))
    report = machine.run(UDP_MATCH, protect={"unconnected": False}, grace=60.0)
    assert (report.progress.ended, report.progress.arrived) == (2, 0)
    assert report.counts == {}
    assert report.drained


def test_udp_that_only_loses_its_remote_is_not_drained_again(machine: Timeline) -> None:
    sock = machine.add(udp(1))
    stays = machine.connect(2)
    machine.ends(5.0, stays)
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


def test_protected_ones_are_not_waited_for(machine: Timeline) -> None:
    machine.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    salt = machine.connect(1, remote_port=4505)
    report = machine.run(grace=60.0)
    assert report.counts == {"protected": 2}
    assert report.matched == 2
    assert report.elapsed == 0.0
    assert {each.reason.rule for each in report.results if each.reason} == {
        "listeners",
        "control_connection",
    }
    assert salt in machine.sockets.sockets


def test_what_is_protected_when_its_time_comes_is_spared(machine: Timeline) -> None:
    """Its application has handed it to sshd."""
    sock = machine.connect(1)
    machine.process(700, comm="sshd", program="/usr/sbin/sshd")
    machine.at(5.0, lambda: machine.hold(700, sock))
    report = machine.run({"state": "all"}, grace=10.0)
    assert outcomes_of(report) == {sock.cookie: "protected"}
    assert report.counts == {"protected": 1}
    assert (report.matched, report.progress.ended) == (1, 0)
    assert report.drained
    assert machine.sockets.destroyed == []


def test_what_was_protected_at_first_stays_spared(machine: Timeline) -> None:
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
def test_newcomers(
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
    assert [mark.arrived for key, mark in report.marks.items() if key[2] == 2] in ([], [True])


def test_protected_newcomers_that_went_are_not_counted(machine: Timeline) -> None:
    """Health checks come and go all the time."""
    machine.connect(1)
    machine.connect(2, remote_port=4505)
    for number in range(5):

        def come(number: int = number) -> None:
            check = machine.connect(100 + number, remote_port=4505)
            machine.ends(2.0 * number + 3.0, check)

        machine.at(2.0 * number + 1.0, come)
    report = machine.run({"state": "established"}, grace=20.0)
    assert report.counts == {"destroyed": 1, "protected": 1}
    assert (report.matched, report.progress.arrived) == (2, 0)


def test_a_newcomer_that_is_ignored_is_counted_once(machine: Timeline) -> None:
    machine.connect(1)
    machine.at(2.0, lambda: machine.connect(2) and None)
    report = machine.run({"state": "established"}, grace=30.0, arrivals="ignore")
    assert report.progress.arrived == 1
    assert len(machine.looks) > 20


def test_a_newcomer_that_must_not_come(machine: Timeline) -> None:
    first = machine.connect(1)
    machine.at(2.0, lambda: machine.connect(2) and None)
    report = machine.run({"state": "established"}, grace=30.0, arrivals="fail")
    assert [decoded.local_port for decoded in report.refused] == [2]
    assert report.failed
    assert not report.drained
    assert report.finished
    assert left_of(report)[0] == first.cookie
    assert len(report.left) == 2
    assert machine.sockets.destroyed == []
    assert report.elapsed < 4


def test_a_newcomer_at_the_very_end_stops_it_too(machine: Timeline) -> None:
    machine.connect(1)
    machine.at(10.0, lambda: machine.connect(2) and None)
    report = machine.run({"state": "established"}, grace=10.0, arrivals="fail")
    assert len(report.refused) == 1
    assert machine.sockets.destroyed == []


# Limits.


def test_too_many_are_refused_before_it_waits(machine: Timeline) -> None:
    for port in range(3):
        machine.connect(port)
    report = machine.run(grace=60.0, destroy_options={"max_sockets": MaxSockets(number=2)})
    assert report.counts == {"limit": 3}
    assert report.elapsed == 0.0
    assert report.failed
    assert left_of(report) == []


def test_reporting_has_no_limit(machine: Timeline) -> None:
    for port in range(3):
        machine.connect(port)
    report = machine.run(
        grace=1.0, destroy=False, destroy_options={"max_sockets": MaxSockets(number=2)}
    )
    assert report.counts == {}
    assert len(report.left) == 3


def test_too_many_with_those_that_came(machine: Timeline) -> None:
    for port in range(2):
        machine.connect(port)
    machine.at(2.0, lambda: machine.connect(7) and None)
    report = machine.run(grace=10.0, destroy_options={"max_sockets": MaxSockets(number=2)})
    assert report.counts == {"limit": 3}
    assert machine.sockets.destroyed == []


def test_those_that_went_do_not_count(machine: Timeline) -> None:
    going, _stays = machine.connect(1), machine.connect(2)
    machine.at(2.0, lambda: machine.connect(7) and None)
    machine.ends(3.0, going)
    report = machine.run(grace=10.0, destroy_options={"max_sockets": MaxSockets(number=2)})
    assert report.counts == {"destroyed": 2}


def test_a_share_is_of_those_that_there_are(machine: Timeline) -> None:
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
def test_check_mode_predicts_and_does_not_wait(machine: Timeline, until: str) -> None:
    socks = [machine.connect(port) for port in range(3)]
    plan = machine.run(destroy_options={"check": True}, until=until)
    assert outcomes_of(plan) == {sock.cookie: "destroyed" for sock in socks}
    assert plan.elapsed == 0.0
    assert plan.changed
    assert machine.sockets.destroyed == []
    assert machine.listening == []


def test_check_mode_of_a_report_changes_nothing(machine: Timeline) -> None:
    machine.connect(1)
    plan = machine.run(destroy_options={"check": True}, destroy=False)
    assert (plan.changed, len(plan.left)) == (False, 1)


# What cannot be destroyed.


def test_what_survives_fails_at_the_end(machine: Timeline) -> None:
    stuck = machine.connect(1, immortal=True)
    report = machine.run(grace=5.0)
    assert outcomes_of(report) == {stuck.cookie: "survived"}
    assert report.failed
    assert not report.drained


def test_what_may_not_be_destroyed_may_yet_end(machine: Timeline) -> None:
    sock = machine.connect(1, errno=errno.EPERM, tcp_info=QUIET)
    machine.ends(20.0, sock)
    report = machine.run(until="sent", grace=60.0)
    assert report.counts == {}
    assert report.progress.ended == 1
    assert not report.failed
    assert cookies_asked_for(machine.sockets).count(sock.cookie) == 1


def test_what_this_kernel_would_make_immortal_is_left_and_told(machine: Timeline) -> None:
    machine.release = "5.10.0"
    orphan = machine.connect(1, state=FIN_WAIT1, wqueue=9, inode=0)
    report = machine.run(grace=5.0)
    assert outcomes_of(report) == {orphan.cookie: "kernel_defect"}
    assert not report.failed
    assert not report.drained


def test_a_socket_connected_elsewhere_may_be_protected_there(machine: Timeline) -> None:
    sock = machine.connect(1)
    stays = machine.connect(2)
    machine.at(2.0, lambda: vars(sock).update(remote_port=4505))
    report = machine.run({"state": "established"}, grace=10.0)
    assert outcomes_of(report) == {sock.cookie: "protected", stays.cookie: "destroyed"}
    assert (report.progress.ended, report.matched) == (1, 3)


def test_an_engine_that_there_is_not_is_told_at_once(machine: Timeline) -> None:
    machine.connect(1)
    with pytest.raises(EngineUnavailable):
        machine.run(destroy_options={"engine": "tomorrow"})
    assert machine.looks == []


# Looks that fail.


def test_the_first_look_must_succeed(machine: Timeline) -> None:
    machine.connect(1)
    machine.sockets.faults.append(faults.done_with(errno.EACCES))
    with pytest.raises(NetlinkError):
        machine.run(grace=60.0)


def test_a_later_look_that_fails_is_made_again(machine: Timeline) -> None:
    sock = machine.connect(1)
    machine.at(1.0, lambda: machine.sockets.faults.append(faults.done_with(errno.EACCES)))
    machine.ends(5.0, sock)
    report = machine.run(grace=60.0)
    assert report.progress.ended == 1


def test_the_last_look_must_succeed(machine: Timeline) -> None:
    machine.connect(1)

    def break_down() -> None:
        machine.sockets.faults.extend([faults.done_with(errno.EACCES)] * 1000)

    machine.at(9.99, break_down)
    with pytest.raises(SocketsError):
        machine.run(grace=10.0)


def test_what_was_destroyed_is_told_though_the_last_look_fails(machine: Timeline) -> None:
    quiet = machine.connect(1, tcp_info={"last_data_recv": 60_000, "last_data_sent": 60_000})
    busy = machine.connect(2, wqueue=7)

    def break_down() -> None:
        machine.sockets.faults.extend([faults.done_with(errno.EACCES)] * 1000)

    machine.at(9.99, break_down)
    report = machine.run(until="sent", grace=10.0)
    assert outcomes_of(report) == {quiet.cookie: "destroyed", busy.cookie: "survived"}
    assert report.failed
    (reason,) = [each.reason for each in report.results if each.outcome == "survived"]
    assert reason is not None
    assert reason.rule == "error"


# Namespaces.


def test_a_namespace_that_goes_takes_its_connections_along(
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


def test_a_namespace_that_was_asked_for_must_be_there_at_first(
    machine: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_namespace: Namespace, _protocol: int) -> object:
        raise NamespaceNotFound("other")

    monkeypatch.setattr(machine, "open", gone)
    with pytest.raises(NamespaceNotFound):
        machine.run(namespaces=[Namespace("other", "/run/netns/other", (4, 7))])
    report = machine.run(namespaces=[Namespace("pid:7", "/proc/7/ns/net", (4, 7), explicit=False)])
    assert report.matched == 0


def test_half_open_ones_count_where_they_are_selected(machine: Timeline) -> None:
    sock = machine.connect(1, state=SYN_RECV)
    machine.at(1.0, lambda: vars(sock).update(state=ESTABLISHED))
    machine.ends(5.0, sock)
    report = machine.run({"state": "connected"}, protect={"kernel": False}, grace=60.0)
    assert (report.progress.ended, report.progress.arrived) == (1, 0)
