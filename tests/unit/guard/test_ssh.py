# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guard rules on SSH: which processes serve it, and which of their sockets carry sessions."""

from __future__ import annotations

import pytest

from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import LISTEN, UDP
from tests.support.fake_machine import LOCAL, REMOTE, FakeMachine, connection

SSHD = "/usr/sbin/sshd"
SESSION = "/usr/lib/openssh/sshd-session"
DROPBEAR = "/usr/sbin/dropbear"
USER = 1500
# Pids of the daemon, of the part of a session that stays root's, of the user's part, of the shell.
DAEMON, MONITOR, CHILD, SHELL = 600, 601, 602, 603


def transport(port: int = 22, **fields: int) -> FakeSocket:
    """A connection that sshd accepted."""
    return connection(LOCAL, port, REMOTE, 50_000, **fields)


def forward(**fields: int) -> FakeSocket:
    """The far end of a port that sshd forwards for a user."""
    return connection(remote_port=5432, **{"uid": USER, **fields})


@pytest.fixture
def listening(machine: FakeMachine) -> FakeSocket:
    """sshd listens on port 22, and a user has logged in."""
    machine.process(DAEMON, program=SSHD)
    machine.process(MONITOR, program=SESSION, parent=DAEMON)
    machine.process(CHILD, program=SESSION, parent=MONITOR, user=USER, is_fork=True)
    machine.process(SHELL, parent=CHILD, user=USER)
    return machine.add(connection(LOCAL, 22, "0.0.0.0", 0, state=LISTEN), holder=DAEMON)


@pytest.mark.parametrize(
    "program",
    [
        SSHD,
        SESSION,
        "/usr/lib/openssh/sshd-auth",
        DROPBEAR,
        "/usr/sbin/sshd.pam",
        "/nix/store/abc-openssh/bin/sshd",
        # An upgrade replaced it.
        f"{SSHD} (deleted)",
    ],
)
def test_sockets_of_ssh_programs_are_protected(machine: FakeMachine, program: str) -> None:
    machine.process(600, comm="renamed", program=program)
    sock = machine.add(transport(), holder=600)
    assert machine.rule(sock) == "ssh_sessions"
    assert machine.rule(sock, ssh_sessions=False) is None


@pytest.mark.parametrize("program", ["ssh", "sshd2", "sshfs", "my-sshd", "app", "python3"])
def test_other_programs_are_not_ssh(machine: FakeMachine, program: str) -> None:
    machine.process(600, comm="sshd", program=f"/usr/bin/{program}")
    assert machine.rule(machine.add(transport(), holder=600)) is None


@pytest.mark.parametrize(("comm", "rule"), [("dropbear", "ssh_sessions"), ("dbclient", None)])
def test_command_tells_programs_in_one_file_apart(
    machine: FakeMachine, comm: str, rule: str | None
) -> None:
    machine.process(600, comm=comm, program="/usr/sbin/dropbearmulti")
    assert machine.rule(machine.add(transport(), holder=600)) == rule


@pytest.mark.parametrize(("user", "rule"), [(0, "ssh_sessions"), (USER, None)])
def test_process_with_unreadable_program_is_recognized_by_command(
    machine: FakeMachine, user: int, rule: str | None
) -> None:
    machine.process(600, comm="sshd", user=user)
    program = machine.proc / "600" / "exe"
    program.unlink()
    # readlink fails on a regular file, as on a link without permission.
    program.write_text("")
    assert machine.rule(machine.add(transport(), holder=600)) == rule


@pytest.mark.parametrize(
    ("file", "mode", "owner"),
    [
        ("exe", 0o755, USER),
        ("exe", 0o775, 0),
        ("exe", 0o757, 0),
        ("root/usr/sbin", 0o755, USER),
        ("root/usr/sbin", 0o1777, 0),
        ("root/usr", 0o777, 0),
        ("root/", 0o755, USER),
    ],
)
def test_program_that_others_may_write_is_not_ssh(
    machine: FakeMachine, file: str, mode: int, owner: int
) -> None:
    machine.process(600, program=SSHD)
    sock = machine.add(transport(), holder=600)
    assert machine.rule(sock) == "ssh_sessions"
    machine.file_owners[f"600/{file}".rstrip("/")] = mode, owner
    assert machine.rule(sock) is None


@pytest.mark.parametrize(
    ("directory", "mode"),
    [
        # /nix/store is shared and sticky. /usr/local/sbin may belong to the group staff.
        ("root/usr", 0o1777),
        ("root/usr/sbin", 0o2775),
    ],
)
def test_directory_in_which_only_root_can_replace_the_program(
    machine: FakeMachine, directory: str, mode: int
) -> None:
    machine.process(600, program=SSHD)
    machine.file_owners[f"600/{directory}"] = mode, 0
    assert machine.rule(machine.add(transport(), holder=600)) == "ssh_sessions"


