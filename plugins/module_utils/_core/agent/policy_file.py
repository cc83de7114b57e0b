# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the policy file: read whole, or refused with every reason."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ..errors import PolicyErrors, SocketsError
from ..host.files import parse_json, read_regular_file
from ..host.host import Host
from ..messages import describe
from ..policy.model import Policy
from ..policy.parse import parse_policy

# Of what is wrong with one file, and of one reason: garbage can have a hundred thousand.
_MOST_REASONS = 50
_LONGEST = 1000

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
        content = read_regular_file(file)
        if not content.strip():
            return Refusal(file, (f"{file} is empty: no JSON, and so no policy.",))
        document = parse_json(content)
    except OSError as error:
        return Refusal(file, (f"{file} cannot be read: {error.strerror}.",))
    except ValueError as error:
        return Refusal(file, (f"{file} is no policy: {error}.",))
    try:
        return parse_policy(document, names=host, files=host.protect_directory)
    except PolicyErrors as error:
        return Refusal(file, _told(error.errors))
    except SocketsError as error:
        return Refusal(file, _told([error]))


def _told(errors: Sequence[SocketsError]) -> tuple[str, ...]:
    """As much of what is wrong as fits into a log and a status; the rest is counted."""
    told = [describe(each) for each in errors[:_MOST_REASONS]]
    short = [each if len(each) <= _LONGEST else f"{each[:_LONGEST]}..." for each in told]
    more = len(errors) - len(told)
    return (*short, *([f"And {more} more."] if more else []))
