# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Bounded reads of regular files, strict JSON parsing, and atomic writes.

A policy or a protection file must be parsed or rejected quickly, whatever is at its path: a named
pipe, a device without an end, a document that no parser survives.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tempfile
from contextlib import suppress

from ..text import encodable

# The size limit of such a file. A policy with a thousand rules is smaller.
MAX_BYTES = 4 * 1024 * 1024
# How deep mappings and lists may nest.
MAX_DEPTH = 100

# JSON can encode characters that neither UTF-8 nor a system name can hold.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
# No meaningful number is longer. Python parses an integer in quadratic time.
_MAX_DIGITS = 100


def read_regular_file(path: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a regular file completely.

    Raises OSError: EFBIG for a longer file; EINVAL, EISDIR or ENXIO for anything that is not a
    regular file. A named pipe would block until somebody writes to it, and a device has no end.
    """
    with open(path, "rb", opener=_open_nonblocking) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"longer than {max_bytes} bytes", path)
    return content


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def parse_json(content: bytes) -> object:
    """Parse a JSON document in UTF-8.

    Raises ValueError for invalid JSON, for too deep nesting, for a repeated key, and for strings
    and numbers that the system cannot represent. The message is a phrase, such as
    "not JSON in UTF-8: ...".
    """
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_reject_repeated_keys, parse_int=_integer
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON in UTF-8: {error}") from error
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [value]
    for _depth in range(MAX_DEPTH + 1):
        level = [child for parent in level for child in _children(parent)]
    if level:
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


def _children(value: object) -> list[object]:
    """Return the keys and values of a mapping, or the items of a list."""
    if isinstance(value, str):
        if _UNUSABLE.search(value):
            raise ValueError("a name or value contains NUL or an unpaired surrogate")
        return []
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _reject_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build a mapping. JSON parsers silently keep one of two values with the same key."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        for key, _value in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:100]!r} occurs more than once in one mapping")
            seen.add(key)
    return mapping


def write_atomic(path: str, content: str, *, mode: int = 0o644, durable: bool = False) -> None:
    """Replace a file: a reader sees the old content or the new one, never a part.

    durable: the content is on the disk when this returns. Raises OSError; the old file is then
    unchanged, unless only the final fsync failed.
    """
    try:
        _replace(path, content, mode, durable)
    except OSError as error:
        # Without the name of the temporary file.
        raise OSError(error.errno, error.strerror, path) from error


def _replace(path: str, content: str, mode: int, durable: bool) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path) or ".")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            # Names of the system may have bytes that are not UTF-8.
            stream.write(encodable(content))
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        _sync_directory(path)


def remove_durably(path: str) -> bool:
    """Remove a file so that it does not reappear after a power loss.

    Returns False if there was none. Raises OSError.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    _sync_directory(path)
    return True


def _sync_directory(path: str) -> None:
    """Flush the directory entries: fsync(2) of the file itself does not include them."""
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