def test_directory_that_cannot_be_read_is_the_systems(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of root in another root directory, where the path does not exist."""
    machine.process(600, program=SSHD)
    status = machine.stat

    def without_directories(path: str) -> object:
        if "/root" in path:
            raise FileNotFoundError
        return status(path)

    monkeypatch.setattr(machine, "stat", without_directories)
    assert machine.rule(machine.add(transport(), holder=600)) == "ssh_sessions"


@pytest.mark.usefixtures("listening")
def test_session_of_a_user(machine: FakeMachine) -> None:
    """What the server accepted is the session's. What the session opens is the user's."""
    session = machine.add(transport(), holder=MONITOR)
    machine.hold(CHILD, session)
    assert machine.rule(session) == "ssh_sessions"
    assert machine.rule(session, ssh_sessions=False) is None
    assert machine.rule(session, ssh_forwards=False) == "ssh_sessions"

    forwarded = machine.add(forward(), holder=CHILD)
    assert machine.rule(forwarded) == "ssh_forwards"
    assert machine.rule(forwarded, ssh_sessions=False) == "ssh_forwards"
    assert machine.rule(forwarded, ssh_forwards=False) is None


@pytest.mark.usefixtures("listening")
def test_session_that_only_the_users_process_holds(machine: FakeMachine) -> None:
    assert machine.rule(machine.add(transport(), holder=CHILD)) == "ssh_sessions"


@pytest.mark.usefixtures("listening")
def test_connection_of_a_user_is_no_transport(machine: FakeMachine) -> None:
    """A user may choose the local port, where sshd listens on another address."""
    sock = machine.add(transport(uid=USER), holder=CHILD)
    assert machine.rule(sock) == "ssh_forwards"
    assert machine.rule(sock, ssh_forwards=False) is None


@pytest.mark.usefixtures("listening")
def test_session_of_root(machine: FakeMachine) -> None:
    """One process of root holds the transport and what it opens: the local port decides."""
    session = machine.add(transport(), holder=MONITOR)
    forwarded = machine.add(forward(uid=0), holder=MONITOR)
    remote_forward = machine.add(connection(LOCAL, 8080, REMOTE, 5, state=LISTEN), holder=MONITOR)
    resolver = machine.add(
        FakeSocket(protocol=UDP, local=LOCAL, local_port=9, remote=REMOTE, remote_port=53),
        holder=MONITOR,
    )
    guard = machine.guard({"listeners": False})
    rules = [
        reason and reason.rule
        for reason in machine.reasons(guard, session, forwarded, remote_forward, resolver)
    ]
    assert rules == ["ssh_sessions", "ssh_forwards", "ssh_forwards", "ssh_forwards"]


def test_listening_socket_of_the_daemon(machine: FakeMachine, listening: FakeSocket) -> None:
    assert machine.rule(listening, listeners=False) == "ssh_sessions"
    assert machine.rule(listening, listeners=False, ssh_sessions=False) is None


@pytest.mark.parametrize("port", [22, 2222])
def test_session_outlives_the_daemon(machine: FakeMachine, port: int) -> None:
    """The daemon was stopped, or now listens on another port: the session is protected."""
    machine.process(MONITOR, program=SSHD)
    session = machine.add(transport(), holder=MONITOR)
    if port != 22:
        machine.process(DAEMON, program=SSHD)
        machine.add(connection(LOCAL, port, "0.0.0.0", 0, state=LISTEN), holder=DAEMON)
    assert machine.rule(session) == "ssh_sessions"


def test_server_of_a_user_is_not_ssh(machine: FakeMachine) -> None:
    """A user runs the system's own program, from a shell or at boot."""
    machine.process(700, program="/usr/bin/bash", user=USER)
    machine.process(701, program=SSHD, parent=700, user=USER)
    machine.process(702, program=SSHD, parent=701, user=USER, is_fork=True)
    machine.process(703, program=SSHD, parent=1, user=USER)
    for holder in (701, 702, 703):
        for sock in (transport(uid=USER), forward()):
            assert machine.rule(machine.add(sock, holder=holder)) is None


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("program", [SESSION, SSHD])
def test_server_that_replaces_a_login_shell_forwards_nothing_protected(
    machine: FakeMachine, program: str
) -> None:
    """`ssh HOST exec sshd-session`: its parent is a session, but it is not a fork of it."""
    machine.process(701, program=program, parent=CHILD, user=USER)
    machine.process(702, program=program, parent=701, user=USER, is_fork=True)
    for holder in (701, 702):
        assert machine.rule(machine.add(forward(), holder=holder)) is None


def test_dropbear_that_gave_up_root(machine: FakeMachine) -> None:
    """It starts its program again for each connection, as root, and then becomes the user."""
    machine.process(DAEMON, program=DROPBEAR)
    machine.add(connection(LOCAL, 22, "0.0.0.0", 0, state=LISTEN), holder=DAEMON)
    machine.process(CHILD, program=DROPBEAR, parent=DAEMON, user=USER)
    assert machine.rule(machine.add(transport(), holder=CHILD)) == "ssh_sessions"
    assert machine.rule(machine.add(forward(), holder=CHILD)) == "ssh_forwards"
    # The shell of a session, replaced by another program.
    machine.process(701, program="/home/user/dropbear", parent=DAEMON, user=USER)
    assert machine.rule(machine.add(forward(), holder=701)) is None


def test_cycle_of_parents_ends(machine: FakeMachine) -> None:
    """Pids are reused while they are read."""
    machine.process(600, program=SSHD, parent=601, user=USER)
    machine.process(601, program=SSHD, parent=600, user=USER)
    assert machine.rule(machine.add(forward(), holder=600)) is None
