# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink attributes: any bytes in, attributes or a typed error out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.errors import MalformedMessage
from linuxnet_sockets.netlink import attributes

_KINDS = st.integers(0, 0x3FFF)


@given(st.dictionaries(_KINDS, st.binary(max_size=300), max_size=8))
def test_what_was_encoded_is_parsed(values: dict[int, bytes]) -> None:
    raw = b"".join(attributes.encode(kind, value) for kind, value in values.items())
    assert len(raw) % 4 == 0
    assert attributes.parse(raw) == values


@given(_KINDS, st.binary(max_size=40), st.sampled_from([0x4000, 0x8000]))
def test_flags_are_no_part_of_the_type(kind: int, value: bytes, flag: int) -> None:
    assert attributes.parse(attributes.encode(kind | flag, value)) == {kind: value}


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    """Whatever is found lies inside the bytes, one after the other."""
    try:
        found = attributes.parse(raw)
    except MalformedMessage:
        return
    assert sum(4 + len(value) for value in found.values()) <= len(raw)
    assert all(value in raw for value in found.values())


@pytest.mark.parametrize("length", [0, 1, 3, 9, 0xFFFF])
def test_a_length_that_does_not_fit(length: int) -> None:
    with pytest.raises(MalformedMessage):
        attributes.parse(struct.pack("=HH", length, 1) + bytes(4))


def test_of_two_the_last_counts() -> None:
    raw = attributes.encode(1, b"one") + attributes.encode(2, b"") + attributes.encode(1, b"three")
    assert attributes.parse(raw) == {1: b"three", 2: b""}


def test_the_largest() -> None:
    value = bytes(attributes.MAX_VALUE)
    assert attributes.parse(attributes.encode(1, value)) == {1: value}
    with pytest.raises(struct.error):
        attributes.encode(1, value + b"x")
