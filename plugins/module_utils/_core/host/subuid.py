# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Subordinate uids (subuid(5)): the uids that a user may give to processes of a user namespace.

A user with 65,536 of them is still one user. Without this, such a user could have 65,536 budgets.
"""

from __future__ import annotations

import bisect
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from .files import read_regular_file

SUBUID = "/etc/subuid"
_MAX_BYTES = 1 << 20
_MAX_UID = (1 << 32) - 2


class _Range(NamedTuple):
    """Subordinate uids. first, last: inclusive. user: a name, or a uid as text."""

    first: int
    last: int
    user: str


class SubordinateUids:
    """Finds the user of a subordinate uid in the file, which it reads again after a change.

    user_id: looks up a user by name; None if there is no such user.
    """

    def __init__(self, user_id: Callable[[str], int | None], path: str = SUBUID) -> None:
        self._user_id = user_id
        self._path = path
        self._version: tuple[int, ...] | None = None
        self._ranges: list[_Range] = []
        self._firsts: list[int] = []
        self._users: dict[str, int | None] = {}

    def current(self) -> Callable[[int], int]:
        """Return user_of, after reading the file again if it changed.

        An unreadable file counts as empty.
        """
        version = _version(self._path)
        if version != self._version:
            self._read(version)
        return self.user_of

    def _read(self, version: tuple[int, ...] | None) -> None:
        self._version = version
        content = b""
        with suppress(OSError):
            content = read_regular_file(self._path, _MAX_BYTES)
        self._ranges = sorted(_parse(content.decode("utf-8", "replace")))
        self._firsts = [each.first for each in self._ranges]
        self._users = {}

    def user_of(self, uid: int) -> int:
        """Return the user of a subordinate uid; any other uid as it is.

        A range of an unknown user is represented by its first uid.
        """
        position = bisect.bisect_right(self._firsts, uid) - 1
        if position < 0 or self._ranges[position].last < uid:
            return uid
        found = self._ranges[position]
        if found.user not in self._users:
            self._users[found.user] = self._user_id(found.user)
        user = self._users[found.user]
        if user is None and found.user.isdecimal():
            return int(found.user)
        return found.first if user is None else user


def _version(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _parse(text: str) -> Iterator[_Range]:
    """The ranges of the valid lines: ``user:first:count``."""
    for line in text.splitlines():
        user, *numbers = line.strip().split(":")
        if len(numbers) != 2 or not user or not all(map(_is_number, numbers)):
            continue
        first, count = map(int, numbers)
        if count and first <= _MAX_UID:
            yield _Range(first, min(_MAX_UID, first + count - 1), user)


def _is_number(digits: str) -> bool:
    return digits.isascii() and digits.isdecimal() and len(digits) <= 10
