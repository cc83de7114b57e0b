# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the modules matches the code.

Sanity's validate-modules compares argument specs with the documentation too.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.module_utils._core import errors
from plugins.module_utils._core.api.summary import GROUP_KEYS
from plugins.module_utils._core.destroy import outcomes
from plugins.module_utils._core.destroy.engines import registry
from plugins.module_utils._core.guard import reason
from plugins.module_utils._core.messages import describe_failure
from plugins.module_utils._core.query import record
from plugins.module_utils._core.query.capabilities import (
    BUILT_WITHOUT,
    HANDLER_MISSING,
    SUPPORTED,
)
from plugins.module_utils._core.selector.keys import KEYS
from plugins.module_utils._core.verdicts.stranded import STRANDED
from plugins.module_utils._core.verdicts.stuck import STUCK
from plugins.module_utils._module.arguments import argument_spec
from tests.support.collection import load_plugin

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
MODULES = sorted((PLUGINS / "modules").glob("*.py"))


def blocks(path: Path) -> dict[str, Any]:
    """Return DOCUMENTATION, EXAMPLES and RETURN of a module, or DOCUMENTATION of a fragment."""
    return {
        node.targets[0].id: yaml.safe_load(node.value.value)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }


def module(name: str) -> dict[str, Any]:
    return blocks(PLUGINS / "modules" / f"{name}.py")


def fragment(name: str) -> dict[str, Any]:
    return blocks(PLUGINS / "doc_fragments" / f"{name}.py")["DOCUMENTATION"]["options"]


def text(description: Any) -> str:
    return description if isinstance(description, str) else "\n".join(description)


def test_record_keys_are_documented_in_order() -> None:
    documented = module("socket_diag_info")["RETURN"]["sockets"]["contains"]

    assert tuple(documented) == record.RECORD_KEYS
    (sample,) = module("socket_diag_info")["RETURN"]["sockets"]["sample"]
    assert tuple(sample) == record.RECORD_KEYS


def test_selector_keys_are_documented() -> None:
    described = text(fragment("selector")["match"]["description"])

    assert [key for key in (*KEYS, "not", "any", "all") if f"C({key})" not in described] == []


def test_outcomes_are_documented_failing_ones_last() -> None:
    described = text(module("socket_destroy")["RETURN"]["outcomes"]["description"])
    found = sorted(outcomes.OUTCOMES, key=lambda outcome: described.index(f"V({outcome})"))

    assert set(found[-6:]) == outcomes.FAILING
    assert "last six" in described


def test_guard_rules_have_a_switch() -> None:
    switches = set(reason.RULES) - {reason.OWNER_UNREADABLE, reason.SELECTOR}

    assert set(fragment("guard")["protect"]["suboptions"]) == {*switches, "selectors"}
    assert set(argument_spec("destroy")["protect"]["options"]) == {*switches, "selectors"}


def test_support_verdicts_are_documented() -> None:
    facts = module("socket_diag_facts")["RETURN"]["ansible_facts"]["contains"]["socket_diag"]
    described = facts["contains"]["support"]["contains"]["tcp"]["contains"]["verdict"]

    for verdict in (SUPPORTED, BUILT_WITHOUT, HANDLER_MISSING):
        assert f"V({verdict})" in text(described["description"])


def test_verdicts_are_documented_and_counted() -> None:
    record_keys = module("socket_diag_info")["RETURN"]["sockets"]["contains"]
    facts = module("socket_diag_facts")["RETURN"]["ansible_facts"]["contains"]["socket_diag"]
    counted = facts["contains"]["verdicts"]["contains"]
    described = text(fragment("selector")["match"]["description"])

    for key, names in (("stuck", STUCK), ("stranded", STRANDED)):
        assert list(counted[key]["sample"]) == list(names)
        for name in names:
            assert f"V({name})" in text(record_keys[key]["contains"]["verdict"]["description"])
            assert f"V({name})" in described


def test_choices_match_the_core() -> None:
    info = module("socket_diag_info")["DOCUMENTATION"]["options"]

    assert set(info["group_by"]["choices"]) == set(GROUP_KEYS) <= set(record.RECORD_KEYS)
    assert set(info["details"]["choices"]) == set(record.DETAILS)
    engines = module("socket_destroy")["DOCUMENTATION"]["options"]["engine"]["choices"]
    assert sorted(engines) == sorted(registry.NAMES)


def documented_options(path: Path) -> dict[str, Any]:
    """Return the options of a module, including those of its documentation fragments."""
    documentation = blocks(path)["DOCUMENTATION"]
    options = {}
    for name in documentation["extends_documentation_fragment"]:
        file = name.removeprefix("linuxnet.sockets.").partition(".")[0]
        options.update(fragment(file))
    for name, option in documentation.get("options", {}).items():
        options[name] = {**options.get(name, {}), **option}
    return options


def specified(option: dict[str, Any]) -> dict[str, Any]:
    """What an argument spec says of an option, without its description."""
    found = {key: option[key] for key in ("type", "elements", "default") if key in option}
    found["required"] = option.get("required", False)
    found["choices"] = option.get("choices", [])
    below = option.get("suboptions", option.get("options", {}))
    return {**found, "options": {name: specified(each) for name, each in below.items()}}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_examples_use_existing_options(path: Path) -> None:
    found = blocks(path)
    options = documented_options(path)

    used = [
        task.get(f"linuxnet.sockets.{path.stem}") or {}
        for task in found["EXAMPLES"]
        if f"linuxnet.sockets.{path.stem}" in task
    ]

    assert used
    assert all(set(each) <= set(options) for each in used)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_main_declares_the_documented_options(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_plugin(f"modules.{path.stem}")
    declared: dict[str, Any] = {}
    monkeypatch.setattr(found, "run_module", lambda spec, *_work, **_modes: declared.update(spec))

    found.main()

    documented = documented_options(path)
    assert set(declared) == set(documented)
    for name, option in declared.items():
        assert specified(option) == specified(documented[name]), name


EXAMPLE = {
    "protocol": "tcp",
    "state": "established",
    "local": "192.0.2.10",
    "local_port": 8080,
    "remote": "198.51.100.7",
    "remote_port": 51022,
    "uid": 0,
    "user": "root",
    "namespace": "current",
    "cookie": "3e9",
}


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("socket_destroy", errors.SocketsNotDestroyed({"unsupported_protocol": 2}, 14)),
        ("socket_drain", errors.NewConnections(1, (EXAMPLE,))),
        (
            "socket_policy",
            errors.OverBudget(
                (errors.BudgetExcess(12, 10, 60_000, "past-the-vpn", 1000, "alice"),), "refuse", 0
            ),
        ),
    ],
)
def test_sample_message_matches_the_module(name: str, failure: errors.Failure) -> None:
    assert module(name)["RETURN"]["msg"]["sample"] == describe_failure(failure)
