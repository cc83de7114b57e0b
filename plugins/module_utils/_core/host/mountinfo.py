# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The table of mounts of a process (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# mangle_path() in fs/seq_file.c escapes blanks, newlines and backslashes, in octal.
_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A mount. root: the mounted directory or file inside its file system."""

    root: bytes
    mount_point: bytes
    filesystem: bytes


def parse(lines: Iterable[bytes]) -> Iterator[Mount]:
    """Yield the mounts in the lines of a table. Fields are separated by one blank each.

    Bytes, because paths are bytes: no locale and no other white space splits them.
    """
    for line in lines:
        before, dash, after = line.partition(b" - ")
        fields = before.split(b" ")
        if dash and len(fields) >= 5:
            yield Mount(unescape(fields[3]), unescape(fields[4]), after.split(b" ", 1)[0])


def unescape(field: bytes) -> bytes:
    """A field without its octal escapes."""
    return _OCTAL.sub(lambda match: bytes((int(match.group(1), 8) & 0xFF,)), field)
