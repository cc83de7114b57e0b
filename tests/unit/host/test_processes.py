# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holders of sockets, on a fake /proc and in this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from linuxnet_sockets.host import processes, threads

SERVICE = "0::/system.slice/web.service\n"


def process(
    proc: Path, pid: int, inodes: Sequence[int] = (), *, comm: str = "app", cgroup: str = SERVICE
) -> Path:
    base = proc / str(pid)
    (base / "fd").mkdir(parents=True)
    (base / "fd" / "0").symlink_to("/dev/null")
    for number, inode in enumerate(inodes, 3):
        (base / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    (base / "comm").write_text(f"{comm}\n")
    (base / "cgroup").write_text(cgroup)
    return base


def test_command_and_unit_of_holder(tmp_path: Path) -> None:
    process(tmp_path, 10, [501, 502], comm="a b)c")
    process(tmp_path, 11, [503])
    found = processes.find_owners(str(tmp_path), [501, 599])
    assert found.of(501) == (processes.Process(10, "a b)c", "web.service"),)
    assert found.of(599) == ()
    assert found.readable


def test_several_holders_by_pid(tmp_path: Path) -> None:
    for pid in (20, 9, 100):
        process(tmp_path, pid, [7])
    found = processes.find_owners(str(tmp_path), [7])
    assert [process.pid for process in found.of(7)] == [9, 20, 100]


def test_only_requested_inodes(tmp_path: Path) -> None:
    process(tmp_path, 10, [1, 2])
    assert processes.find_owners(str(tmp_path), [1]).of(2) == ()


def test_all_sockets(tmp_path: Path) -> None:
    process(tmp_path, 10, [1, 2])
    found = processes.find_owners(str(tmp_path), None)
    assert [found.of(inode)[0].pid for inode in (1, 2)] == [10, 10]


def test_sockets_without_inode_read_nothing(tmp_path: Path) -> None:
    found = processes.find_owners(str(tmp_path / "not" / "there"), [0])
    assert found.of(0) == ()
    assert found.readable


def test_ended_processes_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    process(tmp_path, 6, [1])
    found = processes.find_owners(str(tmp_path), [1])
    assert found.readable
    assert [process.pid for process in found.of(1)] == [6]


def test_holder_without_command_is_skipped(tmp_path: Path) -> None:
    (process(tmp_path, 6, [1]) / "comm").unlink()
    assert processes.find_owners(str(tmp_path), [1]).of(1) == ()


def test_own_descriptors() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        inode = os.fstat(sock.fileno()).st_ino
        found = processes.find_owners("/proc", [inode])
        assert os.getpid() in {process.pid for process in found.of(inode)}


def test_descriptors_with_gaps() -> None:
    with socket.socket() as low, socket.socket() as sock:
        inode = os.fstat(sock.fileno()).st_ino
        high = os.dup2(sock.fileno(), 900)
        try:
            low.close()
            sock.close()
            links = processes.descriptor_links("/proc", os.getpid())
        finally:
            os.close(high)
        assert links is not None
        assert processes.link_of(inode) in links


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/ssh.service\n", "ssh.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service\n",
            "sync.service",
        ),
        ("0::/system.slice/web.service/worker/1\n", "web.service"),
        ("0::/system.slice/docker-3fa9.scope\n", "docker-3fa9.scope"),
        ("0::/system.slice\n", None),
        ("0::/\n", None),
        ("", None),
        ("12:cpu:/foo.service\n1:name=systemd:/system.slice/cron.service\n", "cron.service"),
        ("1:name=systemd:/system.slice/cron.service\n0::/\n", "cron.service"),
        ("1:name=systemd:/a.service\n0::/b.service\n", "b.service"),
        ("0::/system.slice/odd:name.service\n", "odd:name.service"),
        ("2:cpu,cpuacct:/x.service\n", None),
        ("nonsense\n", None),
    ],
)
def test_innermost_unit(cgroups: str, unit: str | None) -> None:
    assert processes.unit_of(cgroups) == unit


def test_comparisons_of_threads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def share(first: int, second: int) -> bool:
        compared.append((first, second))
        return False

    monkeypatch.setattr(threads, "thread_count", lambda _proc, _pid: 500)
    monkeypatch.setattr(threads, "live_thread", lambda _proc, _pid: None)
    monkeypatch.setattr(threads, "_numbers", lambda _tasks: list(range(1, 501)))
    monkeypatch.setattr(threads, "_share_descriptors", share)
    assert list(threads.threads_with_own_descriptors("/proc", 1)) == list(range(2, 501))
    assert len(compared) < 64 * 64
    assert list(threads.threads_with_own_descriptors("/proc", 1, 10)) == list(range(2, 11))
