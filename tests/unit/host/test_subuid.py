# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subordinate uids belong to their user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from linuxnet_sockets.host.subuid import SubordinateUids


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "subuid"


def uids(file: Path) -> SubordinateUids:
    return SubordinateUids({"alice": 1500, "bob": 1501}.get, str(file))


def test_ranges_belong_to_their_users(file: Path) -> None:
    file.write_text("bob:165536:65536\nalice:100000:65536\n1502:300000:10\nnobody:400000:10\n")
    user_of = uids(file).current()
    assert user_of(1500) == 1500
    assert [user_of(uid) for uid in (99_999, 100_000, 165_535)] == [99_999, 1500, 1500]
    assert [user_of(uid) for uid in (165_536, 231_071, 231_072)] == [1501, 1501, 231_072]
    assert user_of(300_009) == 1502
    # A user who does not exist: still one user.
    assert [user_of(uid) for uid in (400_000, 400_009)] == [400_000, 400_000]


def test_file_is_read_again_after_a_change(file: Path) -> None:
    found = uids(file)
    assert found.current()(100_001) == 100_001
    file.write_text("alice:100000:65536\n")
    assert found.current()(100_001) == 1500
    file.unlink()
    assert found.current()(100_001) == 100_001


@pytest.mark.parametrize(
    "line",
    ["", ":", "alice", "alice:1", "alice:a:b", "alice:-1:5", ":1:5", "alice:5:0", "alice:²:9"]
    + ["alice:99999999999:1", "alice:5000000000:9", "alice:1:2:3", "\0\xff"],
)
def test_invalid_lines_are_skipped(file: Path, line: str) -> None:
    file.write_text(f"{line}\nbob:165536:65536\n", encoding="latin-1")
    user_of = uids(file).current()
    assert [user_of(uid) for uid in (1, 5, 165_536)] == [1, 5, 1501]


def test_pipe_is_not_read(file: Path) -> None:
    os.mkfifo(file)
    assert uids(file).current()(165_536) == 165_536
