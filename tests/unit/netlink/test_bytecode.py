# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Socket filters: assembled programs pass the kernel's audit and match their definition."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.errors import BytecodeTooLong
from linuxnet_sockets.netlink import bytecode
from tests.support.fake_kernel import bytecode as kernel
from tests.support.fake_kernel.bytecode import Entry

_PORTS = st.integers(0, 65535)
_FEW_PORTS = st.sampled_from([0, 1, 22, 443, 65535])
_ADDRESSES = st.sampled_from(
    [
        (socket.AF_INET, bytes([192, 0, 2, 1])),
        (socket.AF_INET, bytes([192, 0, 2, 129])),
        (socket.AF_INET, bytes(4)),
        (socket.AF_INET6, bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1])),
        (socket.AF_INET6, b"\x20\x01\x0d\xb8" + bytes(11) + b"\1"),
        (socket.AF_INET6, bytes(16)),
    ]
)


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    family, src = draw(_ADDRESSES)
    dst = draw(_ADDRESSES.filter(lambda pair: pair[0] == family))[1]
    return Entry(
        family=family,
        src=src.ljust(16, b"\0"),
        dst=dst.ljust(16, b"\0"),
        sport=draw(_FEW_PORTS),
        dport=draw(_FEW_PORTS),
        autobound=draw(st.booleans()),
        ifindex=draw(st.integers(0, 2)),
        mark=draw(st.integers(0, 3)),
        cgroup=draw(st.integers(0, 2)),
    )


Test = Callable[[Entry], bool]


def _in_prefix(entry: Entry, own: bytes, family: int, address: bytes, length: int) -> bool:
    if entry.family != family:
        mapped = bytes(10) + b"\xff\xff"
        if family != socket.AF_INET or own[:12] != mapped:
            return False
        own = own[12:]
    bits = "".join(f"{byte:08b}" for byte in own)
    prefix = "".join(f"{byte:08b}" for byte in address)
    return bits[:length] == prefix[:length]


@st.composite
def _hosts(draw: st.DrawFn) -> tuple[bytes, Test]:
    family, address = draw(_ADDRESSES)
    length = draw(st.integers(0, len(address) * 8))
    port = draw(st.one_of(st.just(-1), _FEW_PORTS))
    if draw(st.booleans()):
        return (
            bytecode.src_host(family, length, address, port),
            lambda entry: (
                port in (-1, entry.sport) and _in_prefix(entry, entry.src, family, address, length)
            ),
        )
    return (
        bytecode.dst_host(family, length, address, port),
        lambda entry: (
            port in (-1, entry.dport) and _in_prefix(entry, entry.dst, family, address, length)
        ),
    )


def _leaf(assemble: Callable[..., bytes], matches: Callable[..., bool], *values: Any) -> Any:
    return st.tuples(*values).map(
        lambda drawn: (assemble(*drawn), lambda entry: matches(entry, *drawn))
    )


