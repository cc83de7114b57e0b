# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Encoder and parser of netlink attributes (struct nlattr, include/uapi/linux/netlink.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from ..errors import MalformedMessage

_HEADER = struct.Struct("=HH")
_KIND_MASK = 0x3FFF  # NLA_TYPE_MASK: the two high bits are NLA_F_NESTED and NLA_F_NET_BYTEORDER
MAX_VALUE = 0xFFFF - 4


def encode(kind: int, value: bytes) -> bytes:
    """Encode one attribute, padded to a multiple of four bytes.

    value: at most MAX_VALUE bytes; struct.error is raised for more.
    """
    return _HEADER.pack(len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


class _Layout(NamedTuple):
    """The positions of the attributes in a message: mostly the same as in the one before."""

    unpack: Callable[[bytes], tuple[bytes, ...]]
    headers: tuple[bytes, ...]
    kinds: tuple[int, ...]


_layouts: dict[int, _Layout] = {}
_MAX_LAYOUTS = 256


def parse(raw: bytes) -> dict[int, bytes]:
    """Parse attributes into values by type. The last of two with the same type counts.

    Raises MalformedMessage if a length exceeds the remaining bytes.
    """
    layout = _layouts.get(len(raw))
    if layout is not None:
        parts = layout.unpack(raw)
        if parts[::2] == layout.headers:
            return dict(zip(layout.kinds, parts[1::2]))
    return _walk(raw)


def parse_list(raw: bytes, kind: int) -> list[bytes]:
    """Parse the values of all attributes of one type, in order. Raises MalformedMessage."""
    found: list[bytes] = []
    offset = 0
    while offset + _HEADER.size <= len(raw):
        length, each = _HEADER.unpack_from(raw, offset)
        if length < _HEADER.size or offset + length > len(raw):
            raise MalformedMessage(
                "a netlink attribute", f"length {length} at offset {offset} of {len(raw)} bytes"
            )
        if each & _KIND_MASK == kind:
            found.append(raw[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3
    return found


def _walk(raw: bytes) -> dict[int, bytes]:
    """Parse attributes one by one, and keep their layout for the next message of this size."""
    found: dict[int, bytes] = {}
    headers: list[bytes] = []
    kinds: list[int] = []
    form = ""
    offset = 0
    end = len(raw)
    while offset + _HEADER.size <= end:
        length, kind = _HEADER.unpack_from(raw, offset)
        if length < _HEADER.size or offset + length > end:
            raise MalformedMessage(
                "a netlink attribute", f"length {length} at offset {offset} of {end} bytes"
            )
        following = min((offset + length + 3) & ~3, end)
        form += f"4s{length - 4}s{following - offset - length}x"
        headers.append(raw[offset : offset + 4])
        kinds.append(kind & _KIND_MASK)
        found[kinds[-1]] = raw[offset + 4 : offset + length]
        offset = following
    if len(_layouts) >= _MAX_LAYOUTS:
        _layouts.clear()
    form += f"{end - offset}x"
    _layouts[end] = _Layout(struct.Struct("=" + form).unpack, tuple(headers), tuple(kinds))
    return found
