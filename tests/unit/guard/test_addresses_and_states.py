# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guard rules on addresses, ports and states: when each applies, and that it can be off."""

from __future__ import annotations

import pytest

from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import (
    BOUND_INACTIVE,
    CLOSE,
    ESTABLISHED,
    LISTEN,
    MPTCP,
    TIME_WAIT,
    UDP,
    UDPLITE,
)
from tests.support.fake_machine import (
    LOCAL,
    LOCAL6,
    REMOTE,
    REMOTE6,
    SECOND_LOCAL,
    FakeMachine,
    connection,
)


def test_ordinary_connection_is_not_protected(machine: FakeMachine) -> None:
    for sock in (connection(), connection(LOCAL6, 1, REMOTE6, 2), connection(state=TIME_WAIT)):
        assert machine.rule(machine.add(sock)) is None


LOOPBACK = [
    connection("127.0.0.1", 1, "127.0.0.1", 2),
    connection("127.9.9.9", 1, "127.0.0.1", 2),
    connection("::1", 1, "::1", 2),
    connection("::ffff:127.0.0.1", 1, "::ffff:127.0.0.2", 2),
    # Both ends are local: on one interface, on two, and v4-mapped.
    connection(LOCAL, 1, LOCAL, 2),
    connection(LOCAL, 1, SECOND_LOCAL, 2),
    connection(f"::ffff:{LOCAL}", 1, f"::ffff:{SECOND_LOCAL}", 2),
    connection(LOCAL6, 1, LOCAL6, 2),
    # Both ends have the same address, which no interface has.
    connection("203.0.113.5", 1, "203.0.113.5", 2),
    connection("127.0.0.1", 1, "127.0.0.1", 2, state=TIME_WAIT),
    FakeSocket(protocol=UDP, local="127.0.0.1", local_port=5, remote="127.0.0.1", remote_port=6),
]


@pytest.mark.parametrize("sock", LOOPBACK, ids=lambda sock: f"{sock.local}-{sock.remote}")
def test_loopback_is_protected(machine: FakeMachine, sock: FakeSocket) -> None:
    machine.add(sock)
    assert machine.rule(sock) == "loopback"
    assert machine.rule(sock, loopback=False) is None


@pytest.mark.parametrize(
    "sock",
    [
        connection(LOCAL, 1, "128.0.0.1", 2),
        # 7f is 127 only in IPv4.
        connection("7f00::1", 1, "7f00::2", 2),
        connection("203.0.113.5", 1, LOCAL, 2),
    ],
    ids=lambda sock: f"{sock.local}-{sock.remote}",
)
def test_not_loopback(machine: FakeMachine, sock: FakeSocket) -> None:
    assert machine.rule(machine.add(sock)) is None


def test_equal_bytes_of_other_family_do_not_hide_a_local_address(
    machine: FakeMachine,
) -> None:
    """The kernel reports 16 bytes for both families: 192.0.2.129 equals c000:281::."""
    both_here = machine.add(connection(LOCAL, 1, SECOND_LOCAL, 2))
    alike = machine.add(connection(LOCAL6, 1, "c000:281::", 2))
    reasons = machine.reasons(machine.guard(), both_here, alike)
    assert [reason and reason.rule for reason in reasons] == ["loopback", None]


LISTENERS = [
    FakeSocket(local="0.0.0.0", local_port=443, state=LISTEN),
    FakeSocket(local="::", local_port=443, state=LISTEN),
    FakeSocket(local=LOCAL, local_port=443, state=LISTEN),
    FakeSocket(local=LOCAL, local_port=443, state=BOUND_INACTIVE),
    FakeSocket(protocol=MPTCP, local=LOCAL, local_port=443, state=LISTEN),
]


@pytest.mark.parametrize("sock", LISTENERS, ids=lambda sock: f"{sock.local}-{sock.state}")
def test_listeners_are_protected(machine: FakeMachine, sock: FakeSocket) -> None:
    machine.add(sock)
    assert machine.rule(sock) == "listeners"
    assert machine.rule(sock, listeners=False) is None


@pytest.mark.parametrize("protocol", [UDP, UDPLITE])
def test_unconnected_datagram_sockets_are_protected(machine: FakeMachine, protocol: int) -> None:
    bound = machine.add(FakeSocket(protocol=protocol, local=LOCAL, local_port=53, state=CLOSE))
    connected = machine.add(
        FakeSocket(
            protocol=protocol,
            local=LOCAL,
            local_port=54,
            remote=REMOTE,
            remote_port=53,
            state=ESTABLISHED,
        )
    )
    assert machine.rule(bound) == "unconnected"
    assert machine.rule(bound, unconnected=False) is None
    assert machine.rule(connected) is None


@pytest.mark.parametrize("port", [4505, 4506])
@pytest.mark.parametrize("end", ["local", "remote"])
def test_salt_ports_are_protected(machine: FakeMachine, port: int, end: str) -> None:
    ports = {f"{end}_port": port}
    sock = machine.add(connection(**ports))
    datagrams = machine.add(
        FakeSocket(protocol=UDP, local=LOCAL, local_port=9, remote=REMOTE, remote_port=port)
    )
    assert machine.rule(sock) == "control_connection"
    assert machine.rule(sock, control_connection=False) is None
    assert machine.rule(machine.add(connection(remote_port=4507))) is None
    assert machine.rule(datagrams) is None


def test_many_sockets_are_evaluated_in_one_call(machine: FakeMachine) -> None:
    sockets = [
        machine.add(connection()),
        machine.add(connection("127.0.0.1", 1, "127.0.0.1", 2)),
        machine.add(FakeSocket(local="0.0.0.0", local_port=443, state=LISTEN)),
        machine.add(connection(local_port=40_001)),
        machine.add(connection(remote_port=4505)),
    ]
    reasons = machine.reasons(machine.guard(), *sockets)
    assert [reason and reason.rule for reason in reasons] == [
        None,
        "loopback",
        "listeners",
        None,
        "control_connection",
    ]


def test_all_switches_off_protect_nothing(machine: FakeMachine) -> None:
    off = dict.fromkeys(
        (
            "control_connection",
            "ssh_sessions",
            "loopback",
            "listeners",
            "unconnected",
            "kernel",
        ),
        False,
    )
    machine.environ["SSH_CONNECTION"] = f"{REMOTE} 443 {LOCAL} 40000"
    sockets = [machine.add(sock, holder=None) for sock in (connection(), *LOOPBACK, *LISTENERS)]
    assert machine.reasons(machine.guard(off), *sockets) == [None] * len(sockets)
