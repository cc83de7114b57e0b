# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of keys, and the texts that must agree with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.netlink import constants
from linuxnet_sockets.policy.schema.selector import SELECTOR
from linuxnet_sockets.selector import tree
from linuxnet_sockets.selector.keys import COMBINATORS, KEYS
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.selector.predicates.numeric import QUANTITIES
from linuxnet_sockets.selector.predicates.socket import ProtocolIs
from tests.support.sample_sockets import SampleNames

FRAGMENT = Path(__file__).parents[3] / "plugins" / "doc_fragments" / "selector.py"
DOCUMENTED = " ".join(FRAGMENT.read_text(encoding="utf-8").split())
EXAMPLES = [(key, example) for key, entry in KEYS.items() for example in entry.examples]


class ResolvingNames(SampleNames):
    """Every user and service name exists."""

    def user_id(self, name: str) -> int:  # noqa: ARG002
        return 1000

    def service_port(self, name: str, protocol: str) -> int:  # noqa: ARG002
        return 443


@pytest.mark.parametrize(("key", "example"), EXAMPLES, ids=repr)
def test_example_parses(key: str, example: Any) -> None:
    beside = {"local_port": 5000} if key == "superseded" else {}
    parse_selector({key: example, **beside}, names=ResolvingNames())


@pytest.mark.parametrize("key", COMBINATORS)
def test_combinator_example_parses(key: str) -> None:
    for example in COMBINATORS[key].examples:
        parse_selector({key: example}, names=ResolvingNames())


@pytest.mark.parametrize("key", [*KEYS, *COMBINATORS])
def test_key_has_description_and_example(key: str) -> None:
    entry = KEYS.get(key) or COMBINATORS[key]
    assert re.fullmatch(r"[A-Z].*\.", entry.description)
    assert entry.examples


@pytest.mark.parametrize("key", KEYS)
def test_key_accepts_mapping_only_if_the_table_says_so(key: str) -> None:
    takes_mapping = any(isinstance(example, dict) for example in KEYS[key].examples)
    assert KEYS[key].mapping == takes_mapping


def test_default_is_what_the_parser_applies() -> None:
    defaults = {key: entry.default for key, entry in KEYS.items() if entry.default is not None}
    root = parse_selector({}, names=SampleNames()).root
    applied = [node for node in tree.predicates(root) if isinstance(node, ProtocolIs)]
    assert defaults == {"protocol": "tcp"}
    assert [node.protocols for node in applied] == [{"tcp"}]


def test_schema_has_each_key_with_its_description_and_examples() -> None:
    properties = SELECTOR["properties"]
    assert list(properties) == [*KEYS, *COMBINATORS]
    for key, entry in (*KEYS.items(), *COMBINATORS.items()):
        assert properties[key]["description"].startswith(entry.description)
        assert properties[key]["examples"] == list(entry.examples)


def test_documentation_fragment_names_each_key() -> None:
    assert [key for key in (*KEYS, *COMBINATORS) if f"C({key})" not in DOCUMENTED] == []


@pytest.mark.parametrize(
    ("unit", "word"), [("size", "bytes"), ("duration", "durations"), ("count", "counts")]
)
def test_documentation_fragment_lists_the_numeric_keys_of_each_unit(unit: str, word: str) -> None:
    sentence = re.search(rf"([^.]*) are {word}[.]", DOCUMENTED)
    assert sentence is not None
    documented = re.findall(r"C\((\w+)\)", sentence[1])
    assert documented == [name for name, quantity in QUANTITIES.items() if quantity.unit == unit]


def test_documentation_fragment_names_each_protocol_family_and_state() -> None:
    names = (*constants.PROTOCOLS, *constants.FAMILIES, *constants.STATES, *constants.GROUPS)
    assert [name for name in names if f"V({name})" not in DOCUMENTED] == []
