# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Files that the program obeys or reads with privileges: opened only if nobody else may write them.

    read_configuration("/etc/linuxnet-sockets/policy.json", caller_owners())
    read_private("/var/lib/linuxnet-sockets/paused", frozenset({0, 997}), 4096)

A configuration file counts as trusted if the file and every directory on its path, up to ``/``,
belongs to a trusted owner and is writable by that owner only. sshd (StrictModes) and sudo use the
same rule. The group bits of a mode include the mask of an ACL (acl(5)), so an ACL cannot grant more
than they show. Symbolic links are followed by hand, and the directories that hold them are checked
too.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Set

from ..errors import UntrustedPath
from .files import MAX_BYTES

ROOT = frozenset({0})

_MAX_LINKS = 40
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A named pipe must not block the caller, and a terminal must not become its own.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# The user that the kernel shows for one that the user namespace does not map.
_OVERFLOW_UID = 65534
# Owner and mode of each directory on a path: what decides whether the path is trusted.
Ancestors = tuple[tuple[str, int, int], ...]


def caller_owners(proc: str = "/proc") -> frozenset[int]:
    """The users whose configuration files the calling process obeys.

    Root only. A user without any capability also obeys files of their own: they can harm nobody
    else with them.
    """
    uid = os.geteuid()
    return ROOT if uid == 0 or _is_privileged(proc) else ROOT | {uid}


def _is_privileged(proc: str) -> bool:
    """Whether the process has a capability in its effective or permitted set."""
    try:
        with open(f"{proc}/self/status", "rb") as lines:
            sets = [int(line.split()[1], 16) for line in lines if line[:4] in (b"CapE", b"CapP")]
    except (OSError, ValueError, IndexError):
        return True
    return not sets or any(sets)


def read_configuration(path: str, owners: Set[int], max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file that decides what is destroyed. Its directories are checked too.

    owners: the trusted users. Raises UntrustedPath, and OSError as read_private.
    """
    return _read(open_trusted(path, owners), path, max_bytes)


def list_configuration(path: str, owners: Set[int]) -> list[str]:
    """The sorted names in a directory of configuration files.

    Raises UntrustedPath, also if the directory does not exist and another user may create it.
    Raises OSError.
    """
    descriptor = open_trusted(path, owners, directory=True)
    try:
        return sorted(os.listdir(descriptor))
    finally:
        os.close(descriptor)


def read_private(path: str, owners: Set[int], max_bytes: int) -> bytes:
    """Read a file in a directory of the agent's own.

    Raises UntrustedPath unless it is a regular file with one link that belongs to one of the
    owners, and that nobody else may write. Raises OSError, and EFBIG for a longer file.
    """
    # Opening a device or a link can have side effects, so look first.
    _check(path, path, os.lstat(path), owners)
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UntrustedPath(path, path, "type", 0, 0) from error
        raise
    try:
        _check(path, path, os.fstat(descriptor), owners)
    except BaseException:
        os.close(descriptor)
        raise
    return _read(descriptor, path, max_bytes)


def _read(descriptor: int, path: str, max_bytes: int) -> bytes:
    with os.fdopen(descriptor, "rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"longer than {max_bytes} bytes", path)
    return content


def open_trusted(path: str, owners: Set[int], *, directory: bool = False) -> int:
    """Open a regular file, or a directory, for reading. Returns a descriptor.

    Each directory is checked before a name in it is looked up. From then on, only the trusted
    owners can exchange what the name stands for. Raises UntrustedPath and OSError.
    """
    walk = _Walk(path, owners)
    try:
        return walk.open(directory)
    finally:
        walk.close()


class _Walk:
    """The walk along a path, with a descriptor of the directory that it has reached."""

    def __init__(self, path: str, owners: Set[int]) -> None:
        self._path = path
        self._owners = owners
        # An unmapped owner is somebody outside of the user namespace: who set up the mounts.
        self._directory_owners = owners | ({_OVERFLOW_UID} if _in_user_namespace() else set())
        self._names = deque(_names(os.path.abspath(path)))
        self._place = "/"
        self._links = 0
        self._descriptor = os.open("/", _DIRECTORY)

    def close(self) -> None:
        os.close(self._descriptor)

    def open(self, directory: bool) -> int:
        self._check_directory(os.fstat(self._descriptor))
        while self._names:
            name = self._names.popleft()
            if name == "..":
                self._enter(name, os.path.dirname(self._place))
                continue
            place = os.path.join(self._place, name)
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                self._follow(name, place, found)
            elif self._names or directory:
                self._enter(name, place)
            else:
                return self._open_file(name, place, found)
        if not directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._descriptor)

    def _follow(self, name: str, place: str, found: os.stat_result) -> None:
        self._links += 1
        if self._links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._path)
        if found.st_uid not in self._directory_owners:
            raise UntrustedPath(self._path, place, "owner", found.st_mode, found.st_uid)
        target = os.readlink(name, dir_fd=self._descriptor)
        self._names.extendleft(reversed(_names(target)))
        if target.startswith("/"):
            self._enter("/", "/")

    def _enter(self, name: str, place: str) -> None:
        descriptor = os.open(name, _DIRECTORY, dir_fd=self._descriptor)
        os.close(self._descriptor)
        self._descriptor, self._place = descriptor, place
        self._check_directory(os.fstat(descriptor))

    def _check_directory(self, found: os.stat_result) -> None:
        mode, uid = found.st_mode, found.st_uid
        if uid not in self._directory_owners:
            raise UntrustedPath(self._path, self._place, "owner", mode, uid)
        # In a directory with the sticky bit, users can exchange only their own entries. It cannot
        # hold the file itself: there, users could create one where none is.
        above = len(self._names) > 1
        if mode & _WRITABLE_BY_OTHERS and not (above and mode & stat.S_ISVTX):
            raise UntrustedPath(self._path, self._place, "writable", mode, uid)

    def _open_file(self, name: str, place: str, found: os.stat_result) -> int:
        _check(self._path, place, found, self._owners)
        descriptor = os.open(name, _READ, dir_fd=self._descriptor)
        try:
            _check(self._path, place, os.fstat(descriptor), self._owners)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _check(path: str, place: str, found: os.stat_result, owners: Set[int]) -> None:
    problem: str | None = None
    if not stat.S_ISREG(found.st_mode):
        problem = "type"
    elif found.st_uid not in owners:
        problem = "owner"
    elif found.st_mode & _WRITABLE_BY_OTHERS:
        problem = "writable"
    elif found.st_nlink > 1:
        problem = "links"
    if problem is not None:
        raise UntrustedPath(path, place, problem, found.st_mode, found.st_uid)


def _in_user_namespace() -> bool:
    """Whether the user namespace does not map all users (user_namespaces(7))."""
    try:
        with open("/proc/self/uid_map", "rb") as stream:
            return stream.read(64).split() != [b"0", b"0", b"4294967295"]
    except OSError:
        return False


def ancestors(path: str) -> Ancestors:
    """Path, owner and mode of each directory above a path, as far as they can be read.

    The value changes when an administrator changes the owner or the mode of one.
    """
    found = []
    place = os.path.realpath(path)
    while place != "/":
        place = os.path.dirname(place)
        try:
            status = os.stat(place)
        except OSError:
            continue
        found.append((place, status.st_uid, stat.S_IMODE(status.st_mode)))
    return tuple(found)
