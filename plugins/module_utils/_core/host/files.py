# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: files that others write, read so that none of them stops the reader.

What says what may be destroyed has to be understood or refused, soon, whatever lies in its place: a
named pipe, a device without an end, a document that no parser survives.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat

# Of what such a file may hold at most: a policy of a thousand rules takes less.
MOST_BYTES = 4 * 1024 * 1024
# How many mappings and lists may lie inside each other.
DEEPEST = 100

# JSON can write what no text in UTF-8 and no name of the system holds.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
# No number that means something here has more. To read one, Python takes the square of their time.
_MOST_DIGITS = 100


def read_regular(path: str, most: int = MOST_BYTES) -> bytes:
    """The whole content of a regular file.

    Raises OSError, also for a longer one (EFBIG) and for what is no regular file (EINVAL, EISDIR,
    ENXIO): a named pipe would let one wait for whoever writes to it, and a device has no end.
    """
    with open(path, "rb", opener=_without_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most} bytes", path)
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def json_value(content: bytes) -> object:
    """What a document in JSON says. Raises ValueError with the reason for one that is none, that
    nests too deep to be judged, or of which a part would be lost or could never be looked up.
    """
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_each_key_once, parse_int=_integer
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not JSON in UTF-8: {error}") from error
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [value]
    for _depth in range(DEEPEST + 1):
        level = [under for each in level for under in _usable(each)]
    if level:
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"it nests more than {DEEPEST} deep"


def _usable(value: object) -> list[object]:
    """What a value holds."""
    if isinstance(value, str):
        if _UNUSABLE.search(value):
            raise ValueError("it has NUL or half a character in a name or a value")
        return []
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def _each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of a key that comes twice readers of JSON keep one, and do not say so."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        met: set[str] = set()
        for key, _value in pairs:
            if key in met:
                raise ValueError(f"the key {key[:100]!r} comes more than once in one mapping")
            met.add(key)
    return mapping
