# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The BTF parser, on synthetic files and on damaged ones."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.bpf import btf, socket_destroy
from linuxnet_sockets.errors import MalformedBtf

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT = range(9, 17)
DECL_TAG, TYPE_TAG, ENUM64 = 17, 18, 19

# Words after struct btf_type (include/uapi/linux/btf.h): fixed, and for each element.
FIXED = {INT: 1, ARRAY: 3, VAR: 1, DECL_TAG: 1}
EACH = {STRUCT: 3, UNION: 3, ENUM: 2, FUNC_PROTO: 2, DATASEC: 3, ENUM64: 3}


class Writer:
    """Writes BTF."""

    def __init__(self) -> None:
        self.types = b""
        self.strings = b"\0"
        self.count = 0

    def name(self, text: str) -> int:
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(
        self, kind: int, name: int = 0, elements: int = 0, rest: Sequence[int] = (), flag: int = 0
    ) -> int:
        """Add a type. rest: the words after struct btf_type; zeros by default."""
        words = FIXED.get(kind, 0) + EACH.get(kind, 0) * elements
        rest = rest or [0] * words
        assert len(rest) == words
        info = flag << 31 | kind << 24 | elements
        self.types += struct.pack(f"={3 + words}I", name, info, 0, *rest)
        self.count += 1
        return self.count

    def blob(self, header: int = 24, magic: int = 0xEB9F, version: int = 1) -> bytes:
        sizes = (0, len(self.types), len(self.types), len(self.strings))
        start = struct.pack("=HBBIIIII", magic, version, 0, header, *sizes)
        return start.ljust(header, b"\xff") + self.types + self.strings


def kernel(*, flag: int = 1) -> tuple[bytes, dict[str, int]]:
    """BTF with everything that engine bpf needs, between other types, and the ids."""
    writer = Writer()
    for kind in range(INT, ENUM64 + 1):
        writer.add(kind, writer.name(f"other_{kind}"), 2 if kind in EACH else 0)
    names = {name: writer.name(name) for name in ("skc_cookie", "skc_state", "bpf_sock_destroy")}
    # A word that looks like the start of the function's record.
    writer.add(ENUM, 0, 2, [names["bpf_sock_destroy"], FUNC << 24, names["bpf_sock_destroy"], 0])
    ids = {"bpf_sock_destroy": writer.add(FUNC, names["bpf_sock_destroy"], 1)}
    # A type of the same name that is no structure.
    common = writer.name("sock_common")
    writer.add(TYPEDEF, common)
    members = [names["skc_state"], 7, 18 * 8, names["skc_cookie"], 7, 88 * 8]
    writer.add(STRUCT, common, 2, members, flag)
    for name in ("bpf_iter_tcp", "bpf_iter_udp"):
        ids[name] = writer.add(FUNC, writer.name(name))
    writer.add(DATASEC, 0, 65_535)
    return writer.blob(), ids


@pytest.mark.parametrize("flag", [0, 1], ids=["offsets", "bit-field-offsets"])
def test_ids_and_offsets(flag: int) -> None:
    blob, ids = kernel(flag=flag)
    types = socket_destroy.types_in(blob)
    assert types == socket_destroy.Types(
        {"tcp": ids["bpf_iter_tcp"], "udp": ids["bpf_iter_udp"]}, ids["bpf_sock_destroy"], 88, 18
    )


def test_header_may_be_longer() -> None:
    writer = Writer()
    number = writer.add(FUNC, writer.name("f"))
    assert btf.find(writer.blob(header=40), ["f"], []).functions == {"f": number}


def test_names_that_are_missing_are_left_out() -> None:
    writer = Writer()
    writer.add(STRUCT, writer.name("s"), 1, [writer.name("member"), 1, 0])
    found = btf.find(writer.blob(), ["f"], [("s", "other"), ("t", "member")])
    assert found == ({}, {})
    assert socket_destroy.types_in(writer.blob()) is None


@pytest.mark.parametrize(
    ("bits", "flag", "offset"),
    [(24, 0, 3), (3, 0, None), (1 << 24 | 24, 1, None), (24, 1, 3)],
    ids=["byte", "bit", "bit field", "no bit field"],
)
def test_offset_of_a_member(bits: int, flag: int, offset: int | None) -> None:
    writer = Writer()
    writer.add(STRUCT, writer.name("s"), 1, [writer.name("member"), 1, bits], flag)
    found = btf.find(writer.blob(), [], [("s", "member")]).members
    assert found == ({} if offset is None else {("s", "member"): offset})


@pytest.mark.parametrize("kind", [0, 20, 31])
def test_unknown_kind(kind: int) -> None:
    writer = Writer()
    writer.add(kind)
    writer.add(FUNC, writer.name("f"))
    with pytest.raises(MalformedBtf, match=f"kind {kind}"):
        btf.find(writer.blob(), ["f"], [])


@pytest.mark.parametrize(
    "damage",
    [
        lambda _blob: b"",
        lambda blob: blob[:20],
        lambda blob: b"\x9f\xeb"[::-1] + blob[2:],
        lambda blob: blob[:2] + b"\2" + blob[3:],
        lambda blob: blob[:-1],
        lambda blob: blob[:12] + struct.pack("=I", 1 << 31) + blob[16:],
        lambda blob: blob[:12] + struct.pack("=I", 13) + blob[16:],
        lambda blob: blob[:4] + struct.pack("=I", 8) + blob[8:],
        lambda blob: blob[:-1] + b"x",
    ],
    ids=[
        "empty",
        "short header",
        "other byte order",
        "version",
        "short",
        "long types",
        "half a word",
        "header size",
        "unfinished string",
    ],
)
def test_damaged_file(damage: object) -> None:
    assert callable(damage)
    with pytest.raises(MalformedBtf):
        socket_destroy.types_in(damage(kernel()[0]))


def test_last_record_is_cut_off() -> None:
    writer = Writer()
    name, member = writer.name("s"), writer.name("member")
    writer.add(STRUCT, name, 1, [member, 1, 8])
    writer.types = writer.types[:-4]
    with pytest.raises(MalformedBtf):
        btf.find(writer.blob(), [], [("s", "member")])


@given(st.binary(max_size=400))
def test_any_bytes(content: bytes) -> None:
    """Bytes behind a valid header give types, none, or a typed error."""
    writer = Writer()
    writer.types = content[: len(content) // 4 * 4]
    writer.strings += b"bpf_sock_destroy\0sock_common\0skc_state\0skc_cookie\0"
    for blob in (content, writer.blob()):
        with contextlib.suppress(MalformedBtf):
            socket_destroy.types_in(blob)


KERNEL = kernel()[0]


@given(st.data())
def test_one_changed_word(data: st.DataObject) -> None:
    blob = bytearray(KERNEL)
    at = data.draw(st.integers(0, 100)) * 4
    blob[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    with contextlib.suppress(MalformedBtf):
        socket_destroy.types_in(bytes(blob))


@given(
    st.lists(
        st.tuples(
            st.integers(INT, ENUM64),
            st.integers(0, 9),
            st.sampled_from(["", "a", "b", "sock_common"]),
        ),
        max_size=40,
    )
)
def test_ids_count_all_records(types: list[tuple[int, int, str]]) -> None:
    writer = Writer()
    expected: dict[str, int] = {}
    names = {name: writer.name(name) if name else 0 for name in ("", "a", "b", "sock_common")}
    for kind, elements, name in types:
        number = writer.add(kind, names[name], elements if kind in EACH else 0)
        if kind == FUNC and name:
            expected.setdefault(name, number)
    assert btf.find(writer.blob(), ["a", "b", "sock_common"], []).functions == expected
