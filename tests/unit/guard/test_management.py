# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH and Salt connections that manage the host are protected."""

from __future__ import annotations

from pathlib import Path

import pytest

from linuxnet_sockets.guard import management
from tests.support.fake_kernel.model import MPTCP, UDP
from tests.support.fake_machine import (
    CALLER_PID,
    LOCAL,
    LOCAL6,
    REMOTE,
    REMOTE6,
    SHELL_PID,
    FakeMachine,
    FakeSocket,
    connection,
)

SSH_CONNECTION = f"{REMOTE} 50000 {LOCAL} 22"
SSH_CONNECTION_6 = f"{REMOTE6} 50000 {LOCAL6}%eth0 22"


@pytest.mark.parametrize(
    ("value", "endpoints"),
    [
        (SSH_CONNECTION, (LOCAL, 22, REMOTE, 50000)),
        (SSH_CONNECTION_6, (LOCAL6, 22, REMOTE6, 50000)),
        # An IPv6 listener with plain IPv4 text, and an IPv4 socket with v4-mapped text.
        (SSH_CONNECTION, (f"::ffff:{LOCAL}", 22, f"::ffff:{REMOTE}", 50000)),
        (f"::ffff:{REMOTE} 50000 ::ffff:{LOCAL} 22", (LOCAL, 22, REMOTE, 50000)),
        # The client's socket, if the client is on this host too.
        (SSH_CONNECTION, (REMOTE, 50000, LOCAL, 22)),
    ],
)
@pytest.mark.parametrize("where", ["own environment", "ancestor's environment"])
def test_ssh_connection_is_protected(
    machine: FakeMachine, value: str, endpoints: tuple[str, int, str, int], where: str
) -> None:
    if where == "own environment":
        machine.environ["SSH_CONNECTION"] = value
    else:
        # sudo removed the variable, but the shell that ran sudo has it.
        machine.process(700, comm="bash", environ={"A": "b", "SSH_CONNECTION": value})
        machine.process(701, comm="sudo", parent=700)
        (machine.proc / str(SHELL_PID) / "stat").write_text(f"{SHELL_PID} (a) b) (c) S 701 1 1 0\n")
    sock = machine.add(connection(*endpoints))
    assert machine.rule(sock) == "control_connection"
    assert machine.rule(sock, control_connection=False) is None


@pytest.mark.parametrize(
    "endpoints",
    [
        (LOCAL, 22, REMOTE, 50001),
        (LOCAL, 23, REMOTE, 50000),
        (LOCAL, 22, "198.51.100.8", 50000),
        ("192.0.2.2", 22, REMOTE, 50000),
        (LOCAL, 50000, REMOTE, 22),
    ],
)
def test_other_endpoints_are_not_the_control_connection(
    machine: FakeMachine, endpoints: tuple[str, int, str, int]
) -> None:
    machine.environ["SSH_CONNECTION"] = SSH_CONNECTION
    assert machine.rule(machine.add(connection(*endpoints))) is None


def test_same_endpoints_in_another_protocol(machine: FakeMachine) -> None:
    machine.environ["SSH_CONNECTION"] = SSH_CONNECTION

    def with_protocol(protocol: int) -> FakeSocket:
        return machine.add(
            FakeSocket(
                protocol=protocol, local=LOCAL, local_port=22, remote=REMOTE, remote_port=50000
            )
        )

    assert machine.rule(with_protocol(MPTCP)) == "control_connection"
    assert machine.rule(with_protocol(UDP)) is None


@pytest.mark.parametrize(
    "value",
    ["", "UNKNOWN 0 UNKNOWN 0", f"{REMOTE} 50000 {LOCAL}", "a b c d", f"{SSH_CONNECTION} 7"],
)
def test_invalid_ssh_connection_protects_nothing(machine: FakeMachine, value: str) -> None:
    machine.environ["SSH_CONNECTION"] = value
    assert management.ssh_connections(machine.host, []) == frozenset()
    assert machine.rule(machine.add(connection(*(LOCAL, 22, REMOTE, 50000)))) is None


@pytest.mark.parametrize("holder", [CALLER_PID, SHELL_PID, 1])
def test_sockets_of_ancestors_are_protected(machine: FakeMachine, holder: int) -> None:
    sock = machine.add(connection(), holder=holder)
    reason = machine.reason(machine.guard(), sock)
    assert reason is not None
    assert reason.rule == "control_connection"
    assert f"process {holder}" in str(reason.detail)
    assert machine.rule(sock, control_connection=False) is None


def test_sockets_of_a_sibling_are_not_protected(machine: FakeMachine) -> None:
    machine.process(901, comm="sibling", parent=SHELL_PID)
    assert machine.rule(machine.add(connection(), holder=901)) is None


def test_ancestors_stop_at_an_unreadable_process(tmp_path: Path) -> None:
    base = tmp_path / "9"
    base.mkdir()
    (base / "stat").write_text("9 (x) S 8 1 1")
    assert management.ancestors(str(tmp_path), 9) == [9, 8]
    (base / "stat").write_text("9 (x) S 9 1 1")
    assert management.ancestors(str(tmp_path), 9) == [9]
    (base / "stat").write_text("nonsense")
    assert management.ancestors(str(tmp_path), 9) == [9]
