# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""BTF, the kernel's description of its own types (Documentation/bpf/btf.rst).

    found = find(blob, functions=["bpf_iter_tcp"], members=[("sock_common", "skc_state")])

A type has no number in the file: its id is its position in the list of records, whose lengths
differ. So `find` counts records, and decodes only those that have one of the requested names.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import MalformedBtf

VMLINUX = "/sys/kernel/btf/vmlinux"

# include/uapi/linux/btf.h: struct btf_header, without newer fields at its end.
_HEADER = struct.Struct("=HBBIIIII")
_MAGIC = 0xEB9F
_VERSION = 1
_WORD = struct.Struct("=I")

STRUCT, FUNCTION = 4, 12  # BTF_KIND_STRUCT, BTF_KIND_FUNC

# After struct btf_type, which has 3 words, a record has this many words, and this many for each of
# the `vlen` elements of its kind.
_RECORD = 3
_EXTRA_WORDS = {1: 1, 3: 3, 14: 1, 17: 1}  # INT, ARRAY, VAR, DECL_TAG
# STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64
_WORDS_PER_ELEMENT = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}
_LAST_KIND = 19
_MEMBER = 3


class Found(NamedTuple):
    """The type ids of functions, and the offsets of members in bytes. Missing names are left out.

    functions: by name. members: by the names of the structure and of the member.
    """

    functions: dict[str, int]
    members: dict[tuple[str, str], int]


class _Lengths(dict[int, int]):
    """The length of a record in words, by the info of its struct btf_type."""

    def __missing__(self, info: int) -> int:
        kind, elements = _kind(info), info & 0xFFFF
        if not 0 < kind <= _LAST_KIND:
            raise MalformedBtf(f"a type of the unknown kind {kind}")
        length = _RECORD + _EXTRA_WORDS.get(kind, 0) + elements * _WORDS_PER_ELEMENT.get(kind, 0)
        self[info] = length
        return length


def find(blob: bytes, functions: Sequence[str], members: Sequence[tuple[str, str]]) -> Found:
    """Find functions, and members of structures, by name. Raises MalformedBtf.

    Members of an anonymous structure or union inside the structure are not found.
    """
    types, strings = _sections(blob)
    words = array("I")
    if words.itemsize != _WORD.size:
        raise MalformedBtf("this machine has no integers of 32 bits")
    words.frombytes(types)
    # The name and kind that each candidate, a position in words, would have.
    wanted: dict[int, str] = {}
    for name in functions:
        wanted.update(dict.fromkeys(_candidates(types, strings, name, FUNCTION), name))
    for name in dict.fromkeys(structure for structure, _member in members):
        wanted.update(dict.fromkeys(_candidates(types, strings, name, STRUCT), name))
    found = Found({}, {})
    for position, number in _true_records(words, sorted(wanted)):
        name = wanted[position]
        if _kind(words[position + 1]) == FUNCTION:
            found.functions.setdefault(name, number)
            continue
        for structure, member in members:
            if structure == name:
                offset = _member_offset(words, strings, position, member)
                if offset is not None:
                    found.members.setdefault((structure, member), offset)
    return found


def _kind(info: int) -> int:
    return info >> 24 & 0x1F


def _sections(blob: bytes) -> tuple[bytes, bytes]:
    """The records of types, and the strings."""
    if len(blob) < _HEADER.size:
        raise MalformedBtf("it is shorter than its header")
    magic, version, _flags, size, type_at, type_size, string_at, string_size = _HEADER.unpack_from(
        blob
    )
    if magic != _MAGIC:
        raise MalformedBtf(f"it starts with {magic:#06x}, not {_MAGIC:#06x}")
    if version != _VERSION:
        raise MalformedBtf(f"its version is {version}, not {_VERSION}")
    if size < _HEADER.size or size + max(type_at + type_size, string_at + string_size) > len(blob):
        raise MalformedBtf("its sections end after the file")
    if type_size % _WORD.size:
        raise MalformedBtf("its types end in the middle of a word")
    types = blob[size + type_at : size + type_at + type_size]
    strings = blob[size + string_at : size + string_at + string_size]
    if strings[:1] != b"\0" or strings[-1:] != b"\0":
        raise MalformedBtf("its strings do not start and end with NUL")
    return types, strings


def _name_offsets(strings: bytes, name: str) -> Iterator[int]:
    wanted = b"\0%s\0" % name.encode("ascii")
    start = strings.find(wanted)
    while start >= 0:
        yield start + 1
        start = strings.find(wanted, start + 1)


def _candidates(types: bytes, strings: bytes, name: str, kind: int) -> Iterator[int]:
    """The positions, in words, of what may be a record of this name and kind."""
    for name_offset in _name_offsets(strings, name):
        pattern = _WORD.pack(name_offset)
        start = types.find(pattern)
        while 0 <= start <= len(types) - _RECORD * _WORD.size:
            position, rest = divmod(start, _WORD.size)
            if not rest and _kind(_WORD.unpack_from(types, start + _WORD.size)[0]) == kind:
                yield position
            start = types.find(pattern, start + 1)


def _true_records(words: array[int], candidates: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Those candidates at which a record starts, each with its type id."""
    # 130,000 records pass through here.
    lengths = _Lengths()
    position, number = 0, 1
    try:
        for candidate in candidates:
            while position < candidate:
                position += lengths[words[position + 1]]
                number += 1
            if position == candidate:
                yield position, number
    except IndexError:
        raise MalformedBtf("a type ends after the last one") from None


def _member_offset(words: array[int], strings: bytes, position: int, name: str) -> int | None:
    """The offset of a member in bytes; None: no such member, or a bit field."""
    info = words[position + 1]
    names = frozenset(_name_offsets(strings, name))
    first = position + _RECORD
    end = first + (info & 0xFFFF) * _MEMBER
    if end > len(words):
        raise MalformedBtf("a structure ends after the last type")
    for at in range(first, end, _MEMBER):
        if words[at] in names:
            bits = words[at + 2]
            if info >> 31:
                # kind_flag: the upper eight bits are the size of a bit field.
                if bits >> 24:
                    return None
                bits &= 0xFFFFFF
            return None if bits % 8 else bits // 8
    return None
