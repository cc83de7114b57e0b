# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the policy file: read whole, or refused with every reason."""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from ..errors import PolicyErrors, SocketsError
from ..host import Host
from ..policy.document import Policy
from ..policy.parse import parse_policy
from ..words import describe

_MOST_BYTES = 4 * 1024 * 1024
# Of what is wrong with one file, and of one reason: garbage can have a hundred thousand.
_MOST_REASONS = 50
_LONGEST = 1000

# JSON can write what no text in UTF-8 and no name of the system holds.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")

# Of each file that counts: where it is, its length and when it was written.
Stamp = tuple[Optional[tuple[str, int, int, int, int, int]], ...]


class Refusal(NamedTuple):
    """Why a file is not obeyed; reasons are sentences."""

    file: str
    reasons: tuple[str, ...]


def stamp(file: str, protections: str) -> Stamp:
    """Another one where the policy, or a file of protections in that directory, may be another."""
    try:
        names = sorted(os.listdir(protections))
    except OSError:
        names = []
    return tuple(map(_stamp, [file, *(os.path.join(protections, name) for name in names)]))


def _stamp(file: str) -> tuple[str, int, int, int, int, int] | None:
    """None: there is no such file, or it may not be looked at."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    times = status.st_mtime_ns, status.st_ctime_ns
    return file, status.st_dev, status.st_ino, status.st_size, *times


def read_policy(file: str, host: Host) -> Policy | Refusal:
    """The policy in a JSON file. Never raises for what is in the file, nor if it cannot be read."""
    try:
        with open(file, "rb", opener=_without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return Refusal(file, (f"{file} is no regular file.",))
            raw = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        return Refusal(file, (f"{file} cannot be read: {error.strerror}.",))
    if len(raw) > _MOST_BYTES:
        return Refusal(file, (f"{file} is longer than {_MOST_BYTES} bytes: this is no policy.",))
    if not raw.strip():
        return Refusal(file, (f"{file} is empty: no JSON, and so no policy.",))
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        return Refusal(file, (f"{file} is not JSON in UTF-8: {reason}.",))
    if any(_UNUSABLE.search(text) for text in _texts(document)):
        return Refusal(file, (f"{file} has NUL or half a character in a name or a value.",))
    try:
        return parse_policy(document, names=host, files=host.protect_directory)
    except PolicyErrors as error:
        return Refusal(file, _told(error.errors))
    except SocketsError as error:
        return Refusal(file, _told([error]))
    except RecursionError:
        return Refusal(file, (f"{file} nests too deep: this is no policy.",))


def _told(errors: Sequence[SocketsError]) -> tuple[str, ...]:
    """As much of what is wrong as fits into a log and a status; the rest is counted."""
    told = [describe(each) for each in errors[:_MOST_REASONS]]
    short = [each if len(each) <= _LONGEST else f"{each[:_LONGEST]}..." for each in told]
    more = len(errors) - len(told)
    return (*short, *([f"And {more} more."] if more else []))


def _texts(document: object) -> Iterator[str]:
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.keys()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _without_waiting(file: str, flags: int) -> int:
    """A named pipe would let one wait for whoever writes to it."""
    return os.open(file, flags | os.O_NONBLOCK)


def _each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"a key comes more than once in one object ({', '.join(twice)})")
    return found
