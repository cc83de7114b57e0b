# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cgroup ids and paths, in a directory in place of the mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from linuxnet_sockets.host.cgroups import Cgroups
from linuxnet_sockets.netlink.connection import Connection
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.snapshot import Snapshot
from linuxnet_sockets.sockets.socket import Socket
from tests.support import sample_sockets
from tests.support.fake_machine import FakeMachine


def no_netlink() -> Connection:
    pytest.fail("opened a netlink socket")


def create(mount: Path, path: str) -> int:
    directory = mount / path.lstrip("/")
    directory.mkdir(parents=True)
    return directory.stat().st_ino


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def test_ids_include_descendants(mount: Path) -> None:
    inside = {create(mount, path) for path in ("/a/b/c", "/a/d")}
    outside = create(mount, "/ab")
    inside |= {(mount / path).stat().st_ino for path in ("a", "a/b")}
    cgroups = Cgroups(str(mount))

    assert cgroups.ids("/a") == inside
    assert cgroups.ids("a/") == cgroups.ids(f"{mount}/a") == inside
    assert cgroups.ids("/") == {*inside, outside, mount.stat().st_ino}
    assert cgroups.ids("/c") is cgroups.ids("/a/..") is None
    assert {cgroups.path(identifier) for identifier in inside} == {"/a", "/a/b", "/a/b/c", "/a/d"}


def test_no_cgroups_without_mount() -> None:
    assert Cgroups(None).ids("/") is None
    assert Cgroups(None).path(1) is None


@pytest.mark.parametrize("match", [{"not": {"cgroup": "/a"}}, {"cgroup": "/a"}])
def test_cgroup_created_after_snapshot_never_matches(
    tmp_path: Path, mount: Path, match: dict[str, object]
) -> None:
    """A service starts below /a after the selector is bound and before sockets are dumped."""
    create(mount, "/a")
    machine = FakeMachine(tmp_path)
    snapshot = Snapshot(
        machine.host,
        machine.namespace,
        lambda: pytest.fail("no route"),
        lambda: pytest.fail("no diag"),
    )
    snapshot.cgroups = Cgroups(str(mount))
    matches = parse_selector(match, names=machine.host, role="destroy").bind(snapshot)

    later = sample_sockets.diag_message(sample_sockets.facts(cgroup=create(mount, "/a/later")))

    assert matches(Socket(later, snapshot)) is None


def test_exact_cgroup_with_later_child(tmp_path: Path, mount: Path) -> None:
    own = create(mount, "/a")
    machine = FakeMachine(tmp_path)
    snapshot = Snapshot(
        machine.host,
        machine.namespace,
        lambda: pytest.fail("no route"),
        lambda: pytest.fail("no diag"),
    )
    snapshot.cgroups = Cgroups(str(mount))
    assert snapshot.cgroup_path(own) == "/a"
    create(mount, "/a/later")
    selector = parse_selector({"expression": "cgroup = /a"}, names=machine.host, role="protect")

    sock = sample_sockets.diag_message(sample_sockets.facts(cgroup=own))

    assert selector.bind(snapshot)(Socket(sock, snapshot)) is True
