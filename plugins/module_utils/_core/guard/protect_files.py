# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Protection files: selectors in JSON files on the host, which every face obeys."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set
from fnmatch import fnmatch

from ..errors import InputError, ProtectFileError, UntrustedPath
from ..host.files import parse_json
from ..host.trusted_files import caller_owners, list_configuration, read_configuration
from ..messages import describe, untrusted_text
from ..selector.parse import Selector, parse_selector
from ..values import Names

# Files that editors and package managers leave behind, and README.
_IGNORED = ("*~", ".*", "#*#", "*.dpkg-*", "*.rpm*", "*.ucf-*", "README*")
_ALLOWED_FILE = "files named *.json; backup files, dotfiles and README are ignored"
_TRUSTED = "a file that only root may own and write, in directories that only root may write"
_ALLOWED_CONTENT = 'a selector, a list of selectors, or {"selectors": [...]}, as JSON'


def read_protect_files(directory: str, names: Names) -> Iterator[tuple[str, Selector]]:
    """Yield the selectors of all files in the directory, each with its place: FILE or FILE[INDEX].

    A missing directory protects nothing. Anything else that is unreadable or invalid raises
    ProtectFileError, so that nothing is destroyed. So does a file or a directory that users other
    than root may change.
    """
    owners = caller_owners()
    try:
        entries = list_configuration(directory, owners)
    except FileNotFoundError:
        return
    except UntrustedPath as error:
        raise ProtectFileError(directory, untrusted_text(error), _TRUSTED) from error
    except OSError as error:
        raise ProtectFileError(directory, _problem(error), "a readable directory") from error
    for entry in entries:
        is_json = entry.endswith(".json") and not entry.startswith(".")
        if not is_json and any(fnmatch(entry, pattern) for pattern in _IGNORED):
            continue
        file = os.path.join(directory, entry)
        if not is_json:
            raise ProtectFileError(file, _name_problem(entry), _ALLOWED_FILE)
        for index, value in _read(file, owners):
            place = file if index is None else f"{file}[{index}]"
            try:
                yield place, parse_selector(value, names=names, path=(), role="protect")
            except InputError as error:
                where = "" if index is None else f"selector {index}: "
                problem = f"{where}{describe(error)}".rstrip(".")
                raise ProtectFileError(file, problem, _ALLOWED_CONTENT) from error


def _name_problem(entry: str) -> str:
    if entry.endswith((".yml", ".yaml")):
        return "it is YAML, which Python's standard library cannot read"
    return "it is not named *.json"


def _problem(error: OSError) -> str:
    return error.strerror or str(error)


def _read(file: str, owners: Set[int]) -> Iterator[tuple[int | None, object]]:
    """Yield each selector of a file, unparsed, with its index; None: the file has no list."""
    try:
        value = parse_json(read_configuration(file, owners))
    except UntrustedPath as error:
        raise ProtectFileError(file, untrusted_text(error), _TRUSTED) from error
    except OSError as error:
        raise ProtectFileError(file, _problem(error), "a readable file") from error
    except ValueError as error:
        raise ProtectFileError(file, str(error), _ALLOWED_CONTENT) from error
    if isinstance(value, Mapping) and set(value) == {"selectors"}:
        value = value["selectors"]
        if not isinstance(value, list):
            raise ProtectFileError(file, "selectors is not a list", _ALLOWED_CONTENT)
    if isinstance(value, list):
        yield from enumerate(value)
    elif isinstance(value, Mapping):
        yield None, value
    else:
        raise ProtectFileError(file, "neither a mapping nor a list", _ALLOWED_CONTENT)
