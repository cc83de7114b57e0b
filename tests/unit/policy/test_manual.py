# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide to policies matches the code."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import jsonschema
import pytest
import yaml

from linuxnet_sockets.policy import backoff, model
from linuxnet_sockets.policy.budget import MAX_KEYS
from linuxnet_sockets.policy.conditions import parse_condition
from linuxnet_sockets.policy.parse import parse_policy
from linuxnet_sockets.policy.schema.policy import SCHEMA
from linuxnet_sockets.policy.unenforced import BACK_OFF_AFTER_MS, PROTECTED_AFTER_MS, REASONS
from tests.support.policy_documents import PolicyNames

_PAGE = Path(__file__).parents[3] / "docs" / "docsite" / "rst" / "policy.rst"
_TEXT = _PAGE.read_text(encoding="utf-8")
_BLOCKS = [
    yaml.safe_load(textwrap.dedent(block))
    for block in re.findall(r"code-block:: yaml\n\n(.*?)\n\n\S", _TEXT, re.DOTALL)
]


def test_examples_are_valid_for_schema_and_parser() -> None:
    assert len(_BLOCKS) == _TEXT.count("code-block:: yaml\n")
    policy, (task, _shown), condition, kind, limits = _BLOCKS
    assert set(task["linuxnet.sockets.socket_policy"]) == {"src"}
    jsonschema.Draft7Validator(SCHEMA).validate(policy)
    found = parse_policy(policy, names=PolicyNames(), files=None)
    assert found.warnings == ()
    assert len(found.rules) == 4
    for each in (condition, kind):
        parse_condition(each["while"], ())
    limited = {**policy, **limits}
    jsonschema.Draft7Validator(SCHEMA).validate(limited)
    assert parse_policy(limited, names=PolicyNames(), files=None).limits.total == 5000


@pytest.mark.parametrize("place", [SCHEMA, SCHEMA["definitions"]["rule"]])
def test_every_key_is_documented(place: dict[str, dict[str, object]]) -> None:
    for key in place["properties"]:
        assert f"  * - ``{key}``\n" in _TEXT


def test_numbers_match_code() -> None:
    assert model.DEFAULT_HOLD_MS == 2_000
    assert model.DEFAULT_ENGINE == "netlink"
    assert (PROTECTED_AFTER_MS, BACK_OFF_AFTER_MS) == (300_000, 60_000)
    guide = " ".join(_PAGE.with_name("agent.rst").read_text(encoding="utf-8").split())
    for reason in REASONS:
        assert f"``{reason}``" in guide
    assert "more than five minutes" in guide
    assert "more than a minute" in guide
    assert "``2s``" in _TEXT
    assert (model.DEFAULT_PER_MS, model.MODES[0]) == (60_000, "enforce")
    assert (backoff.FREE_ATTEMPTS, backoff.MAX_DELAY_MS) == (3, 300_000)
    words = " ".join(_TEXT.split())
    assert (model.TOTAL_FACTOR, MAX_KEYS) == (10, 1_024)
    numbers = ("third", "five minutes", "ten minutes", "ten times ``max_sockets``", "1,024 rules")
    for number in numbers:
        assert number in words
