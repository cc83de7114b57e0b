# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk over threads and descriptors, its bounds, and what it remembers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from linuxnet_sockets.host import namespace_holders
from linuxnet_sockets.host.namespace_holders import HolderWalk, ProcessEntry, read_entry

DEVICE = 4


class FakeProc:
    """A /proc with descriptors. clock: seconds. read: how many links were read."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = base
        self.now = 0.0
        self.read = 0
        self.entries: list[ProcessEntry] = []
        self.walk = HolderWalk(lambda: self.now)
        readlink = os.readlink

        def counting(path: str, *, dir_fd: int | None = None) -> str:
            self.read += 1
            return readlink(path, dir_fd=dir_fd)

        monkeypatch.setattr(namespace_holders.os, "readlink", counting)

    def process(self, pid: int, *links: str, uid: int = 0, task: int | None = None) -> None:
        folder = self.proc / str(pid) / "fd"
        folder.mkdir(parents=True)
        for number, link in enumerate(links):
            (folder / str(number)).symlink_to(link)
        self.entries.append(ProcessEntry(pid, task or pid, uid, 1))

    def found(self) -> dict[int, str]:
        """The inodes found, with the path below /proc."""
        self.read = 0
        self.walk.of_threads(str(self.proc), self.entries)
        found = self.walk.of_descriptors(str(self.proc), self.entries, DEVICE)
        assert {device for device, _inode in found} <= {DEVICE}
        return {inode: path[len(str(self.proc)) :] for (_device, inode), path in found.items()}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    return FakeProc(tmp_path, monkeypatch)


def test_descriptors_of_network_namespaces(machine: FakeProc) -> None:
    machine.process(7, "/dev/null", "net:[77]", "socket:[5]", "mnt:[9]", "/tmp/net:[1]", "net:[x]")
    machine.process(8, "net:[88]")
    assert machine.found() == {77: "/7/fd/1", 88: "/8/fd/0"}


def test_descriptors_are_read_again_after_a_minute(machine: FakeProc) -> None:
    machine.process(7, "/dev/null", "net:[77]")
    assert machine.found() == {77: "/7/fd/1"}
    assert machine.read == 2
    machine.now = 59
    (machine.proc / "7" / "fd" / "1").unlink()
    assert machine.found() == {77: "/7/fd/1"}
    assert machine.read == 0
    machine.now = 60
    assert machine.found() == {}
    assert machine.read == 1


def test_process_with_a_reused_pid_is_read_at_once(machine: FakeProc) -> None:
    machine.process(7, "net:[77]")
    assert machine.found() == {77: "/7/fd/0"}
    (machine.proc / "7" / "fd" / "0").unlink()
    machine.entries = [ProcessEntry(7, 999, 0, 1)]
    assert machine.found() == {}


def test_ended_process_is_forgotten(machine: FakeProc) -> None:
    machine.process(7, "net:[77]")
    machine.found()
    machine.entries.clear()
    assert machine.found() == {}
    assert not machine.walk._walked


def test_one_user_does_not_use_up_the_walk_of_others(
    machine: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace_holders, "_PER_USER", 10)
    for pid in range(100, 120):
        machine.process(pid, *["/dev/null"] * 5, uid=1500)
    machine.process(200, "net:[77]", uid=1501)
    machine.process(201, "net:[88]")
    assert machine.found() == {77: "/200/fd/0", 88: "/201/fd/0"}
    assert machine.read == 12


def test_walk_goes_on_with_the_processes_that_it_did_not_reach(
    machine: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace_holders, "_PER_USER", 10)
    for pid in range(100, 120):
        machine.process(pid, *["/dev/null"] * 4, "net:[119]" if pid == 119 else "x", uid=1500)
    rounds = 0
    while 119 not in machine.found():
        rounds += 1
        assert rounds < 12


@pytest.mark.parametrize(("threads", "single"), [(1, True), (3, False)])
def test_entry_of_a_process(tmp_path: Path, threads: int, single: bool) -> None:
    for number in range(threads):
        (tmp_path / "9" / "task" / str(9 + number)).mkdir(parents=True)
    status = os.stat(tmp_path / "9" / "task")
    if status.st_nlink < 2:
        pytest.skip("the file system does not count directories as links")
    entry = read_entry(str(tmp_path), 9)
    assert entry is not None
    assert entry == (9, status.st_ino, os.getuid(), threads)
    assert (entry.threads == 1) is single
    assert read_entry(str(tmp_path), 10) is None
