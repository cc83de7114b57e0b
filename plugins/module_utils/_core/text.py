# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Names of the system as text: bytes as UTF-8 in any locale, and one escape function for output.

    decode(b"caf\\xe9")           # 'caf\\udce9': surrogateescape (PEP 383)
    printable("caf\\udce9")       # 'caf\\\\xe9', as results show it
    printable("\\x1b[2J")         # '\\\\x1b[2J': a terminal does not obey it
    spellings("caf\\\\xe9")        # ('caf\\\\xe9', 'caf\\udce9'), the names that a user may mean

Names of cgroups, interfaces, users, processes and namespaces are bytes for the kernel, and any user
can give a process any name. Everything that the collection prints, logs or returns passes
through ``printable``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Lone surrogates. U+DC80 to U+DCFF stand for the bytes 0x80 to 0xff (PEP 383).
_SURROGATE = re.compile("[\ud800-\udfff]")
# Printable for Python, but without a glyph: Default_Ignorable_Code_Point of Unicode that is not of
# category Cf. With them, two names can look the same.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# The shapes of escapes. In \xNN, NN is a control character of ASCII, a byte that is not UTF-8 (PEP
# 383) or the backslash.
_ESCAPE = r"(?:x(?:[01][0-9a-f]|7f|[89a-f][0-9a-f]|5c)|u[0-9a-f]{4}|U[0-9a-f]{8})"
ESCAPED = re.compile(rf"\\{_ESCAPE}")
_AMBIGUOUS = re.compile(rf"\\(?={_ESCAPE})")
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
    """Replace each character that is not printable with an escape. Leaves printable text as it is.

    A byte that is not UTF-8 or a control character of ASCII becomes ``\\xNN``, any other character
    ``\\uNNNN`` or ``\\UNNNNNNNN``: control characters, marks that change the direction of text,
    characters without a glyph, blanks other than the space. In a text with such characters, a
    backslash that looks like the start of an escape becomes ``\\x5c``.
    """
    if text.isprintable() and (text.isascii() or not _INVISIBLE.search(text)):
        return text
    return "".join(map(_escape, _AMBIGUOUS.sub(r"\\x5c", text)))


def printable_lines(text: str) -> str:
    """As printable, for text of several lines: its newlines stay."""
    return "\n".join(map(printable, text.split("\n")))


def encodable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, as printable does."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub(lambda match: _escape(match.group()), _AMBIGUOUS.sub(r"\\x5c", text))


def _escape(char: str) -> str:
    if char.isprintable() and not _INVISIBLE.match(char):
        return char
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _unescape(match: re.Match[str]) -> str:
    kind, digits = match.group()[1], match.group()[2:]
    number = int(digits, 16)
    if kind == "x":
        return chr(number if number < 0x80 else 0xDC00 + number)
    char = chr(number) if number < 0x110000 else ""
    return char if char and _escape(char) == match.group() else match.group()


def printable_values(value: Any) -> Any:
    """Copy a result with all text printable, keys included."""
    return _copy(value, printable)


def encodable_values(value: Any) -> Any:
    """Copy values with all text valid UTF-8, keys included."""
    return _copy(value, encodable)


def _copy(value: Any, convert: Callable[[str], str]) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() and value.isprintable() else convert(value)
    if kind is dict:
        return {
            key if key.isascii() and key.isprintable() else convert(key): item
            if type(item) in _PLAIN
            else _copy(item, convert)
            for key, item in value.items()
        }
    if kind is list:
        return [_copy(item, convert) for item in value]
    if kind is tuple:
        return tuple([_copy(item, convert) for item in value])
    return value


def spellings(text: str) -> tuple[str, ...]:
    """The names that a user may mean by a text: the text, and the name that printable shows so."""
    if "\\" not in text:
        return (text,)
    raw = ESCAPED.sub(_unescape, text)
    # Escapes of valid UTF-8, as systemd-escape(1) makes them, are part of the name.
    name = decode(encode(raw))
    return (text, name) if name != text and printable(name) == text else (text,)
