# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page on socketctl: its tables are those of the parser, and its examples are valid."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from linuxnet_sockets.policy.parse import AnyNames
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.socketctl import exit_status
from linuxnet_sockets.socketctl.main import parse
from linuxnet_sockets.socketctl.parser import get_parser, given_options
from tests.unit.socketctl.test_parser import BY_PATH

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "docsite" / "rst" / "socketctl.rst").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    _before, rest = PAGE.split(f"\n{title}\n{'-' * len(title)}\n")
    return re.split(r"\n\S[^\n]*\n-{3,}\n", rest)[0]


def literals(text: str) -> list[str]:
    return re.findall(r"``(.+?)``", text)


def rows(text: str) -> list[list[str]]:
    """The cells of a list-table, without its heading."""
    found = [
        [cell.strip() for cell in re.split(r"\n    -", row)] for row in text.split("\n  * -")[1:]
    ]
    return found[1:]


def test_options_are_those_of_the_parser() -> None:
    documented = {
        (option, command)
        for options, commands, _meaning in rows(section("Options"))
        for option in literals(options)
        for command in literals(commands) or [""]
    }
    known = {
        (option, path)
        for path, parser in BY_PATH.items()
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
        for option in action.option_strings
    }
    assert documented == known


def test_exit_statuses_are_those_of_the_code() -> None:
    documented = {
        int(literals(status)[0]): " ".join(meaning.replace("``", "").split())
        for status, meaning in rows(section("Exit status"))
    }
    assert documented == exit_status.MEANINGS


def examples() -> list[str]:
    lines = re.findall(r"^ *[$#] (?:sudo )?(socketctl .*)", PAGE + README, re.MULTILINE)
    return sorted({re.split(r" [|>] ", line)[0] for line in lines})


@pytest.mark.parametrize("line", examples())
def test_example_is_valid(line: str) -> None:
    words = shlex.split(line)[1:]
    parsed = parse(get_parser(), words)
    if "operation" in parsed:
        options = given_options(parsed)
        if options.get("match"):
            role = "destroy" if parsed.path in ("destroy", "drain") else "find"
            parse_selector(options["match"], names=AnyNames(), role=role)


def test_page_has_examples_of_every_command() -> None:
    used = {
        parse(get_parser(), shlex.split(line)[1:]).path
        for line in examples()
        if "--version" not in line
    }
    assert used == set(BY_PATH) - {"", "policy", "completion"}
    assert "$(socketctl completion bash)" in PAGE
