# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page on selectors in the manual agrees with the code."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from linuxnet_sockets.netlink import constants
from linuxnet_sockets.selector.keys import KEYS
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.selector.predicates.numeric import QUANTITIES

_PAGE = Path(__file__).parents[3] / "docs" / "docsite" / "rst" / "selectors.rst"
_TEXT = _PAGE.read_text(encoding="utf-8")


class Anyone:
    """Every user exists, but no service."""

    def user_id(self, name: str) -> int | None:
        return 1000 + len(name)

    def service_port(self, name: str, protocol: str) -> int | None:  # noqa: ARG002
        return None


def _examples() -> list[Any]:
    """The selector of the playbook at the top of the page, and those of the list of examples."""
    playbook, examples = map(
        textwrap.dedent,
        re.findall(r"code-block:: yaml\+jinja\n\n(.*?)\n\n\S", _TEXT, re.DOTALL),
    )
    first_task = yaml.safe_load(playbook)[0]["tasks"][0]
    parts = examples.split("\n\n")
    return [
        first_task["linuxnet.sockets.socket_diag_info"]["match"],
        *(yaml.safe_load(part)["match"] for part in parts),
    ]


@pytest.mark.parametrize("match", _examples(), ids=repr)
def test_examples_are_accepted_for_destroy(match: Any) -> None:
    parse_selector(match, names=Anyone(), role="destroy")


def test_each_key_has_one_row() -> None:
    rows = re.findall(r"^  \* - (``.*)$", _TEXT, re.MULTILINE)
    described = [key for row in rows for key in re.findall(r"``(\w+)``", row)]
    assert sorted(described) == sorted([*KEYS, "not", "any", "all"])


def test_each_state_and_group_is_named() -> None:
    for name in (*constants.STATES, *constants.GROUPS):
        assert f"``{name}``" in _TEXT


def test_type_of_each_numeric_key() -> None:
    rows = re.findall(r"^  \* - (``.*)\n    - (\w+)$", _TEXT, re.MULTILINE)
    units = {key: unit for row, unit in rows for key in re.findall(r"``(\w+)``", row)}
    assert units == {name: quantity.unit for name, quantity in QUANTITIES.items()}
