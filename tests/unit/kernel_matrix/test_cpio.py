# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Initramfs archives, parsed as the kernel parses them."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path

from tests.kernel_matrix.cpio import CpioWriter, join_archives

Entries = dict[str, tuple[int, int, bytes]]


def _read(archive: bytes) -> Entries:
    """Parse concatenated archives into name: (mode, uid, content)."""
    found: Entries = {}
    at = 0
    while at < len(archive):
        if archive[at] == 0:
            at += 1
            continue
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, uid, size, length = fields[1], fields[2], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length]
        assert name.endswith(b"\0")
        start = (at + 110 + length + 3) & ~3
        if name != b"TRAILER!!!\0":
            found[name[:-1].decode()] = mode, uid, archive[start : start + size]
        at = (start + size + 3) & ~3
    return found


def test_tree_keeps_modes_and_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner" / "__pycache__").mkdir(parents=True)
    (source / "inner" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (source / "inner" / "run").write_bytes(b"#!/bin/sh\n")
    (source / "inner" / "run").chmod(0o755)
    (source / "link").symlink_to("inner/run")
    out = io.BytesIO()

    with CpioWriter(out) as writer:
        writer.tree(source, "top")

    assert _read(out.getvalue()) == {
        "top": (stat.S_IFDIR | 0o755, 0, b""),
        "top/inner": (stat.S_IFDIR | 0o755, 0, b""),
        "top/inner/run": (stat.S_IFREG | 0o755, 0, b"#!/bin/sh\n"),
        "top/link": (stat.S_IFLNK | 0o777, 0, b"inner/run"),
    }


def test_tar_keeps_owners_and_copies_hard_links(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        file = tarfile.TarInfo("./etc/file")
        file.size, file.uid, file.mode = 3, 7, 0o4755
        tar.addfile(file, io.BytesIO(b"abc"))
        again = tarfile.TarInfo("./etc/again")
        again.type, again.linkname, again.mode = tarfile.LNKTYPE, "./etc/file", 0o644
        tar.addfile(again)
        device = tarfile.TarInfo("./dev/null")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
    out = io.BytesIO()

    with tarfile.open(tmp_path / "a.tar") as tar, CpioWriter(out) as writer:
        writer.tar(tar)

    assert _read(out.getvalue()) == {
        "etc/file": (stat.S_IFREG | 0o4755, 7, b"abc"),
        "etc/again": (stat.S_IFREG | 0o644, 0, b"abc"),
    }


def test_join_archives(tmp_path: Path) -> None:
    parts = []
    for name, content in (("one", b"12345"), ("two", b"")):
        parts.append(tmp_path / name)
        with parts[-1].open("wb") as out, CpioWriter(out) as writer:
            writer.file(name, content)

    join_archives(parts, tmp_path / "both")

    both = _read((tmp_path / "both").read_bytes())
    assert {name: content for name, (_mode, _uid, content) in both.items()} == {
        "one": b"12345",
        "two": b"",
    }
