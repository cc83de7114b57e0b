# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user ids that may be that of root."""

from __future__ import annotations

from pathlib import Path

import pytest

from linuxnet_sockets.host.user_ids import root_ids

ALL = "         0          0 4294967295\n"
ONE = "         0       1000          1\n"


@pytest.mark.parametrize(
    ("uid_map", "overflow", "ids"),
    [
        (ALL, "65534\n", {0}),
        (ONE, "65534\n", {0, 65534}),
        (ONE, "65533\n", {0, 65533}),
        (ONE, None, {0, 65534}),
        (ONE, "nonsense", {0, 65534}),
        (None, "65534\n", {0}),
    ],
)
def test_root_ids(tmp_path: Path, uid_map: str | None, overflow: str | None, ids: set[int]) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "sys" / "kernel").mkdir(parents=True)
    for name, text in (("self/uid_map", uid_map), ("sys/kernel/overflowuid", overflow)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert root_ids(str(tmp_path)) == ids
