# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Initramfs archives in the cpio "newc" format.

Format: Documentation/driver-api/early-userspace/buffer-format.rst. The kernel unpacks several
archives in one file one after the other. Files belong to root, except those from a tar archive.
"""

from __future__ import annotations

import itertools
import shutil
import stat
import tarfile
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"070701"


class CpioWriter:
    """Writer of one archive. The context manager adds the trailer on exit."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._inodes = itertools.count(1)
        self._written = 0

    def __enter__(self) -> CpioWriter:
        return self

    def __exit__(self, exception: object, *_rest: object) -> None:
        if exception is None:
            self._header("TRAILER!!!", 0, 0, 0, 0)
            self._pad()

    def directory(self, name: str, mode: int = 0o755) -> None:
        self._header(name, stat.S_IFDIR | mode, 0, 0, 0)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self._header(name, stat.S_IFREG | mode, 0, 0, len(content))
        self._write(content)
        self._pad()

    def tree(self, source: Path, name: str) -> None:
        """Add a directory tree without bytecode caches."""
        self.directory(name)
        for path in sorted(source.iterdir()):
            inner = f"{name}/{path.name}"
            if path.is_symlink():
                self._link(inner, str(path.readlink()))
            elif path.is_dir():
                if path.name != "__pycache__":
                    self.tree(path, inner)
            else:
                self.file(inner, path.read_bytes(), path.stat().st_mode & 0o777)

    def tar(self, archive: tarfile.TarFile) -> None:
        """Add the members of a tar archive. Devices are omitted, hard links become copies."""
        for member in archive:
            name = member.name.removeprefix("./").strip("/")
            source = archive.extractfile(member) if member.isreg() or member.islnk() else None
            if not name or name == ".":
                continue
            if member.issym():
                self._link(name, member.linkname)
            elif source is not None:
                content = source.read()
                mode = stat.S_IFREG | member.mode
                self._header(name, mode, member.uid, member.gid, len(content))
                self._write(content)
                self._pad()
            elif member.isdir():
                self._header(name, stat.S_IFDIR | member.mode, member.uid, member.gid, 0)

    def _link(self, name: str, target: str) -> None:
        content = target.encode()
        self._header(name, stat.S_IFLNK | 0o777, 0, 0, len(content))
        self._write(content)
        self._pad()

    def _header(self, name: str, mode: int, uid: int, gid: int, size: int) -> None:
        encoded = name.encode() + b"\0"
        inode = next(self._inodes)
        # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
        # namesize, check
        fields = (inode, mode, uid, gid, 1, 0, size, 0, 0, 0, 0, len(encoded), 0)
        self._write(_MAGIC + b"".join(b"%08X" % field for field in fields) + encoded)
        self._pad()

    def _write(self, content: bytes) -> None:
        self._out.write(content)
        self._written += len(content)

    def _pad(self) -> None:
        self._write(bytes(-self._written % 4))


def join_archives(parts: list[Path], out: Path) -> None:
    """Concatenate archives, each padded to a multiple of 512 bytes."""
    with out.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
            target.write(bytes(-target.tell() % 512))
