# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The policy file: load it, or return every reason to reject it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ..errors import PolicyErrors, SocketsError, UntrustedPath
from ..host.files import parse_json, read_regular_file
from ..host.host import Host
from ..host.trusted_files import Ancestors, ancestors, caller_owners, read_configuration
from ..messages import describe
from ..policy.model import Policy
from ..policy.parse import parse_policy
from ..text import printable

# Limits for one file: garbage can cause a hundred thousand errors.
_MAX_ERRORS = 50
_MAX_ERROR_LENGTH = 1000

_File = tuple[str, int, int, int, int, int]
# For each file: path, device, inode, size, mtime and ctime; None if stat fails. Then the owners and
# modes of the directories.
Fingerprint = tuple[tuple[Optional[_File], ...], Ancestors]


class Rejected(NamedTuple):
    """A rejected file. errors: sentences."""

    file: str
    errors: tuple[str, ...]


def fingerprint(file: str, protect_directory: str) -> Fingerprint:
    """Return a value that changes with a policy or protection file, or with who may write it."""
    try:
        names = sorted(os.listdir(protect_directory))
    except OSError:
        names = []
    files = [file, *(os.path.join(protect_directory, name) for name in names)]
    directories = ancestors(file) + ancestors(os.path.join(protect_directory, "file"))
    return tuple(map(_stat, files)), directories


def _stat(file: str) -> _File | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    times = status.st_mtime_ns, status.st_ctime_ns
    return file, status.st_dev, status.st_ino, status.st_size, *times


def load_policy(file: str, host: Host, *, obeyed: bool = True) -> Policy | Rejected:
    """Load a policy from a JSON file. Never raises for its content or if it is unreadable.

    obeyed: reject a file that users other than root may change. Without it, a user's own file is
    only checked or previewed.
    """
    try:
        content = read_configuration(file, caller_owners()) if obeyed else read_regular_file(file)
        if not content.strip():
            return _unreadable(file, "is empty: expected a policy in JSON")
        document = parse_json(content)
    except UntrustedPath as error:
        return Rejected(file, (describe(error),))
    except OSError as error:
        return _unreadable(file, f"cannot be read: {error.strerror}")
    except ValueError as error:
        return _unreadable(file, f"is not a valid policy: {error}")
    try:
        return parse_policy(document, names=host, files=host.protect_directory)
    except PolicyErrors as error:
        return Rejected(file, _error_texts(error.errors))
    except SocketsError as error:
        return Rejected(file, _error_texts([error]))


def _unreadable(file: str, problem: str) -> Rejected:
    return Rejected(file, (printable(f"{file} {problem}."),))


def _error_texts(errors: Sequence[SocketsError]) -> tuple[str, ...]:
    """Describe the errors within the limits; the last text counts the omitted ones."""
    texts = [describe(error) for error in errors[:_MAX_ERRORS]]
    short = [
        text if len(text) <= _MAX_ERROR_LENGTH else f"{text[:_MAX_ERROR_LENGTH]}..."
        for text in texts
    ]
    omitted = len(errors) - len(texts)
    return (*short, *([f"And {omitted} more."] if omitted else []))
