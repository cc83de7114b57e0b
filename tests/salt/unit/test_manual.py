# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands, states and files in the manual page on Salt, and in the docstrings of states."""

from __future__ import annotations

import inspect
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.utils.args
import salt.utils.yaml

from linuxnet_sockets.selector.keys import COMBINATORS, KEYS
from saltext.linuxnet_sockets.modules import sockets as module
from saltext.linuxnet_sockets.states import sockets as state_module

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "docsite" / "rst" / "salt.rst").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def functions(of: Any, aliases: dict[str, str]) -> dict[str, Callable[..., Any]]:
    return {
        aliases.get(name, name): function
        for name, function in vars(of).items()
        if inspect.isfunction(function)
        and function.__module__ == of.__name__
        and not name.startswith("_")
    }


FUNCTIONS = functions(module, module.__func_alias__)
STATES = functions(state_module, {})


def blocks(text: str, language: str) -> Iterator[str]:
    """The code blocks of a language in reStructuredText."""
    for found in re.finditer(
        rf"^ *\.\. code-block:: {language}\n\n((?: +.*\n|\n)+)", text, re.MULTILINE
    ):
        yield textwrap.dedent(found[1])


def commands() -> list[list[str]]:
    """Commands that call a function of the extension, as words after its name."""
    lines = [line[2:] for block in blocks(PAGE, "console") for line in block.splitlines()]
    lines += [line[2:] for line in README.splitlines() if line.startswith("# salt ")]
    found = []
    for line in lines:
        if line.startswith("salt"):
            words = shlex.split(line)
            found += [
                words[place:] for place, word in enumerate(words) if word.startswith("sockets.")
            ]
    return [words for words in found if words[0].partition(".")[2] in FUNCTIONS]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_have_arguments_of_their_function(words: list[str]) -> None:
    parameters = set(inspect.signature(FUNCTIONS[words[0].partition(".")[2]]).parameters)
    if "selector" in parameters:
        parameters |= {*KEYS, *COMBINATORS}

    _positional, keywords = salt.utils.args.parse_input(words[1:], condition=False), {}
    for argument in _positional:
        if isinstance(argument, dict):
            keywords.update(argument)

    assert set(keywords) - {"__kwarg__"} <= parameters


def test_the_page_shows_most_functions() -> None:
    shown = {words[0].partition(".")[2] for words in commands()}

    assert set(FUNCTIONS) - shown == {"support", "policy_enforce"}


def states(text: str) -> Iterator[tuple[str, set[str]]]:
    """Name and arguments of each state of ours in YAML blocks."""
    for block in blocks(text, "yaml"):
        for body in (salt.utils.yaml.safe_load(block) or {}).values():
            for name, arguments in body.items() if isinstance(body, dict) else ():
                if name.startswith("sockets.") and isinstance(arguments, list):
                    yield (
                        name.partition(".")[2],
                        {key for argument in arguments for key in argument},
                    )


def test_the_page_shows_states_with_arguments_that_they_have() -> None:
    shown = dict(states(PAGE))

    assert set(shown) == set(STATES) - {"agent_absent"}
    for name, arguments in shown.items():
        assert arguments <= set(inspect.signature(STATES[name]).parameters)


@pytest.mark.parametrize("name", STATES)
def test_each_state_has_an_example_and_a_version(name: str) -> None:
    text = inspect.getdoc(STATES[name]) or ""

    ((example, arguments),) = states(text + "\n")
    assert example == name
    assert arguments <= set(inspect.signature(STATES[name]).parameters)
    assert ".. versionadded:: 0.1.0" in text


@pytest.mark.parametrize("name", STATES)
def test_each_argument_of_a_state_is_described(name: str) -> None:
    parameters = set(inspect.signature(STATES[name]).parameters)
    shared = set(inspect.signature(STATES["absent"]).parameters)
    text = inspect.getdoc(STATES[name]) or ""
    described = set(re.findall(r"^(\w+)$", text, re.MULTILINE))
    if ":func:`absent`" in text:
        described |= shared & parameters

    assert described == parameters


def test_the_files_that_the_page_names_exist() -> None:
    named = set(re.findall(r"examples/salt[\w./-]*", PAGE + README))

    assert named
    assert [name for name in named if not (ROOT / name.rstrip(".")).exists()] == []


def test_the_policy_of_the_page_is_that_of_the_example() -> None:
    example = salt.utils.yaml.safe_load(
        (ROOT / "examples" / "salt" / "pillar" / "sockets.sls").read_text(encoding="utf-8")
    )
    shown = [
        document
        for document in map(salt.utils.yaml.safe_load, blocks(PAGE, "yaml"))
        if "linuxnet_sockets" in document
    ]

    assert [each["linuxnet_sockets"]["policy"] for each in shown] == [
        example["linuxnet_sockets"]["policy"]
    ]