_LEAVES = st.one_of(
    st.just((bytecode.ACCEPT, lambda _entry: True)),
    st.just((bytecode.REJECT, lambda _entry: False)),
    _leaf(bytecode.sport_ge, lambda entry, port: entry.sport >= port, _FEW_PORTS),
    _leaf(bytecode.sport_le, lambda entry, port: entry.sport <= port, _FEW_PORTS),
    _leaf(bytecode.dport_ge, lambda entry, port: entry.dport >= port, _FEW_PORTS),
    _leaf(bytecode.dport_le, lambda entry, port: entry.dport <= port, _FEW_PORTS),
    _leaf(bytecode.sport_eq, lambda entry, port: entry.sport == port, _FEW_PORTS),
    _leaf(bytecode.dport_eq, lambda entry, port: entry.dport == port, _FEW_PORTS),
    _FEW_PORTS.map(
        lambda port: (bytecode.sport_eq(port, exact=False), lambda entry: entry.sport == port)
    ),
    _FEW_PORTS.map(
        lambda port: (bytecode.dport_eq(port, exact=False), lambda entry: entry.dport == port)
    ),
    _leaf(bytecode.auto, lambda entry: entry.autobound),
    _leaf(bytecode.device, lambda entry, index: entry.ifindex == index, st.integers(0, 2)),
    _leaf(
        bytecode.mark,
        lambda entry, value, mask: entry.mark & mask == value,
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    _leaf(bytecode.cgroup, lambda entry, group: entry.cgroup == group, st.integers(0, 2)),
    _hosts(),
)


def _combined(children: Any) -> Any:
    several = st.lists(children, max_size=4)
    return st.one_of(
        several.map(
            lambda drawn: (
                bytecode.conjunction([block for block, _test in drawn]),
                lambda entry: all(test(entry) for _block, test in drawn),
            )
        ),
        several.map(
            lambda drawn: (
                bytecode.disjunction([block for block, _test in drawn]),
                lambda entry: any(test(entry) for _block, test in drawn),
            )
        ),
        children.map(
            lambda drawn: (
                bytecode.negation(drawn[0]),
                lambda entry: not drawn[1](entry),
            )
        ),
    )


_TREES = st.recursive(_LEAVES, _combined, max_leaves=12)


@given(_TREES, st.lists(_entries(), min_size=1, max_size=6))
def test_filters_match_their_definition(tree: tuple[bytes, Test], entries: list[Entry]) -> None:
    block, test = tree
    if not block:
        # An empty program is sent as no filter.
        assert all(test(entry) for entry in entries)
        return
    assert kernel.audit(block) == 0
    assert [kernel.run(block, entry) for entry in entries] == [test(entry) for entry in entries]


@given(_TREES)
def test_inexact_filters_pass_audit_of_old_kernels(tree: tuple[bytes, Test]) -> None:
    block, _test = tree
    unknown = frozenset({kernel.S_EQ, kernel.D_EQ, kernel.CGROUP_COND})
    uses = bool(unknown & set(_codes(block)))
    if block:
        assert bool(kernel.audit(block, unknown=unknown)) == uses


def _codes(block: bytes) -> list[int]:
    codes, offset = [], 0
    while offset < len(block):
        codes.append(block[offset])
        offset += block[offset + 1]
    return codes


@pytest.mark.parametrize("exact", [True, False])
def test_equality_with_and_without_exact_ops(exact: bool) -> None:
    for block in (bytecode.sport_eq(22, exact=exact), bytecode.dport_eq(22, exact=exact)):
        found = set(_codes(block))
        assert found.isdisjoint({kernel.S_EQ, kernel.D_EQ}) != exact


def test_mark_needs_privilege() -> None:
    assert kernel.audit(bytecode.mark(1, 1), privileged=False) == 1
    assert kernel.audit(bytecode.sport_ge(1), privileged=False) == 0


@pytest.mark.parametrize("combine", [bytecode.conjunction, bytecode.disjunction])
def test_largest_program_fits_attribute(combine: Callable[[list[bytes]], bytes]) -> None:
    """Jumps and the attribute's length are u16: one block more than the largest is rejected."""
    block = bytecode.dst_host(socket.AF_INET, 32, bytes([10, 0, 0, 1]))
    glue = 0 if combine is bytecode.conjunction else 4
    count = (bytecode.MAX_LENGTH + glue) // (len(block) + glue)
    program = combine([block] * count)
    assert kernel.audit(program) == 0
    hit = Entry(socket.AF_INET, bytes(16), bytes([10, 0, 0, 1]).ljust(16, b"\0"), 1, 1)
    assert kernel.run(program, hit)
    assert not kernel.run(program, hit._replace(dst=bytes(16)))
    with pytest.raises(BytecodeTooLong) as caught:
        combine([block] * (count + 1))
    assert caught.value.length > caught.value.limit == bytecode.MAX_LENGTH


def test_too_long_negation_is_rejected() -> None:
    block = bytecode.conjunction([bytecode.auto()] * (bytecode.MAX_LENGTH // 4))
    assert len(block) == bytecode.MAX_LENGTH
    with pytest.raises(BytecodeTooLong):
        bytecode.negation(block)


@given(_PORTS)
def test_equality_with_every_port(port: int) -> None:
    entry = Entry(socket.AF_INET, bytes(16), bytes(16), port, 65535 - port)
    assert kernel.run(bytecode.sport_eq(port), entry)
    assert kernel.run(bytecode.dport_eq(65535 - port), entry)


@given(st.binary(max_size=64))
def test_audited_bytes_can_run(program: bytes) -> None:
    entry = Entry(socket.AF_INET, bytes(16), bytes(16), 1, 2)
    if kernel.audit(program) == 0:
        assert kernel.run(program, entry) in (True, False)


def test_block_layout() -> None:
    assert bytecode.dport_ge(443) == struct.pack("=BBHBBH", 4, 8, 12, 0, 0, 443)
    assert bytecode.mark(1, 3) == struct.pack("=BBHII", 10, 12, 16, 1, 3)
    assert bytecode.src_host(2, 24, bytes([192, 0, 2, 0]), 80) == struct.pack(
        "=BBHBBxxi4s", 7, 16, 20, 2, 24, 80, bytes([192, 0, 2, 0])
    )
