# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""destroy(): sockets that the kernel cannot, may not or should not destroy."""

from __future__ import annotations

import errno

import pytest

from linuxnet_sockets.errors import (
    HandlerMissing,
)
from tests.support.destroy_calls import (
    ALL,
    both_ways,
    outcomes_of,
    requested_cookies,
    run,
)
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import (
    CLOSING,
    FIN_WAIT1,
    FIN_WAIT2,
    LAST_ACK,
    MPTCP,
    RAW,
    TIME_WAIT,
    UDP,
    UDPLITE,
)
from tests.support.fake_machine import LOCAL, REMOTE, FakeMachine, connection


def test_udplite_is_unsupported(machine: FakeMachine) -> None:
    sock = FakeSocket(protocol=UDPLITE, local=LOCAL, local_port=5, remote=REMOTE, remote_port=6)
    report = both_ways(
        machine, sock, {"protocol": "udplite", "remote_port": 6}, "unsupported_protocol"
    )
    assert report.failed
    assert sock.errors == []


def test_mptcp_is_unsupported(machine: FakeMachine) -> None:
    sock = connection(protocol=MPTCP)
    both_ways(machine, sock, {"protocol": "mptcp", "state": "all"}, "unsupported_protocol")


def test_mptcp_subflow_is_not_destroyed_alone(machine: FakeMachine) -> None:
    whole = machine.add(connection(protocol=MPTCP))
    sock = connection()
    sock.ulp = "mptcp"
    both_ways(machine, sock, ALL, "unsupported_protocol")
    assert machine.sockets.sockets == [whole, sock]
    assert not any(requested_cookies(machine.sockets))


@pytest.mark.parametrize(
    ("knows_mptcp", "outcome"), [(True, "unsupported_protocol"), (False, "destroyed")]
)
def test_subflow_of_mptcp_that_cannot_be_listed(
    machine: FakeMachine, knows_mptcp: bool, outcome: str
) -> None:
    machine.kernel.abilities.handlers -= {MPTCP}
    if knows_mptcp:
        (machine.proc / "sys" / "net" / "mptcp").mkdir(parents=True)
    sock = connection()
    # A kernel without MPTCP has no subflows: the outcome shows that none was looked up.
    sock.ulp = "mptcp"
    both_ways(machine, sock, ALL, outcome)


def test_tcp_beside_mptcp_is_destroyed(machine: FakeMachine) -> None:
    machine.add(connection(protocol=MPTCP))
    both_ways(machine, connection(local_port=2), ALL, "destroyed")


def test_tls_connection_is_no_subflow(machine: FakeMachine) -> None:
    machine.add(connection(protocol=MPTCP))
    sock = connection(local_port=2)
    sock.ulp = "tls"
    both_ways(machine, sock, ALL, "destroyed")


def test_raw_socket_is_unsupported(machine: FakeMachine) -> None:
    # The kernel would destroy the first socket with the addresses, whatever its cookie.
    machine.kernel.abilities.handlers |= {RAW}
    sock = FakeSocket(
        protocol=RAW, local=LOCAL, local_port=1, remote=REMOTE, remote_port=0, raw_protocol=1
    )
    both_ways(machine, sock, {"protocol": "raw", "state": "all"}, "unsupported_protocol")
    assert not any(requested_cookies(machine.sockets))


def test_without_privilege(machine: FakeMachine) -> None:
    machine.kernel.abilities.privileged = False
    report = both_ways(machine, connection(), {"remote_port": 443}, "not_permitted")
    assert report.failed
    assert not report.changed


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_kernel_without_destroy(machine: FakeMachine, protocol: str) -> None:
    machine.kernel.abilities.destroys = False
    sock = connection()
    if protocol == "udp":
        sock = FakeSocket(protocol=UDP, local=LOCAL, local_port=5, remote=REMOTE, remote_port=443)
    match = {"protocol": protocol, "remote_port": 443}
    assert both_ways(machine, sock, match, "kernel_without_destroy").failed


@pytest.mark.parametrize("state", [TIME_WAIT, FIN_WAIT2])
def test_kernel_too_old_for_time_wait(machine: FakeMachine, state: int) -> None:
    """A closed FIN_WAIT_2 socket is a TIME_WAIT socket; only its timer shows it."""
    machine.kernel.abilities.destroys_time_wait = False
    machine.release = "5.15.0-100-generic"
    sock = connection(state=state, timer=3, inode=0)
    both_ways(machine, sock, ALL, "kernel_without_destroy")


def test_old_kernel_destroys_fin_wait_2(machine: FakeMachine) -> None:
    machine.kernel.abilities.destroys_time_wait = False
    machine.release = "5.15.0-100-generic"
    both_ways(machine, connection(state=FIN_WAIT2), ALL, "destroyed")


@pytest.mark.parametrize("state", [FIN_WAIT1, CLOSING, LAST_ACK])
@pytest.mark.parametrize("release", ["5.4.0-42-generic", "6.1.0-28-amd64", "6.10.14", "odd"])
def test_orphan_that_an_old_kernel_would_make_immortal_is_skipped(
    machine: FakeMachine, state: int, release: str
) -> None:
    machine.release = release
    sock = connection(state=state, inode=0, wqueue=100, timer=4)
    report = both_ways(machine, sock, ALL, "kernel_defect")
    assert machine.sockets.sockets == [sock]
    assert not report.failed
    assert not report.changed


@pytest.mark.parametrize("release", ["6.11.0", "6.18.44", "7.0"])
def test_orphan_is_destroyed_by_fixed_kernels(machine: FakeMachine, release: str) -> None:
    machine.release = release
    both_ways(machine, connection(state=FIN_WAIT1, inode=0, wqueue=9), ALL, "destroyed")


def test_other_closing_sockets_are_destroyed_by_old_kernels(machine: FakeMachine) -> None:
    machine.release = "5.10.0"
    for sock in (
        connection(local_port=1, state=FIN_WAIT1, wqueue=9),
        connection(local_port=2, state=FIN_WAIT2, inode=0),
        connection(local_port=3, wqueue=9, timer=4),
    ):
        machine.add(sock)
    assert run(machine).counts == {"destroyed": 3}


def test_acknowledged_socket_that_still_exists_survived(machine: FakeMachine) -> None:
    sock = connection(immortal=True)
    report = both_ways(machine, sock, ALL, "survived", predicted="destroyed")
    assert report.failed


@pytest.mark.parametrize(("number", "outcome"), [(errno.EBUSY, "busy"), (errno.EINVAL, "survived")])
def test_refusal_of_one_socket_leaves_others(
    machine: FakeMachine, number: int, outcome: str
) -> None:
    refused, other = machine.add(connection(errno=number)), machine.add(connection(local_port=2))
    assert outcomes_of(run(machine)) == {refused.cookie: outcome, other.cookie: "destroyed"}


def test_named_protocol_that_cannot_be_listed_raises(machine: FakeMachine) -> None:
    machine.kernel.abilities.handlers -= {MPTCP}
    with pytest.raises(HandlerMissing):
        run(machine, {"protocol": "mptcp", "state": "all"})
