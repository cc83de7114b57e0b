# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab rejects names and directories outside its own. No test needs root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hosts import paths
from tests.support.hosts.errors import UnsafeOperation
from tests.support.hosts.paths import MARKER, LabPaths


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/", "-x", "A", "a b", "a\n", "a" * 25, "é"]
)
def test_invalid_lab_name_is_rejected(name: str) -> None:
    with pytest.raises(UnsafeOperation, match="is not a lab name"):
        LabPaths().lab(name)


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "1a", "-a", "A", "a.b", "localhost", "a\n", "a" * 14]
)
def test_invalid_host_name_is_rejected(name: str) -> None:
    with pytest.raises(UnsafeOperation, match="is not a host name"):
        paths.host_name(name)


def test_valid_names_are_returned_unchanged() -> None:
    assert paths.lab_name("4f-a") == "4f-a"
    assert paths.host_name("deb12-a") == "deb12-a"


class TestRootFileSystem:
    def test_root_of_the_machine_is_rejected(self) -> None:
        with pytest.raises(UnsafeOperation, match="is the root of this machine"):
            paths.require_rootfs(Path("/"), "0")

    def test_link_to_the_root_of_the_machine_is_rejected(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/")
        with pytest.raises(UnsafeOperation, match="is the root of this machine"):
            paths.require_rootfs(tmp_path / "link", "0")

    def test_empty_directory_is_rejected(self, tmp_path: Path) -> None:
        with pytest.raises(UnsafeOperation, match=f"no file {MARKER}"):
            paths.require_rootfs(tmp_path, "0")

    def test_link_is_no_marker(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").write_text("0\n", encoding="ascii")
        (tmp_path / MARKER).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UnsafeOperation, match=f"no file {MARKER}"):
            paths.require_rootfs(tmp_path, "0")

    def test_other_recipe_is_rejected(self, tmp_path: Path) -> None:
        (tmp_path / MARKER).write_text("1\n", encoding="ascii")
        with pytest.raises(UnsafeOperation, match="made from another recipe"):
            paths.require_rootfs(tmp_path, "0")

    def test_expected_recipe_is_accepted(self, tmp_path: Path) -> None:
        (tmp_path / MARKER).write_text("0\n", encoding="ascii")
        paths.require_rootfs(tmp_path, "0")


class TestRemoval:
    def test_entry_of_the_directory_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "lab" / "keys").mkdir(parents=True)
        paths.remove_tree(tmp_path / "lab", below=tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("path", ["elsewhere", "lab/deeper", "lab/..", "."])
    def test_path_outside_the_directory_is_rejected(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "own").mkdir()
        for directory in ("elsewhere", "own/lab/deeper"):
            (tmp_path / directory).mkdir(parents=True, exist_ok=True)
        path_to_remove = tmp_path / path if path == "elsewhere" else tmp_path / "own" / path
        with pytest.raises(UnsafeOperation, match="not removed"):
            paths.remove_tree(path_to_remove, below=tmp_path / "own")
        assert (tmp_path / "elsewhere").is_dir()
        assert (tmp_path / "own" / "lab" / "deeper").is_dir()

    def test_symbolic_link_is_rejected(self, tmp_path: Path) -> None:
        (tmp_path / "own").mkdir()
        (tmp_path / "precious").mkdir()
        (tmp_path / "own" / "lab").symlink_to(tmp_path / "precious")
        with pytest.raises(UnsafeOperation, match="is a symbolic link"):
            paths.remove_tree(tmp_path / "own" / "lab", below=tmp_path / "own")
        assert (tmp_path / "precious").is_dir()

    def test_directory_with_a_mount_is_rejected(self) -> None:
        mounted = paths.mounts_below(Path("/proc"))
        assert "/proc" in mounted
        with pytest.raises(UnsafeOperation, match="is mounted inside"):
            paths.remove_tree(Path("/proc"), below=Path("/"))
