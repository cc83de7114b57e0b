# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""destroy(): only selected sockets are destroyed, whatever happens in the meantime."""

from __future__ import annotations

import errno

import pytest

from tests.support.destroy_calls import (
    ALL,
    UNGUARDED,
    both_ways,
    outcomes_of,
    run,
    when_destroying,
)
from tests.support.fake_kernel import FakeNamespace, FakeSocket
from tests.support.fake_kernel.model import (
    BOUND_INACTIVE,
    CLOSE,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    LISTEN,
    SYN_RECV,
    SYN_SENT,
    TIME_WAIT,
    UDP,
)
from tests.support.fake_machine import LOCAL, LOCAL6, REMOTE, REMOTE6, FakeMachine, connection


def test_only_selected_sockets_are_destroyed(machine: FakeMachine) -> None:
    targets = [machine.add(connection(local_port=port)) for port in (1, 2)]
    other = machine.add(connection(local_port=3, remote_port=80))
    report = run(machine, {"remote_port": 443})
    assert outcomes_of(report) == {sock.cookie: "destroyed" for sock in targets}
    assert machine.sockets.sockets == [other]
    assert report.matched == 2
    assert report.counts == {"destroyed": 2}
    assert report.engines == ("netlink",)
    assert report.changed
    assert not report.failed


@pytest.mark.parametrize(
    "state", [ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LISTEN, CLOSING]
)
@pytest.mark.parametrize(("local", "remote"), [(LOCAL, REMOTE), (LOCAL6, REMOTE6)])
def test_every_state(machine: FakeMachine, state: int, local: str, remote: str) -> None:
    if state == LISTEN:
        sock = FakeSocket(local=local, local_port=5, state=state)
    else:
        sock = connection(local, 5, remote, 6, state=state)
    both_ways(machine, sock, ALL, "destroyed")


def test_second_run_changes_nothing(machine: FakeMachine) -> None:
    machine.add(connection())
    assert run(machine).changed
    again = run(machine)
    assert again.results == []
    assert not again.changed
    assert not again.failed


def test_connection_that_keeps_its_port_is_destroyed(machine: FakeMachine) -> None:
    # The kernel keeps the port until the application closes the descriptor.
    sock = connection(explicit_port=True)
    both_ways(machine, sock, ALL, "destroyed")
    assert sock.state == BOUND_INACTIVE
    assert run(machine).results == []


def test_bound_inactive_socket_survives(machine: FakeMachine) -> None:
    sock = FakeSocket(local=LOCAL, local_port=7, state=BOUND_INACTIVE)
    report = both_ways(machine, sock, {"state": "bound-inactive"}, "survived")
    assert report.failed


def test_protected_sockets_have_a_reason(machine: FakeMachine) -> None:
    protected = machine.add(connection(remote_port=4505))
    target = machine.add(connection(local_port=2))
    for check in (True, False):
        report = run(machine, check=check)
        assert outcomes_of(report) == {protected.cookie: "protected", target.cookie: "destroyed"}
        reasons = {result.socket.cookie: result.reason for result in report.results}
        reason = reasons[protected.cookie]
        assert reason is not None
        assert reason.rule == "control_connection"
        assert "4505" in str(reason.detail)
        assert reasons[target.cookie] is None
    assert machine.sockets.sockets == [protected]


def test_all_netlink_sockets_are_closed(machine: FakeMachine) -> None:
    machine.add(connection())
    run(machine)
    assert machine.kernel.opened
    assert all(sock.closed for sock in machine.kernel.opened)


# Changes between the dump and the request.


def test_socket_that_closes_on_its_own_is_already_gone(machine: FakeMachine) -> None:
    sock = machine.add(connection())
    when_destroying(machine.sockets, lambda: machine.sockets.remove(sock))
    report = run(machine)
    assert outcomes_of(report) == {sock.cookie: "already_gone"}
    assert not report.changed
    assert not report.failed


def test_successor_with_the_same_addresses_is_not_destroyed(machine: FakeMachine) -> None:
    sock, successor = machine.add(connection()), connection()

    def replace() -> None:
        machine.sockets.remove(sock)
        machine.sockets.add(successor)

    when_destroying(machine.sockets, replace)
    assert outcomes_of(run(machine)) == {sock.cookie: "already_gone"}
    assert machine.sockets.sockets == [successor]


def test_listener_with_the_same_port_is_not_destroyed(machine: FakeMachine) -> None:
    listener = machine.add(FakeSocket(local=LOCAL, local_port=443, state=LISTEN))
    sock = machine.add(connection(local_port=443, remote_port=50000))
    when_destroying(machine.sockets, lambda: machine.sockets.remove(sock))
    report = run(machine, {"state": "established"}, protect=UNGUARDED)
    assert outcomes_of(report) == {sock.cookie: "already_gone"}
    assert machine.sockets.sockets == [listener]


