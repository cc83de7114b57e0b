# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON Schema and the parser agree on valid policies.

The schema accepts every policy that the parser accepts. The parser also rejects names that do not
resolve, prefixes with bits beyond their length, contradictions in a rule, and keys without meaning
for a protocol.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxnet_sockets.errors import PolicyErrors
from linuxnet_sockets.policy.model import ACTIONS, MODES, ON_EXCESS, digest
from linuxnet_sockets.policy.parse import parse_policy
from linuxnet_sockets.policy.schema.policy import SCHEMA
from linuxnet_sockets.selector.keys import KEYS
from linuxnet_sockets.verdicts.stranded import STRANDED
from linuxnet_sockets.verdicts.stuck import STUCK
from tests.support.generated_selectors import selectors
from tests.support.policy_documents import document
from tests.support.sample_sockets import SampleNames
from tests.unit.policy.test_conditions import CONDITIONS

PUBLISHED = Path(__file__).parents[4] / "docs" / "docsite" / "policy.schema.json"
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
NAMES = st.from_regex(r"[a-z][a-z0-9._-]{0,20}", fullmatch=True)
DURATIONS = st.sampled_from([0, 2, 1.5, "0", "2s", "1500ms", "5min", "1h30m", "1 h", " 3S "])
MATCHES = st.sampled_from(
    [
        {"remote": "192.0.2.0/24"},
        {"remote": ["192.0.2.7:443", "[2001:db8::1]:443"], "protocol": ["tcp", "UDP"]},
        {"local": "interface:wg0", "state": "established"},
        {"local_port": [5000, "8000-8100", "https"], "superseded": {"silent_for": "5s"}},
        {"user": "1000-60000", "not": {"any": [{"local": "interface:wg0"}, {"mark": "0x1/0xff"}]}},
        {"stranded": ["address_gone", "unroutable", {"verdict": "rerouted", "to": ["wg0"]}]},
        {"stuck": {"verdict": ["close-wait", "fin_wait"], "for": "10m"}},
        {"any": [{"send_queue": ">= 1k < 1M"}, {"rtt": 1}, {"retransmits": [">3", "1"]}]},
        {"expression": "dport = :443", "pid": "77", "cgroup": "/system.slice"},
        {"state": "all", "family": "inet6"},
        {"state": ["CLOSE_WAIT", "ESTAB", "FIN_WAIT1", "time wait"], "family": ["ipv4", 6]},
        {"protocol": "udp-lite", "local": "interface:wg0:a", "device": "wg0:a", "state": "unconn"},
        {"idle": "> 5 minutes", "stuck": {"verdict": "Close Wait", "for": ">=10min"}},
        {"local_port": 1, "superseded": {"silent_for": ">30sec"}, "rtt": ">200 msec"},
    ]
)


def rules() -> st.SearchStrategy[list[dict[str, Any]]]:
    one = st.fixed_dictionaries(
        {"name": NAMES, "match": MATCHES},
        optional={
            "while": st.sampled_from(
                [
                    {"interface": "wg0", "is": "up"},
                    {"not": {"interface": "wg0", "is": "present"}},
                    {"any": [{"address": "10.0.0.1", "is": "present"}]},
                    {"all": [{"route": "default", "via": "wg0"}]},
                ]
            ),
            "hold": DURATIONS,
            "action": st.sampled_from(["destroy", "report", "Report"]),
        },
    )
    return st.lists(one, min_size=1, max_size=4, unique_by=lambda each: each["name"])


VALID = st.fixed_dictionaries(
    {
        "version": st.sampled_from([1, "1"]),
        "limits": st.fixed_dictionaries(
            {"max_sockets": st.sampled_from([1, 500, "500"])},
            optional={
                "per": st.sampled_from([1, "10s", "1h"]),
                "on_excess": st.sampled_from(["refuse", "pace", "PACE"]),
                "scope": st.sampled_from(["rule_and_user", "Rule_And_User"]),
                "total": st.sampled_from([500, "5000", 10**9]),
            },
        ),
        "rules": rules(),
    },
    optional={
        "mode": st.sampled_from(["enforce", "report", "Enforce"]),
        "engine": st.sampled_from(["netlink", "auto", "bpf", "pidfd", "Auto"]),
        "namespaces": st.lists(
            st.sampled_from(["current", "all", "blue", "pid:77"]), min_size=1, max_size=3
        ),
        "protect": st.fixed_dictionaries(
            {"kernel": st.booleans()},
            optional={"selectors": st.lists(MATCHES, min_size=1, max_size=2)},
        ),
    },
)


def by_parser(value: Any) -> bool:
    try:
        parse_policy(value, names=SampleNames(), files=None)
    except PolicyErrors:
        return False
    return True


def by_schema(value: Any) -> bool:
    return bool(VALIDATOR.is_valid(value))


def test_published_schema_is_current() -> None:
    """tools/policy_schema.py writes it."""
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == SCHEMA


def test_schema_is_valid_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_selector_keys_have_description_and_example() -> None:
    described = SCHEMA["definitions"]["selector"]["properties"]
    assert set(described) == {*KEYS, "not", "any", "all"}
    for key, schema in described.items():
        assert schema["description"].endswith("."), key
        assert key == "all" or schema["examples"], key


