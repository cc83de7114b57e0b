# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: netlink attributes (struct nlattr, include/uapi/linux/netlink.h)."""

from __future__ import annotations

import struct

from ..errors import MalformedMessage

_HEADER = struct.Struct("=HH")
_KIND_MASK = 0x3FFF  # NLA_TYPE_MASK: the two high bits are NLA_F_NESTED and NLA_F_NET_BYTEORDER
MAX_VALUE = 0xFFFF - 4


def encode(kind: int, value: bytes) -> bytes:
    """One attribute, padded to a multiple of four. The value has at most MAX_VALUE bytes."""
    return _HEADER.pack(len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def parse(raw: bytes) -> dict[int, bytes]:
    """The attributes by type; of a type that comes twice, the last.

    Raises MalformedMessage where a length does not fit into what is left.
    """
    found: dict[int, bytes] = {}
    offset = 0
    end = len(raw)
    unpack = _HEADER.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(raw, offset)
        if length < 4 or offset + length > end:
            raise MalformedMessage(
                "a netlink attribute", f"length {length} at offset {offset} of {end} bytes"
            )
        found[kind & _KIND_MASK] = raw[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found
