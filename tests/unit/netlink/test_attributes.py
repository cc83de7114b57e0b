# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink attributes: encode, and parse any bytes into attributes or a typed error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.errors import MalformedMessage
from linuxnet_sockets.netlink import attributes

_KINDS = st.integers(0, 0x3FFF)


@given(st.dictionaries(_KINDS, st.binary(max_size=300), max_size=8))
def test_parse_reverses_encode(values: dict[int, bytes]) -> None:
    raw = b"".join(attributes.encode(kind, value) for kind, value in values.items())
    assert len(raw) % 4 == 0
    assert attributes.parse(raw) == values


@given(_KINDS, st.binary(max_size=40), st.sampled_from([0x4000, 0x8000]))
def test_type_excludes_flags(kind: int, value: bytes, flag: int) -> None:
    assert attributes.parse(attributes.encode(kind | flag, value)) == {kind: value}


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_raise(raw: bytes) -> None:
    """The parsed values do not overlap and lie inside the bytes."""
    try:
        found = attributes.parse(raw)
    except MalformedMessage:
        return
    assert sum(4 + len(value) for value in found.values()) <= len(raw)
    assert all(value in raw for value in found.values())


@pytest.mark.parametrize("length", [0, 1, 3, 9, 0xFFFF])
def test_invalid_length_is_malformed(length: int) -> None:
    with pytest.raises(MalformedMessage):
        attributes.parse(struct.pack("=HH", length, 1) + bytes(4))


def test_last_of_two_attributes_counts() -> None:
    raw = attributes.encode(1, b"one") + attributes.encode(2, b"") + attributes.encode(1, b"three")
    assert attributes.parse(raw) == {1: b"three", 2: b""}


def test_largest_value() -> None:
    value = bytes(attributes.MAX_VALUE)
    assert attributes.parse(attributes.encode(1, value)) == {1: value}
    with pytest.raises(struct.error):
        attributes.encode(1, value + b"x")
