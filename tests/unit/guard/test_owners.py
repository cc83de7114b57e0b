# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guard rules on holders: SSH processes, unreadable processes, the kernel."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import pytest

from linuxnet_sockets.guard import holders
from linuxnet_sockets.host import processes
from linuxnet_sockets.sockets.needs import Need
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import SYN_RECV, TIME_WAIT
from tests.support.fake_machine import LOCAL, REMOTE, FakeMachine, connection


class DescriptorReads:
    """Records which processes have their descriptors read. Those in hidden are unreadable."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *hidden: int) -> None:
        self.pids: list[int] = []
        reads = self

        class Recorded(processes.FdDirectory):
            def __init__(self, proc: str, pid: int) -> None:
                reads.pids.append(pid)
                if pid in hidden:
                    raise PermissionError
                super().__init__(proc, pid)

        monkeypatch.setattr(processes, "FdDirectory", Recorded)
        monkeypatch.setattr(holders, "FdDirectory", Recorded)


def test_kernel_thread_holds_nothing(machine: FakeMachine) -> None:
    machine.process(600, comm="kworker/0:1")
    (machine.proc / "600" / "exe").unlink()
    assert machine.rule(machine.add(connection(), holder=600)) == "kernel"


def test_socket_shared_with_ssh_is_protected(machine: FakeMachine) -> None:
    machine.process(600, program="/usr/sbin/sshd")
    sock = machine.add(connection())
    machine.hold(600, sock)
    assert machine.rule(sock) == "ssh_sessions"


def test_unreadable_holder_protects(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.process(600)
    machine.process(601)
    hidden, seen = machine.add(connection(), holder=600), machine.add(connection(local_port=2))
    DescriptorReads(monkeypatch, 600, 601)
    reason, other = machine.reasons(machine.guard(), hidden, seen)
    assert reason is not None
    assert reason.rule == "owner_unreadable"
    assert re.findall(r"\d+", str(reason.detail)) == ["2"]
    assert other is None
    # It may belong to the kernel: no visible process holds it.
    assert machine.rule(hidden, ssh_sessions=False) == "kernel"
    assert machine.rule(hidden, ssh_sessions=False, kernel=False) is None
    assert machine.rule(hidden, kernel=False) == "owner_unreadable"


def test_socket_without_inode_has_no_unreadable_holder(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    DescriptorReads(monkeypatch, 1, 500)
    for state in (TIME_WAIT, SYN_RECV):
        assert machine.rule(machine.add(connection(state=state, inode=0))) is None


def test_socket_without_holder_is_the_kernels(machine: FakeMachine) -> None:
    sock = machine.add(connection(remote_port=2049), holder=None)
    assert machine.rule(sock) == "kernel"
    assert machine.rule(sock, kernel=False) is None
    assert machine.rule(machine.add(connection())) is None


def test_socket_of_a_user_without_holder_is_not_the_kernels(machine: FakeMachine) -> None:
    """In flight in a unix socket, or a direct descriptor of io_uring: no process shows it."""
    sock = machine.add(connection(remote_port=2049, uid=1500), holder=None)
    assert machine.rule(sock) is None
    assert machine.rule(sock, ssh_sessions=False) is None


def test_socket_of_a_user_without_visible_holder_may_be_forwarded(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable process may be a session of sshd. The connection of one belongs to root."""
    machine.process(600)
    sock = machine.add(connection(uid=1500), holder=600)
    DescriptorReads(monkeypatch, 600)
    assert machine.rule(sock) == "owner_unreadable"
    assert machine.rule(sock, kernel=False, ssh_sessions=False) == "owner_unreadable"
    assert machine.rule(sock, ssh_forwards=False) is None


