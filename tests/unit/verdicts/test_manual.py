# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page on verdicts in the manual agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path

from linuxnet_sockets.values import parse_duration_ms
from linuxnet_sockets.verdicts.stranded import STRANDED
from linuxnet_sockets.verdicts.stuck import DEFAULT_FOR_MS, PROVABLE_MS, STUCK

_PAGE = Path(__file__).parents[3] / "docs" / "docsite" / "rst" / "verdicts.rst"
_TEXT = _PAGE.read_text(encoding="utf-8")


def test_table_has_each_stuck_verdict_with_its_duration() -> None:
    rows = re.findall(r"^  \* - ``(\w+)``\n    - (\d+ \w+)$", _TEXT, re.MULTILINE)
    times = {name: time.replace(" ", "").replace("min", "m") for name, time in rows}

    assert list(times) == list(STUCK)
    assert {name: parse_duration_ms(time, ()) for name, time in times.items()} == DEFAULT_FOR_MS


def test_each_stranded_verdict_is_described() -> None:
    described = set(re.findall(r"^  \* - ``(\w+)``$", _TEXT, re.MULTILINE))

    assert set(STRANDED) <= described


def test_provable_duration_is_documented() -> None:
    assert f"proven for {PROVABLE_MS['zero_window'] // 60_000} minutes" in _TEXT
