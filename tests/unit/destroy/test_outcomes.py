# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The closed list of outcomes."""

from __future__ import annotations

from pathlib import Path

from linuxnet_sockets.destroy import outcomes

MANUAL = Path(__file__).parents[3] / "docs" / "docsite" / "rst" / "outcomes.rst"


def test_closed_list() -> None:
    assert outcomes.OUTCOMES == (
        "destroyed",
        "disconnected",
        "already_gone",
        "survived",
        "protected",
        "unsupported_protocol",
        "kernel_without_destroy",
        "kernel_defect",
        "busy",
        "not_permitted",
        "limit",
    )


def test_outcomes_that_change_and_that_fail() -> None:
    assert {"destroyed", "disconnected"} == outcomes.CHANGING
    assert {
        "survived",
        "busy",
        "not_permitted",
        "unsupported_protocol",
        "kernel_without_destroy",
        "limit",
    } == outcomes.FAILING


def test_manual_explains_each_outcome() -> None:
    text = MANUAL.read_text()
    assert [name for name in outcomes.OUTCOMES if f"``{name}``" not in text] == []