def test_no_process_is_read_for_sockets_of_users_without_ssh_forwards(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptors of a user's processes do not delay a policy, however many there are."""
    machine.process(600, program="/usr/sbin/sshd")
    sock = machine.add(connection(uid=1500))
    reads = DescriptorReads(monkeypatch)
    assert machine.rule(sock, ssh_forwards=False) is None
    assert {500, 600}.isdisjoint(reads.pids)
    assert machine.rule(sock) is None
    assert {500, 600} <= set(reads.pids)


def test_unmapped_user_may_be_root(machine: FakeMachine) -> None:
    """In a user namespace, root of the machine appears as the overflow id."""
    sock = machine.add(connection(uid=65534), holder=None)
    assert machine.rule(sock) is None
    (machine.proc / "self").mkdir()
    (machine.proc / "self" / "uid_map").write_text("         0       1000          1\n")
    assert machine.rule(sock, ssh_forwards=False) == "owner_unreadable"
    assert machine.rule(sock, ssh_forwards=False, ssh_sessions=False) == "kernel"
    other = machine.add(connection(local_port=2, uid=1), holder=None)
    assert machine.rule(other, ssh_forwards=False) is None


def test_orphan_is_not_the_kernels(machine: FakeMachine) -> None:
    assert machine.rule(machine.add(connection(inode=0), holder=None)) is None


def test_reading_stops_when_every_socket_has_a_holder(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = DescriptorReads(monkeypatch)
    machine.process(501)
    sock = machine.add(connection())
    assert machine.rule(sock, control_connection=False) is None
    assert 500 in reads.pids
    assert 501 not in reads.pids
    # With both rules off that depend on any holder, only the ancestors are read.
    reads.pids.clear()
    assert machine.rule(sock, ssh_sessions=False, kernel=False) is None
    assert 500 not in reads.pids
    # A rule on addresses reads no descriptors.
    reads.pids.clear()
    assert machine.rule(machine.add(connection("127.0.0.1", 1, "127.0.0.1", 2))) == "loopback"
    assert reads.pids == []


def test_owners_of_the_snapshot_are_used(machine: FakeMachine) -> None:
    sock = machine.add(connection())
    guard = machine.guard({"selectors": [{"process": "elsewhere"}]})
    assert Need.OWNERS in guard.needs
    assert machine.reason(guard, sock) is None


def test_detail_names_the_holder(machine: FakeMachine) -> None:
    machine.process(600, program="/usr/sbin/sshd")
    reason = machine.reason(machine.guard(), machine.add(connection(), holder=600))
    assert reason is not None
    assert reason.rule == "ssh_sessions"
    assert {"sshd", "600"} <= set(re.findall(r"\w+", str(reason.detail)))
    ssh = machine.add(connection(LOCAL, 22, REMOTE, 50000))
    machine.environ["SSH_CONNECTION"] = f"{REMOTE} 50000 {LOCAL} 22"
    reason = machine.reason(machine.guard(), ssh)
    assert reason is not None
    assert reason.rule == "control_connection"
    assert "ssh" in str(reason.detail).lower()


def process_with_many_descriptors(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, count: int
) -> list[FakeSocket]:
    """Add a process with count descriptors; those with odd numbers are connections.

    The size of its directory is the count, as in the real /proc.
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

    def init_with_count(self: processes.FdDirectory, proc: str, pid: int) -> None:
        start(self, proc, pid)
        self.count = len(os.listdir(f"{proc}/{pid}/fd"))

    monkeypatch.setattr(processes.FdDirectory, "__init__", init_with_count)
    return sockets


def test_sampled_half_with_most_hits_is_read_first(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = process_with_many_descriptors(machine, monkeypatch, 1100)
    read: list[str] = []
    some = processes.FdDirectory.some

    def record(self: processes.FdDirectory, numbers: Iterable[int]) -> list[str] | None:
        links = some(self, numbers)
        read.extend(links or ())
        return links

    monkeypatch.setattr(processes.FdDirectory, "some", record)
    assert machine.reasons(machine.guard(), *sockets) == [None] * len(sockets)
    others = {link for link in read if int(link[8:-1]) >= 90_000}
    assert 0 < len(others) < 60


def test_all_descriptors_are_read_for_a_socket_without_holder(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = process_with_many_descriptors(machine, monkeypatch, 1100)
    kernel_socket = machine.add(connection(local_port=2), holder=None)
    reasons = machine.reasons(machine.guard(), kernel_socket, *sockets)
    assert [reason and reason.rule for reason in reasons] == ["kernel"] + [None] * 550


def test_sampling_copes_with_gaps(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = process_with_many_descriptors(machine, monkeypatch, 1100)
    directory = machine.proc / "700" / "fd"
    # Two are closed, one of them in the sample, and one has a high number.
    (directory / "0").unlink()
    (directory / "2").unlink()
    (directory / "1099").rename(directory / "5000")
    assert machine.reasons(machine.guard(), *sockets) == [None] * len(sockets)


def test_socket_shared_with_ssh_process_is_protected(machine: FakeMachine) -> None:
    """It inherited the socket over a fork, or a process inherited it from sshd."""
    machine.process(600, program="/usr/sbin/sshd")
    sock = machine.add(connection(), holder=500)
    machine.hold(600, sock)
    assert machine.rule(sock) == "ssh_sessions"
    assert machine.rule(sock, ssh_sessions=False) is None
