# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounded reads, strict JSON and atomic writes."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.host.files import (
    MAX_BYTES,
    MAX_DEPTH,
    parse_json,
    read_regular_file,
    write_atomic,
)
from tests.support.named_pipes import pipe


def test_read_returns_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for size in (0, 1, MAX_BYTES):
        file.write_bytes(b"x" * size)
        assert read_regular_file(str(file)) == b"x" * size
    assert read_regular_file(str(file), MAX_BYTES) == b"x" * MAX_BYTES
    with pytest.raises(OSError, match=r"\b9 bytes") as caught:
        read_regular_file(str(file), 9)
    assert caught.value.errno == errno.EFBIG
    # procfs files report a size of 0.
    assert read_regular_file("/proc/self/status").startswith(b"Name:")


def test_read_follows_symlinks(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    (tmp_path / "link").symlink_to("there")
    assert read_regular_file(str(tmp_path / "link")) == b"x"


@pytest.mark.parametrize("kind", ["pipe", "zero", "directory", "socket", "sparse"])
def test_unreadable_file_is_rejected_at_once(tmp_path: Path, kind: str) -> None:
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
        number = _read_errno(str(file))
    assert time.monotonic() - before < 1
    assert len(os.listdir("/proc/self/fd")) < len(descriptors)
    wanted = {"socket": errno.ENXIO, "sparse": errno.EFBIG, "directory": errno.EISDIR}
    assert number == wanted.get(kind, errno.EINVAL)


def _read_errno(file: str) -> int | None:
    try:
        read_regular_file(file)
    except OSError as error:
        return error.errno
    return None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**90), 10**90)
    | st.floats(allow_nan=False)
    # An unpaired surrogate is not a character.
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner),
)


@given(JSON)
def test_parse_agrees_with_json_dumps(value: Any) -> None:
    for ascii_only in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


INVALID_JSON = {
    "empty": (b"", "JSON"),
    "truncated": (b"{", "JSON"),
    "latin": (b'"\xff"', "UTF-8"),
    "utf-16": (b"\xff\xfe{", "UTF-8"),
    "twice": (b'{"a": 1, "b": {"c": 1, "c": 1}}', "'c'"),
    "long and twice": (b'{"%s": 1, "%s": 1}' % ((b"x" * 10_000,) * 2), "'x+"),
    "NUL": (b'["a\\u0000b"]', "NUL"),
    "surrogate as a key": (b'{"\\ud800": 1}', "NUL"),
    "surrogate": (b'{"a": [1, "\\udcff"]}', "NUL"),
    "lists": (b"[" * 100_000, r"\b100\b"),
    "mappings": (b'{"a":' * 100_000, r"\b100\b"),
    "closed lists": (b"[" * 500 + b"]" * 500, r"\b100\b"),
    "digits": (b"[%s]" % (b"9" * 5_000), r"\b5000 digits"),
}


@pytest.mark.parametrize(("content", "problem"), INVALID_JSON.values(), ids=list(INVALID_JSON))
def test_invalid_json_is_rejected_with_a_short_message(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse_json(content)
    assert len(str(caught.value)) < 300


def test_nesting_is_limited() -> None:
    for deep in (MAX_DEPTH, MAX_DEPTH + 1):
        text = b"[" * deep + b"{}" + b"]" * deep
        if deep > MAX_DEPTH:
            with pytest.raises(ValueError, match=rf"\b{MAX_DEPTH}\b"):
                parse_json(text)
        else:
            assert parse_json(text)


def test_garbage_is_rejected_quickly() -> None:
    before = time.process_time()
    for content in (
        b"{" + b",".join(b'"%d":1' % (each % 99_999) for each in range(100_000)) + b"}",
        b"9" * MAX_BYTES,
        b"[" * MAX_BYTES,
    ):
        with pytest.raises(ValueError, match=r"key '|digits|\b100\b"):
            parse_json(content)
    # Seconds on the slowest machine. Quadratic parsing took minutes.
    assert time.process_time() - before < 10


def test_write_replaces_the_file(tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    write_atomic(str(file), "one")
    with file.open() as reading:
        write_atomic(str(file), "two", mode=0o600)
        assert reading.read() == "one"
    assert file.read_text() == "two"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    write_atomic(str(file), "one")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with patch.object(os, "fchmod", side_effect=full), pytest.raises(OSError, match="space"):
        write_atomic(str(file), "two")
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]
    missing = str(tmp_path / "nowhere" / "status.json")
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(missing, "x")
    assert caught.value.filename == missing
