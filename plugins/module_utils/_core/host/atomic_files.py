# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: files that others read while the agent writes them."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress


def replace_file(path: str, content: str, *, mode: int = 0o644, lasting: bool = False) -> None:
    """Write the whole file beside the old one and put it in its place: a reader sees one or the
    other, never a half. lasting: it is on the disk before this returns. Raises OSError; then the
    old file is as it was, unless it is only the disk that could not be told.
    """
    descriptor, written = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path) or ".")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            if lasting:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(written, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(written)
        raise
    if lasting:
        _names_last(path)


def remove_file(path: str) -> bool:
    """Whether there was one. It does not come back if the machine is cut off. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    _names_last(path)
    return True


def _names_last(path: str) -> None:
    """The names in its directory are on the disk too: a file's own fsync does not see to that
    (fsync(2))."""
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
