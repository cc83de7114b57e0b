# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab touches what is its own, and refuses all else. None of this needs root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hosts import places
from tests.support.hosts.errors import Refused
from tests.support.hosts.places import MARKER, Places


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/", "-x", "A", "a b", "a\n", "a" * 25, "é"]
)
def test_a_lab_is_not_called_that(name: str) -> None:
    with pytest.raises(Refused, match="is no name for a lab"):
        Places().lab(name)


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "1a", "-a", "A", "a.b", "localhost", "a\n", "a" * 14]
)
def test_a_host_is_not_called_that(name: str) -> None:
    with pytest.raises(Refused, match="is no name for a host"):
        places.host_name(name)


def test_good_names_stay_as_they_are() -> None:
    assert places.lab_name("4f-a") == "4f-a"
    assert places.host_name("deb12-a") == "deb12-a"


class TestRootFileSystem:
    def test_the_machines_own_root_is_refused_whatever_is_in_it(self) -> None:
        with pytest.raises(Refused, match="is the root of this machine"):
            places.require_rootfs(Path("/"), "0")

    def test_so_it_is_by_another_name(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/")
        with pytest.raises(Refused, match="is the root of this machine"):
            places.require_rootfs(tmp_path / "link", "0")

    def test_an_empty_directory_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Refused, match=f"has no file {MARKER}"):
            places.require_rootfs(tmp_path, "0")

    def test_a_marker_that_is_a_link_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").write_text("0\n", encoding="ascii")
        (tmp_path / MARKER).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Refused, match=f"has no file {MARKER}"):
            places.require_rootfs(tmp_path, "0")

    def test_one_of_another_recipe_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / MARKER).write_text("1\n", encoding="ascii")
        with pytest.raises(Refused, match="made from another recipe"):
            places.require_rootfs(tmp_path, "0")

    def test_the_right_one_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / MARKER).write_text("0\n", encoding="ascii")
        places.require_rootfs(tmp_path, "0")


class TestRemoval:
    def test_what_lies_in_the_right_place_goes(self, tmp_path: Path) -> None:
        (tmp_path / "lab" / "keys").mkdir(parents=True)
        places.remove_tree(tmp_path / "lab", below=tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("path", ["elsewhere", "lab/deeper", "lab/..", "."])
    def test_what_lies_elsewhere_stays(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "own").mkdir()
        for directory in ("elsewhere", "own/lab/deeper"):
            (tmp_path / directory).mkdir(parents=True, exist_ok=True)
        asked = tmp_path / path if path == "elsewhere" else tmp_path / "own" / path
        with pytest.raises(Refused, match="not removed"):
            places.remove_tree(asked, below=tmp_path / "own")
        assert (tmp_path / "elsewhere").is_dir()
        assert (tmp_path / "own" / "lab" / "deeper").is_dir()

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "own").mkdir()
        (tmp_path / "precious").mkdir()
        (tmp_path / "own" / "lab").symlink_to(tmp_path / "precious")
        with pytest.raises(Refused, match="is a symbolic link"):
            places.remove_tree(tmp_path / "own" / "lab", below=tmp_path / "own")
        assert (tmp_path / "precious").is_dir()

    def test_what_has_a_mount_in_it_stays(self) -> None:
        mounted = places.mounts_below(Path("/proc"))
        assert "/proc" in mounted
        with pytest.raises(Refused, match="is mounted inside"):
            places.remove_tree(Path("/proc"), below=Path("/"))
