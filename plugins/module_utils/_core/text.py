# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Names of the system as text: bytes as UTF-8 in any locale, invalid bytes as escapes.

    decode(b"caf\\xe9")           # 'caf\\udce9': surrogateescape (PEP 383)
    printable("caf\\udce9")       # 'caf\\\\xe9', as results show it
    spellings("caf\\\\xe9")        # ('caf\\\\xe9', 'caf\\udce9'), the names that a user may mean

Names of cgroups, interfaces, users, processes and namespaces are bytes for the kernel. JSON and
terminals take only valid text.
"""

from __future__ import annotations

import re
from typing import Any

# Lone surrogates. U+DC80 to U+DCFF stand for the bytes 0x80 to 0xff (PEP 383).
_SURROGATE = re.compile("[\ud800-\udfff]")
ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f]|5c)")
_AMBIGUOUS = re.compile(r"\\(?=x(?:[89a-f][0-9a-f]|5c))")
# Values of these types, and tests for them, are most of a record.
_PLAIN = frozenset({int, bool, float, type(None)})


def decode(raw: bytes) -> str:
    """Decode a name of the system. Invalid bytes become lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes of a name of the system, or of a path.

    Pass paths to the system as bytes: Python encodes text as the locale says.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Other surrogates stand for no byte, so no name of the system has them.
        return text.encode("utf-8", "surrogatepass")


def printable(text: str) -> str:
    """Show the bytes of a name that are not UTF-8 as ``\\xNN``. Leaves valid text as it is.

    In a name with such bytes, a backslash that looks like the start of an escape becomes ``\\x5c``.
    """
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub(_escape, _AMBIGUOUS.sub(r"\\x5c", text))


def _escape(match: re.Match[str]) -> str:
    number = ord(match.group())
    return f"\\x{number - 0xDC00:02x}" if number >= 0xDC80 else f"\\u{number:04x}"


def _byte(match: re.Match[str]) -> str:
    number = int(match.group(1), 16)
    return chr(number if number < 0x80 else 0xDC00 + number)


def printable_values(value: Any) -> Any:
    """Copy a result with all text printable, keys included."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else printable(value)
    if kind is dict:
        return {
            key if key.isascii() else printable(key): item
            if type(item) in _PLAIN
            else printable_values(item)
            for key, item in value.items()
        }
    if kind is list:
        return [printable_values(item) for item in value]
    if kind is tuple:
        return tuple([printable_values(item) for item in value])
    return value


def spellings(text: str) -> tuple[str, ...]:
    """The names that a user may mean by a text: the text, and the name that printable shows so."""
    if "\\x" not in text:
        return (text,)
    raw = ESCAPED_BYTE.sub(_byte, text)
    # Escapes of valid UTF-8, as systemd-escape(1) makes them, are part of the name.
    name = decode(encode(raw))
    return (text, name) if name != text and printable(name) == text else (text,)
