# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolution of namespace names, on a fake /proc with links to real nsfs files.

Files of other namespace types stand for further network namespaces where the type is not checked,
since they need no privileges.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from linuxnet_sockets import errors
from linuxnet_sockets.host import namespaces

OWN = "/proc/self/ns"


def identity(kind: str) -> tuple[int, int]:
    status = os.stat(f"{OWN}/{kind}")
    return status.st_dev, status.st_ino


class FakeMachine:
    """A /proc and a directory of named namespaces."""

    def __init__(self, base: Path) -> None:
        self.proc = base / "proc"
        self.directory = base / "netns"
        self.directory.mkdir(parents=True)
        self._process("thread-self", "net", "mnt")
        self._process("self", "net", "mnt")

    def _process(self, name: str, net: str, mounts: str) -> Path:
        base = self.proc / name
        (base / "ns").mkdir(parents=True)
        (base / "ns" / "net").symlink_to(f"{OWN}/{net}")
        (base / "ns" / "mnt").symlink_to(f"{OWN}/{mounts}")
        (base / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/vda rw\n")
        return base

    def process(self, pid: int, net: str = "net", mounts: str = "mnt") -> Path:
        return self._process(str(pid), net, mounts)

    def resolve(self, *names: str) -> list[namespaces.Namespace]:
        return namespaces.resolve(
            names, proc=str(self.proc), directories=(str(self.directory), "/does/not/exist")
        )


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def test_current_has_no_path(machine: FakeMachine) -> None:
    assert machine.resolve("current") == [namespaces.Namespace("current", None, identity("net"))]


def test_name_is_searched_in_directories(machine: FakeMachine) -> None:
    (machine.directory / "blue").symlink_to(f"{OWN}/net")
    (found,) = machine.resolve("blue")
    assert found == ("blue", f"{machine.directory}/blue", identity("net"), True)


def test_absolute_path_is_a_name(machine: FakeMachine) -> None:
    assert machine.resolve(f"{OWN}/net")[0].name == f"{OWN}/net"


def test_namespace_of_process(machine: FakeMachine) -> None:
    machine.process(7, net="uts")
    assert machine.resolve("pid:7") == [
        ("pid:7", f"{machine.proc}/7/ns/net", identity("uts"), True),
    ]


def test_duplicates_keep_first_name(machine: FakeMachine) -> None:
    machine.process(7)
    (machine.directory / "blue").symlink_to(f"{OWN}/net")
    assert [namespace.name for namespace in machine.resolve("pid:7", "current", "blue", "all")] == [
        "pid:7"
    ]


@pytest.mark.parametrize("name", ["missing", "../netns/blue", ".", "..", "pid:99", "/no/such"])
def test_missing_namespace_is_not_found(machine: FakeMachine, name: str) -> None:
    (machine.directory / "blue").symlink_to(f"{OWN}/net")
    with pytest.raises(errors.NamespaceNotFound) as caught:
        machine.resolve(name)
    assert caught.value.name == name


def test_other_files_are_not_network_namespaces(machine: FakeMachine) -> None:
    (machine.directory / "plain").write_text("")
    (machine.directory / "uts").symlink_to(f"{OWN}/uts")
    for name in ("plain", "uts"):
        with pytest.raises(errors.NamespaceNotFound):
            machine.resolve(name)
    assert [namespace.name for namespace in machine.resolve("all")] == ["current"]


@pytest.mark.parametrize(
    "name", ["pid:", "pid:x", "pid:-1", "pid:0", "pid:1.5", "pid:" + "9" * 5000, "", 7, None]
)
def test_invalid_name_is_rejected_with_path(machine: FakeMachine, name: object) -> None:
    with pytest.raises(errors.InputError) as caught:
        machine.resolve("current", name)  # type: ignore[arg-type]
    assert caught.value.path == ("namespaces", 1)
    assert caught.value.value == name


def test_empty_list_is_rejected(machine: FakeMachine) -> None:
    with pytest.raises(errors.InputError):
        machine.resolve()


def test_all_order_and_lowest_pid(machine: FakeMachine) -> None:
    machine.process(30, net="uts")
    machine.process(4, net="ipc")
    machine.process(200, net="ipc")
    machine.process(100)
    (machine.directory / "own").symlink_to(f"{OWN}/net")
    found = machine.resolve("all")
    assert [(namespace.name, namespace.identity) for namespace in found] == [
        ("current", identity("net")),
        ("pid:4", identity("ipc")),
        ("pid:30", identity("uts")),
    ]


def test_all_ignores_ended_processes(machine: FakeMachine) -> None:
    machine.process(5, net="no-such-type")
    (machine.process(6, net="uts") / "mountinfo").unlink()
    assert [namespace.name for namespace in machine.resolve("all")] == ["current", "pid:6"]


def netlink_table(base: Path, inode: int) -> None:
    (base / "net").mkdir()
    (base / "net" / "netlink").write_text(
        "sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n"
        f"ffff 4 0 00000000 0 0 0 2 0 {inode + 1}\n"
        "ffff 0 77 00000000 0 0 0 2 0 5\n"
        f"ffff 0 0 00000000 0 0 0 2 0 {inode}\n"
    )


@pytest.mark.parametrize(("inode", "known"), [(100, True), (200, True), (300, False)])
def test_all_with_hidden_namespace(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, inode: int, known: bool
) -> None:
    netlink_table(machine.proc / "thread-self", 100)
    netlink_table(machine.process(5, net="uts"), 200)
    netlink_table(machine.process(6, net="ipc"), inode)
    stat = os.stat

    def hiding(path: str | bytes) -> os.stat_result:
        path = os.fsdecode(path)
        if path.startswith(f"{machine.proc}/6/ns"):
            raise PermissionError(errno.EACCES, "hidden", path)
        return stat(path)

    monkeypatch.setattr(namespaces.os, "stat", hiding)
    if known:
        # Its namespace was found through another process.
        assert [namespace.name for namespace in machine.resolve("all")] == ["current", "pid:5"]
    else:
        with pytest.raises(errors.NamespaceDenied) as caught:
            machine.resolve("all")
        assert (caught.value.name, caught.value.errno) == ("pid:6", errno.EACCES)


def mount(
    machine: FakeMachine, table: Path, kind: str, at: Path, *, inode: int | None = None
) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(f"{OWN}/{kind}")
    shown = identity(kind)[1] if inode is None else inode
    escaped = str(at).replace(" ", "\\040")
    if str(at).startswith(str(machine.proc)):
        escaped = "/" + escaped.split("/root/")[1]
    with (table / "mountinfo").open("a") as stream:
        stream.write(f"40 22 0:4 net:[{shown}] {escaped} rw shared:9 - nsfs nsfs rw\n")


def test_all_finds_mounts_without_a_process(machine: FakeMachine, tmp_path: Path) -> None:
    table = machine.process(9)
    at = tmp_path / "docker" / "a name"
    mount(machine, table, "uts", at)
    assert machine.resolve("all")[1:] == [(str(at), str(at), identity("uts"), False)]


def test_all_finds_mounts_in_other_mount_namespaces(machine: FakeMachine) -> None:
    # Mounts of another mount namespace are accessible through /proc/PID/root.
    table = machine.process(9, mounts="user")
    at = machine.proc / "9" / "root" / "run" / "hidden"
    mount(machine, table, "uts", at)
    assert machine.resolve("all")[1:] == [(str(at), str(at), identity("uts"), False)]


def test_all_skips_covered_mounts(machine: FakeMachine, tmp_path: Path) -> None:
    table = machine.process(9)
    mount(machine, table, "uts", tmp_path / "covered", inode=1)
    assert [namespace.name for namespace in machine.resolve("all")] == ["current"]


def test_open_netlink_in_own_namespace() -> None:
    (current,) = namespaces.resolve(["current"])
    with namespaces.open_netlink(current, socket.NETLINK_ROUTE) as sock:
        assert sock.family == socket.AF_NETLINK
        assert sock.proto == socket.NETLINK_ROUTE


def test_own_namespace_by_pid_needs_no_privilege() -> None:
    (same,) = namespaces.resolve([f"pid:{os.getpid()}"])
    with namespaces.open_netlink(same, socket.NETLINK_ROUTE) as sock:
        assert sock.getsockname()[0]


def test_changed_identity_is_not_found() -> None:
    stale = namespaces.Namespace("pid:1", f"{OWN}/net", (1, 1))
    with pytest.raises(errors.NamespaceNotFound) as caught:
        namespaces.open_netlink(stale, socket.NETLINK_ROUTE)
    assert caught.value.name == "pid:1"
