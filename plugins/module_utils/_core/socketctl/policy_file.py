# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Read a policy document from a file, in JSON or YAML."""

from __future__ import annotations

from typing import Any, TextIO

from ..host.files import MAX_BYTES, parse_json, read_regular_file

STANDARD_INPUT = "-"


class PolicyUnreadable(Exception):
    """A file that is no document. Its text is a sentence for users."""


def read_document(file: str, stdin: TextIO) -> Any:
    """The document in a file; `-` is standard input.

    A name that ends with .json is JSON. Anything else is tried as JSON first, and then as YAML.
    Raises PolicyUnreadable.
    """
    try:
        content = (
            stdin.buffer.read(MAX_BYTES + 1) if file == STANDARD_INPUT else read_regular_file(file)
        )
    except OSError as error:
        raise PolicyUnreadable(f"{file} cannot be read: {error.strerror}.") from error
    name = "standard input" if file == STANDARD_INPUT else file
    if len(content) > MAX_BYTES:
        raise PolicyUnreadable(f"{name} is longer than {MAX_BYTES} bytes.")
    if not content.strip():
        raise PolicyUnreadable(f"{name} is empty: expected a policy in JSON or YAML.")
    try:
        return parse_json(content)
    except ValueError as error:
        # A mapping or list of JSON is a mistake in JSON, although YAML has them too.
        if file.endswith(".json") or content.lstrip()[:1] in (b"{", b"["):
            raise PolicyUnreadable(f"{name} is not a valid policy: {error}.") from error
    return _parse_yaml(content, name)


def _parse_yaml(content: bytes, name: str) -> Any:
    from ..host.yaml_document import parse_yaml

    try:
        return parse_yaml(content.decode("utf-8"))
    except ImportError as error:
        raise PolicyUnreadable(
            f"{name} is not JSON, and YAML needs the Python package PyYAML, which cannot be "
            f"imported: {error}. Install the distribution's package python3-yaml, or write the "
            "policy in JSON."
        ) from error
    except ValueError as error:
        raise PolicyUnreadable(f"{name} is {_phrase(error)}.") from error


def _phrase(error: ValueError) -> str:
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