def test_every_property_has_description() -> None:
    def undescribed(schema: Any, path: str) -> Iterator[str]:
        if isinstance(schema, list):
            for index, each in enumerate(schema):
                yield from undescribed(each, f"{path}[{index}]")
        elif isinstance(schema, dict):
            for name, each in schema.get("properties", {}).items():
                if "description" not in each and "$ref" not in each and path.count("anyOf") < 2:
                    yield f"{path}.{name}"
            for key, each in schema.items():
                yield from undescribed(each, f"{path}.{key}")

    left = [path for path in undescribed(SCHEMA, "") if not path.endswith((".not", ".any", ".all"))]
    assert left == []


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in a schema."""
    if isinstance(schema, dict):
        yield schema
    for each in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(each, (dict, list)):
            yield from parts(each)


def test_keywords_for_editors() -> None:
    explained = {tuple(each["enum"]) for each in parts(SCHEMA) if "enumDescriptions" in each}
    assert {MODES, ACTIONS, ON_EXCESS, tuple(STUCK), tuple(STRANDED)} <= explained
    for each in parts(SCHEMA):
        if "enumDescriptions" in each:
            assert len(each["enumDescriptions"]) == len(each["enum"])
        # Next to a pattern of any case, editors use the exact words of its enum.
        if isinstance(each.get("pattern"), str) and "([" not in each["pattern"]:
            assert each["patternErrorMessage"].endswith(".")
        if "default" in each and "description" in each:
            assert "Default: " in each["description"]
        # Editors list alternative mappings by title.
        alternatives = [one for one in each.get("anyOf", []) if one.get("type") == "object"]
        assert all(one.get("title") for one in alternatives)


def test_examples_and_defaults_are_valid() -> None:
    def examples(schema: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(schema, list):
            for each in schema:
                yield from examples(each)
        elif isinstance(schema, dict):
            for example in schema.get("examples", []):
                yield schema, example
            if "default" in schema and not isinstance(schema["default"], dict):
                yield schema, schema["default"]
            for key, each in schema.items():
                if key not in ("examples", "default"):
                    yield from examples(each)

    found = list(examples(SCHEMA))
    assert len(found) > 50
    for schema, example in found:
        whole = {**schema, "definitions": SCHEMA["definitions"]}
        jsonschema.Draft7Validator(whole).validate(example)
    for key, schema in SCHEMA["definitions"]["selector"]["properties"].items():
        for example in schema.get("examples", []):
            match: dict[str, Any] = {"state": "all", key: example}
            if key == "superseded":
                match["local_port"] = 5000
            if example in ("alice", "https"):
                continue
            assert by_parser(document({"name": "an-example", "match": match})), (key, example)


@given(VALID)
@settings(max_examples=150)
def test_valid_policies_are_valid_for_both(value: Any) -> None:
    assert by_schema(value)
    parse_policy(value, names=SampleNames(), files=None)


@given(selectors(), CONDITIONS, st.sampled_from(["destroy", "report"]))
@settings(max_examples=150)
def test_schema_accepts_what_parser_accepts(match: Any, condition: Any, action: str) -> None:
    value = document({"name": "a-rule", "match": match, "while": condition, "action": action})
    if by_parser(value):
        VALIDATOR.validate(value)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, under in value.items():
            yield from places(under, (*path, key))
    elif isinstance(value, list):
        for index, under in enumerate(value):
            yield from places(under, (*path, index))


def with_value(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(whole)
    parent = changed
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    return changed


@given(VALID, st.data())
@settings(max_examples=150)
def test_empty_value_is_rejected_anywhere(value: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(places(value))))
    emptied = with_value(value, path, data.draw(st.sampled_from([None, "", " ", {}, []])))
    assert not by_parser(emptied)
    assert not by_schema(emptied)


@given(VALID, st.data())
@settings(max_examples=150)
def test_unknown_key_is_rejected_anywhere(value: Any, data: st.DataObject) -> None:
    mappings = []
    for path in places(value):
        found = value
        for step in path:
            found = found[step]
        if isinstance(found, dict):
            mappings.append((path, found))
    path, found = data.draw(st.sampled_from(mappings))
    changed = with_value(value, path, {**found, "mtach": 1})
    assert not by_parser(changed)
    assert not by_schema(changed)


_JUNK = [
    True,
    False,
    0,
    -1,
    1.5,
    10**30,
    "garbage",
    "two words",
    "-1",
    "0x",
    "1e9",
    "9" * 50,
    "\x00",
    [[]],
    ["garbage", 7],
    {"garbage": {}},
    {"any": [{}]},
]


@given(VALID, st.data())
@settings(max_examples=300)
def test_parser_rejects_mutants_that_schema_rejects(value: Any, data: st.DataObject) -> None:
    for _change in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(places(value))))
        junk = st.one_of(st.sampled_from(_JUNK), st.text(max_size=8), st.integers())
        value = with_value(value, path, data.draw(junk))
    if by_parser(value):
        VALIDATOR.validate(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["version", "limits", "rules", "match", "name", "max_sockets", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_garbage_is_rejected(value: Any) -> None:
    assert not by_parser(value)


@given(VALID)
def test_digest_survives_json_round_trip(value: Any) -> None:
    assert digest(json.loads(json.dumps(value, indent=3))) == digest(value)


@pytest.mark.parametrize(
    "keys",
    [
        # Only the parser resolves names and compares values.
        {"match": {"user": "nobody-of-that-name"}},
        {"match": {"remote": "10.0.0.1/8"}},
        {"match": {"remote": "some.host.example"}},
        {"match": {"local_port": "9-1"}},
        {"match": {"idle": "10m", "protocol": "udp"}},
        {"match": {"superseded": {"silent_for": "5s"}}},
        {"match": {"stranded": "rerouted"}},
        {"match": {"protocol": "tcp"}},
        {"while": {"address": "nowhere", "is": "present"}},
        {"hold": "2d"},
    ],
)
def test_errors_only_the_parser_finds(keys: Any) -> None:
    value = document({"name": "a-rule", "match": {"remote": "192.0.2.1"}, **keys})
    assert by_schema(value)
    assert not by_parser(value)
