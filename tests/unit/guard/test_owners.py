# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a socket decides last: ssh's processes, nobody that can be seen, nobody at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import pytest

from linuxnet_sockets.guard import owners
from linuxnet_sockets.host import processes
from linuxnet_sockets.sockets.needs import Need
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import SYN_RECV, TIME_WAIT
from tests.support.fake_machine import LOCAL, REMOTE, FakeMachine, connection


class Reading:
    """Notes whose descriptors are read; those of some processes may not be, whoever runs this."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *hidden: int) -> None:
        self.asked: list[int] = []
        reads = self

        class Watched(processes.FdDirectory):
            def __init__(self, proc: str, pid: int) -> None:
                reads.asked.append(pid)
                if pid in hidden:
                    raise PermissionError
                super().__init__(proc, pid)

        monkeypatch.setattr(processes, "FdDirectory", Watched)
        monkeypatch.setattr(owners, "FdDirectory", Watched)


@pytest.mark.parametrize(
    ("comm", "program"),
    [
        ("sshd", "/usr/sbin/sshd"),
        ("sshd-session", "/usr/lib/openssh/sshd-session"),
        ("sshd-auth", "/usr/lib/openssh/sshd-auth"),
        ("dropbear", "/usr/sbin/dropbear"),
        # Told by its command alone, or by its program alone, also when an upgrade replaced it.
        ("sshd", "/usr/bin/busybox"),
        ("renamed", "/usr/sbin/sshd"),
        ("renamed", "/usr/sbin/sshd (deleted)"),
    ],
)
def test_sockets_of_ssh(machine: FakeMachine, comm: str, program: str) -> None:
    machine.process(600, comm=comm, program=program)
    # A forwarded leg: neither end is the ssh connection itself.
    sock = machine.add(connection(remote_port=5432), holder=600)
    assert machine.rule(sock) == "ssh_sessions"
    assert machine.rule(sock, ssh_sessions=False) is None


@pytest.mark.parametrize("comm", ["ssh", "sshd2", "sshfs", "my-sshd", "app"])
def test_others_are_not_ssh(machine: FakeMachine, comm: str) -> None:
    machine.process(600, comm=comm)
    assert machine.rule(machine.add(connection(), holder=600)) is None


def test_a_process_whose_program_may_not_be_read_is_known_by_its_command(
    machine: FakeMachine,
) -> None:
    machine.process(600, comm="sshd")
    program = machine.proc / "600" / "exe"
    program.unlink()
    # readlink fails of it, as of a link that one may not read.
    program.write_text("")
    assert machine.rule(machine.add(connection(), holder=600)) == "ssh_sessions"


def test_what_runs_no_program_holds_nothing(machine: FakeMachine) -> None:
    machine.process(600, comm="kworker/0:1")
    (machine.proc / "600" / "exe").unlink()
    assert machine.rule(machine.add(connection(), holder=600)) == "kernel"


def test_a_socket_shared_with_ssh_is_spared(machine: FakeMachine) -> None:
    machine.process(600, comm="sshd")
    sock = machine.add(connection())
    machine.hold(600, sock)
    assert machine.rule(sock) == "ssh_sessions"


def test_owner_that_cannot_be_read(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.process(600)
    machine.process(601)
    hidden, seen = machine.add(connection(), holder=600), machine.add(connection(local_port=2))
    Reading(monkeypatch, 600, 601)
    reason, other = machine.reasons(machine.guard(), hidden, seen)
    assert reason is not None
    assert reason.rule == "owner_unreadable"
    assert re.findall(r"\d+", str(reason.detail)) == ["2"]
    assert other is None
    # It may be the kernel's: no visible process holds it.
    assert machine.rule(hidden, ssh_sessions=False) == "kernel"
    assert machine.rule(hidden, ssh_sessions=False, kernel=False) is None
    assert machine.rule(hidden, kernel=False) == "owner_unreadable"


def test_socket_without_owner_is_never_unreadable(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    Reading(monkeypatch, 1, 500)
    for state in (TIME_WAIT, SYN_RECV):
        assert machine.rule(machine.add(connection(state=state, inode=0))) is None


def test_held_by_the_kernel(machine: FakeMachine) -> None:
    sock = machine.add(connection(remote_port=2049), holder=None)
    assert machine.rule(sock) == "kernel"
    assert machine.rule(sock, kernel=False) is None
    assert machine.rule(machine.add(connection())) is None


def test_orphans_are_not_held_by_the_kernel(machine: FakeMachine) -> None:
    assert machine.rule(machine.add(connection(inode=0), holder=None)) is None


def test_descriptors_are_read_no_longer_than_needed(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(monkeypatch)
    machine.process(501)
    sock = machine.add(connection())
    assert machine.rule(sock, control_connection=False) is None
    assert 500 in reading.asked
    assert 501 not in reading.asked
    # With both rules off that ask whether anybody holds it, only the ancestors are read.
    reading.asked.clear()
    assert machine.rule(sock, ssh_sessions=False, kernel=False) is None
    assert 500 not in reading.asked
    # What an address decides needs nobody's descriptors.
    reading.asked.clear()
    assert machine.rule(machine.add(connection("127.0.0.1", 1, "127.0.0.1", 2))) == "loopback"
    assert reading.asked == []


def test_owners_that_the_look_knows_already_are_not_looked_for_again(machine: FakeMachine) -> None:
    sock = machine.add(connection())
    guard = machine.guard({"selectors": [{"process": "elsewhere"}]})
    assert Need.OWNERS in guard.needs
    assert machine.reason(guard, sock) is None


def test_detail_names_the_holder(machine: FakeMachine) -> None:
    machine.process(600, comm="sshd")
    reason = machine.reason(machine.guard(), machine.add(connection(), holder=600))
    assert reason is not None
    assert reason.rule == "ssh_sessions"
    assert {"sshd", "600"} <= set(re.findall(r"\w+", str(reason.detail)))
    came = machine.add(connection(LOCAL, 22, REMOTE, 50000))
    machine.environ["SSH_CONNECTION"] = f"{REMOTE} 50000 {LOCAL} 22"
    reason = machine.reason(machine.guard(), came)
    assert reason is not None
    assert reason.rule == "control_connection"
    assert "ssh" in str(reason.detail).lower()


def many(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, count: int) -> list[FakeSocket]:
    """A process with so many descriptors, of which the odd ones are sockets of connections.

    The size of its directory tells how many, as that of the real /proc does.
    """
    machine.process(700)
    directory = machine.proc / "700" / "fd"
    sockets = []
    for number in range(count):
        if number % 2:
            sock = connection(local_port=number)
            machine.sockets.add(sock)
            machine.hold(700, sock)
            sockets.append(sock)
        else:
            (directory / str(number)).symlink_to(f"socket:[{90_000 + number}]")
    start = processes.FdDirectory.__init__

    def counted(self: processes.FdDirectory, proc: str, pid: int) -> None:
        start(self, proc, pid)
        self.count = len(os.listdir(f"{proc}/{pid}/fd"))

    monkeypatch.setattr(processes.FdDirectory, "__init__", counted)
    return sockets


def test_of_many_descriptors_the_promising_are_read_first(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = many(machine, monkeypatch, 1100)
    read: list[str] = []
    some = processes.FdDirectory.some

    def note(self: processes.FdDirectory, numbers: Iterable[int]) -> list[str] | None:
        links = some(self, numbers)
        read.extend(links or ())
        return links

    monkeypatch.setattr(processes.FdDirectory, "some", note)
    assert machine.reasons(machine.guard(), *sockets) == [None] * len(sockets)
    others = {link for link in read if int(link[8:-1]) >= 90_000}
    assert 0 < len(others) < 60


def test_of_many_descriptors_all_are_read_where_one_is_not_found(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = many(machine, monkeypatch, 1100)
    nowhere = machine.add(connection(local_port=2), holder=None)
    reasons = machine.reasons(machine.guard(), nowhere, *sockets)
    assert [None if each is None else each.rule for each in reasons] == ["kernel"] + [None] * 550


def test_of_many_descriptors_with_gaps(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = many(machine, monkeypatch, 1100)
    directory = machine.proc / "700" / "fd"
    # Two are closed, one of them where the sample looks, and one has a high number.
    (directory / "0").unlink()
    (directory / "2").unlink()
    (directory / "1099").rename(directory / "5000")
    assert machine.reasons(machine.guard(), *sockets) == [None] * len(sockets)
