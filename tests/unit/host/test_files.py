# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that others write: whatever lies there, it is read whole, or refused, and soon."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.host.files import DEEPEST, MOST_BYTES, json_value, read_regular
from tests.unit.host.odd_files import pipe


def test_the_whole_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for size in (0, 1, MOST_BYTES):
        file.write_bytes(b"x" * size)
        assert read_regular(str(file)) == b"x" * size
    assert read_regular(str(file), MOST_BYTES) == b"x" * MOST_BYTES
    with pytest.raises(OSError, match=r"\b9 bytes") as caught:
        read_regular(str(file), 9)
    assert caught.value.errno == errno.EFBIG
    # What the kernel writes as it is read has no length before.
    assert read_regular("/proc/self/status").startswith(b"Name:")


def test_a_link_counts_for_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    (tmp_path / "link").symlink_to("there")
    assert read_regular(str(tmp_path / "link")) == b"x"


@pytest.mark.parametrize("kind", ["pipe", "zero", "directory", "socket", "sparse"])
def test_what_cannot_be_read_to_its_end_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "odd"
    if kind == "zero":
        file.symlink_to("/dev/zero")
    elif kind == "directory":
        file.mkdir()
    elif kind == "sparse":
        file.touch()
        os.truncate(file, 1 << 40)
    listens = socket.socket(socket.AF_UNIX)
    if kind == "socket":
        listens.bind(str(file))
    descriptors = os.listdir("/proc/self/fd")
    before = time.monotonic()
    with listens, pipe(file) if kind == "pipe" else listens:
        number = _refused(str(file))
    assert time.monotonic() - before < 1
    assert len(os.listdir("/proc/self/fd")) < len(descriptors)
    wanted = {"socket": errno.ENXIO, "sparse": errno.EFBIG, "directory": errno.EISDIR}
    assert number == wanted.get(kind, errno.EINVAL)


def _refused(file: str) -> int | None:
    try:
        read_regular(file)
    except OSError as error:
        return error.errno
    return None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**90), 10**90)
    | st.floats(allow_nan=False)
    # Half a character is none.
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner),
)


@given(JSON)
def test_what_json_says(value: Any) -> None:
    for ascii_only in (True, False):
        assert json_value(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


NO_DOCUMENTS = {
    "nothing": (b"", "JSON"),
    "half": (b"{", "JSON"),
    "latin": (b'"\xff"', "UTF-8"),
    "utf-16": (b"\xff\xfe{", "UTF-8"),
    "twice": (b'{"a": 1, "b": {"c": 1, "c": 1}}', "'c'"),
    "long and twice": (b'{"%s": 1, "%s": 1}' % ((b"x" * 10_000,) * 2), "'x+"),
    "NUL": (b'["a\\u0000b"]', "NUL"),
    "half a character as a key": (b'{"\\ud800": 1}', "NUL"),
    "half a character": (b'{"a": [1, "\\udcff"]}', "NUL"),
    "lists": (b"[" * 100_000, r"\b100\b"),
    "mappings": (b'{"a":' * 100_000, r"\b100\b"),
    "lists that end": (b"[" * 500 + b"]" * 500, r"\b100\b"),
    "digits": (b"[%s]" % (b"9" * 5_000), r"\b5000 digits"),
}


@pytest.mark.parametrize(("content", "problem"), NO_DOCUMENTS.values(), ids=list(NO_DOCUMENTS))
def test_what_is_no_document_is_refused_in_few_words(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        json_value(content)
    assert len(str(caught.value)) < 300


def test_how_deep_it_may_nest() -> None:
    for deep in (DEEPEST, DEEPEST + 1):
        text = b"[" * deep + b"{}" + b"]" * deep
        if deep > DEEPEST:
            with pytest.raises(ValueError, match=rf"\b{DEEPEST}\b"):
                json_value(text)
        else:
            assert json_value(text)


def test_garbage_takes_no_long() -> None:
    before = time.process_time()
    for content in (
        b"{" + b",".join(b'"%d":1' % (each % 99_999) for each in range(100_000)) + b"}",
        b"9" * MOST_BYTES,
        b"[" * MOST_BYTES,
    ):
        with pytest.raises(ValueError, match=r"key '|digits|\b100\b"):
            json_value(content)
    # Seconds, on the slowest machine; the square of their length took minutes.
    assert time.process_time() - before < 10
