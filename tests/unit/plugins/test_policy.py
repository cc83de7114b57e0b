# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies on the controller: loading, validation, and the arguments that the module receives."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from ansible.parsing.dataloader import DataLoader

from linuxnet_sockets.policy import model
from tests.support.collection import load_plugin
from tests.support.policy_documents import document as written
from tests.support.policy_documents import rule

ROOT = Path(__file__).parents[3]
_policy = load_plugin("plugin_utils._policy")


class Vaulted:
    """A vaulted string as of ansible-core before 2.19: no str, but converts to one."""

    __ENCRYPTED__ = True

    def __str__(self) -> str:
        return "198.51.100.9"


class Tagged(str):
    """A tagged string as of ansible-core 2.19 and later."""


def test_summary_of_a_valid_policy() -> None:
    given = written(
        rule("a", while_={"route": "default", "via": "wg0"}, hold="1500ms"),
        rule("b", match={"user": "somebody", "local": "interface:wg0"}),
        mode="report",
        namespaces=["current", "pid:1"],
    )
    assert _policy.check_policy(given).summary == {
        "valid": True,
        "errors": [],
        "warnings": [],
        "digest": model.digest(given),
        "mode": "report",
        "engine": "netlink",
        "namespaces": ["current", "pid:1"],
        "needs": ["addresses", "links", "routes"],
        "reads_owners": True,
        "longest_hold_s": 2.0,
    }


@pytest.mark.parametrize(
    ("switches", "match", "reads"),
    [
        ({}, {"remote": "198.51.100.9"}, True),
        ({"kernel": True}, {"remote": "198.51.100.9"}, True),
        ({"kernel": False}, {"remote": "198.51.100.9"}, False),
        ({"kernel": False}, {"process": "nginx"}, True),
        ({"kernel": False, "ssh_forwards": True}, {"remote": "198.51.100.9"}, True),
    ],
)
def test_reads_owners_depends_on_guard_and_rules(
    switches: dict[str, bool], match: dict[str, str], *, reads: bool
) -> None:
    guard = {"control_connection": False, "ssh_sessions": False, **switches} if switches else {}
    more = {"protect": guard} if guard else {}
    checked = _policy.check_policy(written(rule(match=match), **more))
    assert checked.errors == []
    assert checked.summary["reads_owners"] is reads


def test_summary_lists_all_errors() -> None:
    summary = _policy.check_policy(written(rule(hold="soon"), {"name": "b"}, mode="kill")).summary
    assert not summary.pop("valid")
    errors = summary.pop("errors")
    assert [error.split(":")[0] for error in errors] == [
        "policy.mode",
        "policy.rules[0].hold",
        "policy.rules[1].match",
    ]
    assert errors[0].startswith("policy.mode: 'kill': ")
    assert {"enforce", "report"} <= set(re.findall(r"\w+", errors[0]))
    assert "missing" in errors[2]
    assert {key: value for key, value in summary.items() if value} == {}


@pytest.mark.parametrize(
    ("given", "start", "fact"),
    [
        ("", "policy: '': ", "empty"),
        ([], "policy: []: ", "list"),
        (None, "policy: null", "variable"),
        (
            written(rule(datetime.date(2024, 1, 2))),
            "policy.rules[0].name: '2024-01-02': ",
            "date",
        ),
        ({**written(), True: 1}, "policy: true: ", "boolean"),
        (written(limits={"max_sockets": float("nan")}), "policy.limits.max_sockets: nan: ", ""),
        (written(namespaces={"current"}), "policy.namespaces: {'current'}: ", "set"),
    ],
)
def test_non_plain_data_is_rejected_with_its_path(given: object, start: str, fact: str) -> None:
    (error,) = _policy.check_policy(given).errors
    assert error.startswith(start)
    assert fact in error


def test_ansible_types_become_plain_values() -> None:
    given = written(
        rule(Tagged("a"), match={"remote": (Vaulted(),), "local_port": "80"}),
        limits={"max_sockets": Tagged("500"), "per": "3m"},
    )
    checked = _policy.check_policy(given)
    assert checked.errors == []
    plain = written(
        rule("a", match={"remote": ["198.51.100.9"], "local_port": "80"}),
        limits={"max_sockets": "500", "per": "3m"},
    )
    assert checked.document == plain
    assert checked.document["rules"][0]["name"].__class__ is str
    assert (checked.policy.limits.max_sockets, checked.policy.limits.per_ms) == (500, 180_000)
    assert checked.policy.digest == model.digest(plain)


def test_endless_alias_expansion_is_rejected() -> None:
    """Nested lists of ten aliases each, and a list that contains itself."""
    aliases = ["a: &a0 [x]"] + [
        f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]" for number in range(1, 30)
    ]
    (many,) = _policy.check_policy(_policy.load_document("\n".join(aliases), "a.yml")).errors
    assert "100000" in many
    (deep,) = _policy.check_policy(
        _policy.load_document("rules: &itself [*itself]", "a.yml")
    ).errors
    assert re.search(r"\b100\b", deep)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("version: 1\nversion: 1\n", "'version'"),
        ("rules: [", "YAML"),
        ("rules: !!python/object:os.system {}", "YAML"),
        ("x" * (4 * 1024 * 1024 + 1), "4194304"),
    ],
)
def test_invalid_file_is_rejected(text: str, fact: str) -> None:
    with pytest.raises(ValueError, match=r"a\.yml") as error:
        _policy.load_document(text, "a.yml")
    assert str(error.value).startswith("a.yml ")
    assert fact in str(error.value)


