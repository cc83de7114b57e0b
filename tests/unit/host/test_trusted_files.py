# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are obeyed or read with privileges: owners, modes, links, kinds."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linuxnet_sockets.errors import UntrustedPath
from linuxnet_sockets.host.trusted_files import (
    ancestors,
    caller_owners,
    list_configuration,
    open_trusted,
    read_configuration,
    read_private,
)
from linuxnet_sockets.messages import describe
from tests.support.users import needs_root

OWNERS = frozenset({0, os.geteuid()})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory with the file a/b/file, both of which only the owner may write."""
    before = os.umask(0o022)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("content")
    yield tmp_path
    os.umask(before)


def _refused(path: Path, owners: frozenset[int] = OWNERS) -> UntrustedPath:
    with pytest.raises(UntrustedPath) as caught:
        read_configuration(str(path), owners)
    return caught.value


def test_file_of_a_trusted_owner_is_read(folder: Path) -> None:
    assert read_configuration(str(folder / "a" / "b" / "file"), OWNERS) == b"content"
    assert read_configuration(str(folder / "a" / "." / ".." / "a/b//file"), OWNERS) == b"content"
    assert list_configuration(str(folder / "a" / "b"), OWNERS) == ["file"]


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o622, 0o666, 0o664])
def test_file_that_others_may_write_is_refused(folder: Path, mode: int) -> None:
    file = folder / "a" / "b" / "file"
    file.chmod(mode)
    error = _refused(file)
    assert (error.place, error.problem) == (str(file), "writable")
    text = describe(error)
    assert f"mode {mode:04o}, owner uid {os.geteuid()}" in text
    assert str(file) in text


@pytest.mark.parametrize("mode", [0o770, 0o775, 0o757, 0o777, 0o2775])
@pytest.mark.parametrize("part", ["a", "a/b"])
def test_directory_that_others_may_write_is_refused(folder: Path, mode: int, part: str) -> None:
    (folder / part).chmod(mode)
    error = _refused(folder / "a" / "b" / "file")
    assert (error.place, error.problem) == (str(folder / part), "writable")
    assert f"{mode & 0o7777:04o}" in describe(error)


def test_sticky_directory_may_be_above_but_not_hold_the_file(folder: Path) -> None:
    (folder / "a").chmod(0o1777)
    assert read_configuration(str(folder / "a" / "b" / "file"), OWNERS) == b"content"
    (folder / "a" / "file").write_text("content")
    assert _refused(folder / "a" / "file").place == str(folder / "a")
    with pytest.raises(UntrustedPath):
        list_configuration(str(folder / "a"), OWNERS)


@needs_root
@pytest.mark.parametrize("part", ["a", "a/b", "a/b/file"])
def test_other_owner_is_refused(folder: Path, part: str) -> None:
    os.chown(folder / part, 1500, 0)
    error = _refused(folder / "a" / "b" / "file")
    assert (error.place, error.problem, error.uid) == (str(folder / part), "owner", 1500)
    assert "owner uid 1500" in describe(error)


@needs_root
def test_entry_of_another_user_below_a_sticky_directory_is_refused(folder: Path) -> None:
    (folder / "a").chmod(0o1777)
    os.chown(folder / "a" / "b", 1500, 1500)
    assert _refused(folder / "a" / "b" / "file").place == str(folder / "a" / "b")
    (folder / "a" / "link").symlink_to(folder / "a" / "b" / "file")
    os.chown(folder / "a" / "link", 1500, 1500, follow_symlinks=False)
    assert _refused(folder / "a" / "link").place == str(folder / "a")


def test_link_is_followed_to_a_trusted_file(folder: Path) -> None:
    (folder / "link").symlink_to("a/b/../b/file")
    assert read_configuration(str(folder / "link"), OWNERS) == b"content"
    (folder / "absolute").symlink_to(folder / "a" / "b")
    assert read_configuration(str(folder / "absolute" / "file"), OWNERS) == b"content"
    assert list_configuration(str(folder / "absolute"), OWNERS) == ["file"]


def test_directories_of_the_link_and_of_its_target_are_checked(folder: Path) -> None:
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    (folder / "open" / "link").symlink_to(folder / "a" / "b" / "file")
    assert _refused(folder / "open" / "link").place == str(folder / "open")
    # A chain of links through a directory that others may write.
    (folder / "chain").symlink_to(folder / "open" / "link")
    assert _refused(folder / "chain").place == str(folder / "open")
    (folder / "a" / "b").chmod(0o777)
    (folder / "link").symlink_to("a/b/file")
    assert _refused(folder / "link").place == str(folder / "a" / "b")


def test_loop_of_links_ends(folder: Path) -> None:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        read_configuration(str(folder / "one"), OWNERS)


def test_second_hard_link_is_refused(folder: Path) -> None:
    os.link(folder / "a" / "b" / "file", folder / "other")
    assert _refused(folder / "a" / "b" / "file").problem == "links"


def test_pipe_device_and_directory_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert _refused(folder / "pipe").problem == "type"
    assert _refused(Path("/dev/null")).problem == "type"
    assert _refused(folder / "a").problem == "type"
    with pytest.raises(IsADirectoryError):
        read_configuration("/", OWNERS)


def test_missing_file_and_missing_directory(folder: Path) -> None:
    for path in ("a/b/none", "a/none/file"):
        with pytest.raises(FileNotFoundError):
            read_configuration(str(folder / path), OWNERS)
    (folder / "a").chmod(0o777)
    # Another user may create it at any time.
    assert _refused(folder / "a" / "none" / "file").place == str(folder / "a")


def test_size_is_bounded(folder: Path) -> None:
    file = folder / "a" / "b" / "file"
    assert read_configuration(str(file), OWNERS, 7) == b"content"
    with pytest.raises(OSError, match="6 bytes"):
        read_configuration(str(file), OWNERS, 6)
    with pytest.raises(OSError, match="6 bytes"):
        read_private(str(file), OWNERS, 6)


def test_acl_that_grants_write_access_is_refused(folder: Path) -> None:
    file = folder / "a" / "b" / "file"
    nobody = 2**32 - 1
    # include/uapi/linux/posix_acl_xattr.h: the owner, user 1500, the group, the mask, all others.
    entries = ((1, 6, nobody), (2, 6, 1500), (4, 4, nobody), (16, 6, nobody), (32, 4, nobody))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(file, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"no ACL here: {error}")
    assert _refused(file).problem == "writable"


def _as_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def _as_pipe(path: Path, _target: Path) -> None:
    os.mkfifo(path)


def _as_hard_link(path: Path, target: Path) -> None:
    os.link(target, path)


@pytest.mark.parametrize(
    ("make", "problem"), [(_as_link, "type"), (_as_pipe, "type"), (_as_hard_link, "links")]
)
def test_private_file_is_no_link_and_no_pipe(
    folder: Path, make: Callable[[Path, Path], None], problem: str
) -> None:
    make(folder / "private", folder / "a" / "b" / "file")
    with pytest.raises(UntrustedPath) as caught:
        read_private(str(folder / "private"), OWNERS, 100)
    assert caught.value.problem == problem


def test_private_file_that_changes_into_a_link_is_never_followed(folder: Path) -> None:
    """The name alternates between a file and a link; the secret is never read."""
    (folder / "secret").write_text("secret")
    path, stop = folder / "private", threading.Event()

    def alternate() -> None:
        while not stop.is_set():
            (folder / "new").write_text("public")
            (folder / "new").replace(path)
            (folder / "new").symlink_to("secret")
            (folder / "new").replace(path)

    path.write_text("public")
    thread = threading.Thread(target=alternate)
    thread.start()
    outcomes = set()
    try:
        end = time.monotonic() + 3
        while len(outcomes) < 2 and time.monotonic() < end:
            for _attempt in range(500):
                try:
                    outcomes.add(read_private(str(path), OWNERS, 100))
                except UntrustedPath as error:
                    outcomes.add(error.problem.encode())
    finally:
        stop.set()
        thread.join()
    assert b"secret" not in outcomes
    assert outcomes <= {b"public", b"", b"type", b"links"}
    assert b"type" in outcomes


def test_no_descriptor_stays_open(folder: Path) -> None:
    before = os.listdir("/proc/self/fd")
    (folder / "a").chmod(0o777)
    _refused(folder / "a" / "b" / "file")
    (folder / "a").chmod(0o755)
    os.close(open_trusted(str(folder / "a"), OWNERS, directory=True))
    list_configuration(str(folder / "a" / "b"), OWNERS)
    assert os.listdir("/proc/self/fd") == before


def test_owners_of_a_process_with_and_without_capabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "self" / "status"
    status.parent.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 1500)
    for sets, owners in (
        ("CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n", {0, 1500}),
        ("CapPrm:\t0000000000001000\nCapEff:\t0000000000000000\n", {0}),
        ("CapPrm:\t0000000000001000\nCapEff:\t0000000000001000\n", {0}),
        ("", {0}),
    ):
        status.write_text(sets)
        assert caller_owners(str(tmp_path)) == owners
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert caller_owners(str(tmp_path)) == {0}


def test_ancestors_change_with_a_mode(folder: Path) -> None:
    file = str(folder / "a" / "b" / "file")
    before = ancestors(file)
    assert before[0][0] == str(folder / "a" / "b")
    assert before[-1][0] == "/"
    (folder / "a").chmod(0o775)
    assert ancestors(file) != before
