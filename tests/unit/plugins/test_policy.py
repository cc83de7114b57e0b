# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies on the controller: what is read, what is refused and how, and what is sent."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from linuxnet_sockets.policy import model
from tests.unit.policy.policies import document as written
from tests.unit.policy.policies import rule

# Where `make setup` links the checkout, for Ansible to find it.
_FOUND = Path(__file__).resolve().parents[3] / ".build" / "collections"


def ours(name: str) -> Any:
    """A module of the collection by the name that Ansible knows it by."""
    if str(_FOUND) not in sys.path:
        sys.path.append(str(_FOUND))
    return import_module(f"ansible_collections.linuxnet.sockets.plugins.{name}")


_policy = ours("plugin_utils._policy")


class Vaulted:
    """As the vaulted strings of ansible-core before 2.19 are: no str, but read as one."""

    __ENCRYPTED__ = True

    def __str__(self) -> str:
        return "198.51.100.9"


class Tagged(str):
    """As the strings of ansible-core from 2.19 on are."""


def test_a_good_policy_is_told_about() -> None:
    given = written(
        rule("a", while_={"route": "default", "via": "wg0"}, hold="1500ms"),
        rule("b", match={"user": "somebody", "local": "interface:wg0"}),
        mode="report",
        namespaces=["current", "pid:1"],
    )
    assert _policy.told(_policy.check(given)) == {
        "valid": True,
        "errors": [],
        "warnings": [],
        "digest": model.digest(given),
        "mode": "report",
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
    ],
)
def test_whether_owners_are_read(
    switches: dict[str, bool], match: dict[str, str], *, reads: bool
) -> None:
    guard = {"control_connection": False, "ssh_sessions": False, **switches} if switches else {}
    more = {"protect": guard} if guard else {}
    checked = _policy.check(written(rule(match=match), **more))
    assert checked.errors == []
    assert _policy.told(checked)["reads_owners"] is reads


def test_a_bad_policy_is_told_in_full() -> None:
    told = _policy.told(_policy.check(written(rule(hold="soon"), {"name": "b"}, mode="kill")))
    assert not told.pop("valid")
    errors = told.pop("errors")
    assert [error.split(":")[0] for error in errors] == [
        "policy.mode",
        "policy.rules[0].hold",
        "policy.rules[1].match",
    ]
    assert errors[0].startswith("policy.mode: 'kill': ")
    assert {"enforce", "report"} <= set(re.findall(r"\w+", errors[0]))
    assert "missing" in errors[2]
    assert {key: value for key, value in told.items() if value} == {}


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
def test_what_is_no_plain_data_is_refused_with_its_place(
    given: object, start: str, fact: str
) -> None:
    (error,) = _policy.check(given).errors
    assert error.startswith(start)
    assert fact in error


def test_what_ansible_makes_of_values_is_made_plain() -> None:
    given = written(
        rule(Tagged("a"), match={"remote": (Vaulted(),), "local_port": "80"}),
        limits={"max_sockets": Tagged("500"), "per": "3m"},
    )
    checked = _policy.check(given)
    assert checked.errors == []
    plain = written(
        rule("a", match={"remote": ["198.51.100.9"], "local_port": "80"}),
        limits={"max_sockets": "500", "per": "3m"},
    )
    assert checked.document == plain
    assert checked.document["rules"][0]["name"].__class__ is str
    assert (checked.policy.limits.max_sockets, checked.policy.limits.per_ms) == (500, 180_000)
    assert checked.policy.digest == model.digest(plain)


def test_a_short_document_that_is_endless_is_refused_at_once() -> None:
    """Ten aliases of ten aliases of ten ...; and one that holds itself."""
    aliases = ["a: &a0 [x]"] + [
        f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]" for number in range(1, 30)
    ]
    (many,) = _policy.check(_policy.read("\n".join(aliases), "a.yml")).errors
    assert "100000" in many
    (deep,) = _policy.check(_policy.read("rules: &itself [*itself]", "a.yml")).errors
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
def test_a_file_that_is_none_is_refused(text: str, fact: str) -> None:
    with pytest.raises(ValueError, match=r"a\.yml") as refused:
        _policy.read(text, "a.yml")
    assert str(refused.value).startswith("a.yml ")
    assert fact in str(refused.value)


def test_json_and_merged_mappings_are_read() -> None:
    assert _policy.read('{"version": 1, "rules": [{"name": "a"}]}', "a.json") == {
        "version": 1,
        "rules": [{"name": "a"}],
    }
    merged = _policy.read("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n", "a.yml")
    assert merged["b"] == {"x": 3, "y": 2}


_ACTION = ours("action.socket_policy").ActionModule


class Action(_ACTION):  # type: ignore[misc, valid-type]
    """The action of a task with these arguments, but that nothing is sent: `sent` is what was."""

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


def ran(folder: Path, **arguments: Any) -> tuple[dict[str, Any], list[Any]]:
    action = Action(folder, arguments)
    return action.run(task_vars={}), action.sent


def test_a_good_policy_is_sent_with_the_other_options(tmp_path: Path) -> None:
    result, sent = ran(tmp_path, policy=written(), limit=5)
    assert result == {"changed": True}
    assert sent == [{"policy": written(), "limit": 5}]


def test_a_file_of_the_controller_is_sent_as_a_policy(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    text = "version: 1\nlimits: {max_sockets: 5}\nrules: [{name: a, match: {local_port: 80}}]\n"
    (tmp_path / "files" / "web.yml").write_text(text)
    result, sent = ran(tmp_path, src="web.yml")
    assert result == {"changed": True}
    assert sent[0]["policy"]["rules"] == [{"name": "a", "match": {"local_port": 80}}]
    assert set(sent[0]) == {"policy"}
    assert (tmp_path / "files" / "web.yml").read_text() == text


def test_of_a_bad_policy_nothing_is_sent_and_each_fault_has_its_line(tmp_path: Path) -> None:
    bad = written(*(rule(str(number), hold="soon") for number in range(30)), mode="kill")
    result, sent = ran(tmp_path, policy=bad)
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
def test_what_cannot_be_taken_is_said(
    tmp_path: Path, arguments: dict[str, Any], facts: list[str]
) -> None:
    (tmp_path / "empty.yml").write_text("---\n")
    (tmp_path / "list.yml").write_text("- 1\n")
    (tmp_path / "bad.yml").write_text("version: 1\nlimits: {max_sockets: 5}\nrules: []\n")
    (tmp_path / "bytes.yml").write_bytes(b"\xff\xfe\xff")
    result, sent = ran(tmp_path, **arguments)
    assert sent == []
    assert result["failed"]
    assert [fact for fact in facts if fact not in result["msg"]] == []
    assert "remote_src" not in result["msg"]


def test_without_either_the_module_says_what_is_missing(tmp_path: Path) -> None:
    assert ran(tmp_path, limit=5)[1] == [{"limit": 5}]