def test_connection_that_changes_state_is_destroyed(machine: FakeMachine) -> None:
    sock = machine.add(connection())

    def closes() -> None:
        sock.state, sock.inode = TIME_WAIT, 0

    when_destroying(machine.sockets, closes)
    assert outcomes_of(run(machine)) == {sock.cookie: "destroyed"}


# Several sockets with the same addresses.


def test_all_listeners_of_a_reuseport_group_are_destroyed(machine: FakeMachine) -> None:
    group = [
        machine.add(FakeSocket(local=LOCAL, local_port=80, state=LISTEN, reuseport=1))
        for _number in range(16)
    ]
    report = run(machine, {"state": "listening"}, protect=UNGUARDED)
    assert report.counts == {"destroyed": 16}
    assert sorted(machine.sockets.destroyed) == sorted(sock.cookie for sock in group)


def test_only_selected_listeners_of_a_reuseport_group_are_destroyed(machine: FakeMachine) -> None:
    mine, others = [], []
    for number in range(12):
        sock = FakeSocket(
            local=LOCAL, local_port=80, state=LISTEN, reuseport=1, uid=1000 + number % 2
        )
        (mine if number % 2 else others).append(machine.add(sock))
    report = run(machine, {"state": "listening", "user": 1001}, protect=UNGUARDED)
    assert set(outcomes_of(report)) == {sock.cookie for sock in mine}
    assert [sock.state for sock in others] == [LISTEN] * 6
    # The lookup may only find sockets of others: then the socket survives.
    assert set(report.counts) <= {"destroyed", "survived"}
    assert set(machine.sockets.destroyed) <= {sock.cookie for sock in mine}


# Datagrams.


@pytest.mark.parametrize(("local", "remote"), [(LOCAL, REMOTE), (LOCAL6, REMOTE6)])
def test_explicitly_bound_udp_socket_is_disconnected(
    machine: FakeMachine, local: str, remote: str
) -> None:
    sock = FakeSocket(
        protocol=UDP, local=local, local_port=5, remote=remote, remote_port=53, explicit_port=True
    )
    match = {"protocol": "udp", "local_port": 5, "state": "all"}
    report = both_ways(machine, sock, match, "disconnected")
    assert report.changed
    assert machine.sockets.sockets == [sock]
    # The second time there is no remote to remove, and the application gets no error.
    again = run(machine, match, protect=UNGUARDED)
    assert outcomes_of(again) == {sock.cookie: "already_gone"}
    assert not again.changed
    assert not again.failed
    assert sock.errors == [errno.ECONNABORTED]
    # By default such a socket is protected.
    assert outcomes_of(run(machine, match)) == {sock.cookie: "protected"}


def test_autobound_udp_socket_is_destroyed(machine: FakeMachine) -> None:
    sock = FakeSocket(
        protocol=UDP, local=LOCAL, local_port=5, remote=REMOTE, remote_port=53, explicit_port=False
    )
    both_ways(machine, sock, {"protocol": "udp", "remote_port": 53}, "destroyed")
    assert machine.sockets.sockets == []


def test_unconnected_autobound_udp_socket_is_destroyed(machine: FakeMachine) -> None:
    sock = FakeSocket(protocol=UDP, local=LOCAL, local_port=5, state=CLOSE, explicit_port=False)
    both_ways(machine, sock, {"protocol": "udp", "state": "all"}, "destroyed")


def test_connected_udp_reuseport_sockets_are_all_disconnected(machine: FakeMachine) -> None:
    siblings = [
        machine.add(
            FakeSocket(
                protocol=UDP,
                local=LOCAL,
                local_port=5,
                remote=REMOTE,
                remote_port=53,
                reuseport=1,
            )
        )
        for _number in range(4)
    ]
    match = {"protocol": "udp", "remote_port": 53}
    assert run(machine, match).counts == {"protected": 4}
    report = run(machine, match, protect={"shared_port": False})
    assert report.counts == {"disconnected": 4}
    assert {result.reason.rule for result in report.results if result.reason} == {"shared_port"}
    assert [sock.errors for sock in siblings] == [[errno.ECONNABORTED]] * 4


def test_udp_socket_that_connects_elsewhere_was_disconnected(machine: FakeMachine) -> None:
    def connects_again(_namespace: FakeNamespace, sock: FakeSocket) -> None:
        sock.remote, sock.dst, sock.remote_port = "203.0.113.9", bytes((203, 0, 113, 9)), 53
        sock.state = ESTABLISHED

    sock = FakeSocket(
        protocol=UDP,
        local=LOCAL,
        local_port=5,
        remote=REMOTE,
        remote_port=53,
        on_destroy=connects_again,
    )
    machine.add(sock)
    assert outcomes_of(run(machine, {"protocol": "udp", "remote": REMOTE})) == {
        sock.cookie: "disconnected"
    }
