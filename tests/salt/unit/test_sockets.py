# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signatures and docstrings of the execution module."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
import salt.utils.args

from linuxnet_sockets.api.options import OPERATIONS
from linuxnet_sockets.selector.keys import COMBINATORS, KEYS
from saltext.linuxnet_sockets.modules import sockets

# The operation behind each function, and its options that the function does not have.
OPERATION: dict[str, tuple[str, frozenset[str]]] = {
    "list": ("find", frozenset()),
    "stuck": ("stuck_report", frozenset({"stranded", "superseded_ports", "silent_for"})),
    "stranded": ("stuck_report", frozenset({"stuck", "superseded_ports", "silent_for"})),
    "report": ("stuck_report", frozenset()),
    "destroy": ("destroy", frozenset({"check", "diff"})),
    "drain": ("drain", frozenset({"check", "diff"})),
    "support": ("support", frozenset()),
    "policy_check": ("check_policy", frozenset()),
    "policy_plan": ("plan_policy", frozenset()),
    "policy_firewall": ("firewall_rules", frozenset()),
    "policy_enforce": ("enforce_policy", frozenset({"check", "diff"})),
}
# Arguments of functions that are not options of operations.
OF_SALT = {"test", "pillar_key"}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    sockets.__func_alias__.get(name, name): function
    for name, function in vars(sockets).items()
    if inspect.isfunction(function) and not name.startswith("_")
}


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def examples(function: Callable[..., Any]) -> list[list[str]]:
    """The commands under `CLI Example:`, as words."""
    _text, _title, block = (function.__doc__ or "").partition("CLI Example:")
    return [shlex.split(line) for line in block.splitlines() if line.strip().startswith("salt")]


def test_the_functions_are_the_operations_and_the_agents_commands() -> None:
    of_agent = {"agent_status", "agent_pause", "agent_resume", "agent_confirm"}
    assert set(FUNCTIONS) == {*OPERATION, *of_agent}


@pytest.mark.parametrize("name", OPERATION)
def test_a_function_has_the_options_of_its_operation(name: str) -> None:
    operation, without = OPERATION[name]
    found = {
        each.name
        for each in parameters(FUNCTIONS[name]).values()
        if each.kind is not each.VAR_KEYWORD
    }
    assert found - OF_SALT == set(OPERATIONS[operation]) - without


@pytest.mark.parametrize("name", OPERATION)
def test_options_have_the_defaults_of_their_operation(name: str) -> None:
    for parameter in parameters(FUNCTIONS[name]).values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        expected = sockets.operations.NO_MATCH if parameter.name == "match" else None
        assert parameter.default == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_describe_each_argument(name: str) -> None:
    text = inspect.getdoc(FUNCTIONS[name]) or ""
    described = {
        word
        for line in re.findall(r"^(\w+(?:, \w+)*)$", text, re.MULTILINE)
        for word in line.split(", ")
    }
    named = set(parameters(FUNCTIONS[name])) - {"selector"}
    assert described == named
    assert ".. versionadded:: 0.1.0" in text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_call_the_function_with_arguments_that_it_has(name: str) -> None:
    found = examples(FUNCTIONS[name])
    assert found
    known = set(parameters(FUNCTIONS[name]))
    if "selector" in known:
        known |= {*KEYS, *COMBINATORS}
    for words in found:
        assert f"sockets.{name}" in words
        given = words[words.index(f"sockets.{name}") + 1 :]
        arguments = salt.utils.args.parse_input(given, condition=False)
        keywords = {
            key
            for argument in arguments
            if isinstance(argument, dict) and argument.get("__kwarg__")
            for key in argument
        }
        assert keywords - {"__kwarg__"} <= known


def test_option_names_are_no_selector_keys() -> None:
    """Else an option would hide the key. Reports have their verdicts as options instead."""
    for name, function in FUNCTIONS.items():
        named = parameters(function)
        if "selector" in named:
            hidden = set(named) & {*KEYS, *COMBINATORS}
            assert hidden <= ({"stuck", "stranded"} if "stuck" in OPERATION[name][0] else set())