def test_json_and_merge_keys_are_loaded() -> None:
    assert _policy.load_document('{"version": 1, "rules": [{"name": "a"}]}', "a.json") == {
        "version": 1,
        "rules": [{"name": "a"}],
    }
    merged = _policy.load_document("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n", "a.yml")
    assert merged["b"] == {"x": 3, "y": 2}


_ACTION = load_plugin("action.socket_policy").ActionModule


class Action(_ACTION):  # type: ignore[misc, valid-type]
    """The action plugin with these arguments. `sent` records calls of the module."""

    def __init__(self, folder: Path, arguments: Mapping[str, Any]) -> None:
        self._task = SimpleNamespace(
            args=dict(arguments),
            async_val=0,
            check_mode=False,
            diff=False,
            get_search_path=lambda: [str(folder)],
        )
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        self._loader = DataLoader()
        self._loader.set_basedir(str(folder))
        self.sent: list[Any] = []

    def _execute_module(self, **keys: Any) -> dict[str, Any]:
        assert keys["module_name"] == "linuxnet.sockets.socket_policy"
        self.sent.append(keys["module_args"])
        return {"changed": True}


def run_action(folder: Path, **arguments: Any) -> tuple[dict[str, Any], list[Any]]:
    action = Action(folder, arguments)
    return action.run(task_vars={}), action.sent


def test_valid_policy_is_sent_with_the_other_options(tmp_path: Path) -> None:
    result, sent = run_action(tmp_path, policy=written(), limit=5)
    assert result == {"changed": True}
    assert sent == [{"policy": written(), "limit": 5}]


def test_policy_as_text_is_sent_as_mapping(tmp_path: Path) -> None:
    """Since ansible-core 2.19 a template of JSON stays text, as for match and protect."""
    for text in (json.dumps(written()), f"  {json.dumps(written(), indent=2)}\n"):
        result, sent = run_action(tmp_path, policy=Tagged(text))
        assert result == {"changed": True}
        assert sent == [{"policy": written()}]
    result, sent = run_action(tmp_path, policy="{broken")
    assert (result["failed"], sent) == (True, [])
    assert "policy: '{broken'" in result["msg"]


def test_document_may_name_its_schema() -> None:
    named = {"$schema": "https://example.com/policy.schema.json", **written()}
    assert _policy.check_policy(named).errors == []
    assert len(_policy.check_policy({**named, "$schema": 1}).errors) == 1
    schema = json.loads((ROOT / "docs/docsite/policy.schema.json").read_text(encoding="utf-8"))
    assert jsonschema.Draft7Validator(schema).is_valid(named)


def test_file_on_the_controller_is_sent_as_policy(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    text = "version: 1\nlimits: {max_sockets: 5}\nrules: [{name: a, match: {local_port: 80}}]\n"
    (tmp_path / "files" / "web.yml").write_text(text)
    result, sent = run_action(tmp_path, src="web.yml")
    assert result == {"changed": True}
    assert sent[0]["policy"]["rules"] == [{"name": "a", "match": {"local_port": 80}}]
    assert set(sent[0]) == {"policy"}
    assert (tmp_path / "files" / "web.yml").read_text() == text


def test_invalid_policy_is_not_sent_and_lists_its_errors(tmp_path: Path) -> None:
    bad = written(*(rule(str(number), hold="soon") for number in range(30)), mode="kill")
    result, sent = run_action(tmp_path, policy=bad)
    assert sent == []
    assert (result["failed"], result["changed"], len(result["errors"])) == (True, False, 31)
    first, *lines = result["msg"].split("\n")
    assert re.findall(r"\d+", first) == ["31"]
    assert lines[0] == f"- {result['errors'][0]}"
    assert len(lines) == 21
    assert re.findall(r"\d+", lines[-1]) == ["11"]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"src": "nowhere.yml"}, ["src: 'nowhere.yml' ", "controller"]),
        ({"src": " "}, ["src: '': ", "empty"]),
        ({"src": "empty.yml"}, ["src: 'empty.yml' ", "template"]),
        ({"src": "list.yml"}, ["src: 'list.yml' ", "list"]),
        ({"src": "bad.yml"}, ["bad.yml ", "\n- policy.rules: "]),
        ({"src": "bytes.yml"}, ["src: 'bytes.yml' ", "controller"]),
        ({"src": "bad.yml", "policy": written()}, ["policy", "src"]),
        ({"policy": ""}, ["\n- policy: '': "]),
    ],
)
def test_invalid_source_is_reported(
    tmp_path: Path, arguments: dict[str, Any], facts: list[str]
) -> None:
    (tmp_path / "empty.yml").write_text("---\n")
    (tmp_path / "list.yml").write_text("- 1\n")
    (tmp_path / "bad.yml").write_text("version: 1\nlimits: {max_sockets: 5}\nrules: []\n")
    (tmp_path / "bytes.yml").write_bytes(b"\xff\xfe\xff")
    result, sent = run_action(tmp_path, **arguments)
    assert sent == []
    assert result["failed"]
    assert [fact for fact in facts if fact not in result["msg"]] == []
    assert "remote_src" not in result["msg"]


def test_missing_policy_is_left_to_the_module(tmp_path: Path) -> None:
    assert run_action(tmp_path, limit=5)[1] == [{"limit": 5}]
