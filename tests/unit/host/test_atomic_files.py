# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that others read while the agent writes them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from linuxnet_sockets.host.atomic_files import replace_file


def test_the_new_one_takes_the_old_ones_place(tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    replace_file(str(file), "one")
    with file.open() as reading:
        replace_file(str(file), "two", mode=0o600)
        assert reading.read() == "one"
    assert file.read_text() == "two"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_one_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    replace_file(str(file), "one")
    with pytest.raises(UnicodeEncodeError):
        replace_file(str(file), "\ud800")
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(FileNotFoundError):
        replace_file(str(tmp_path / "nowhere" / "status.json"), "x")
