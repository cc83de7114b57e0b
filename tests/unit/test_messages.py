# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors as people read them: in the words of what they wrote, not of the program's language."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

import pytest

from linuxnet_sockets.errors import AgentUnreachable, InputError
from linuxnet_sockets.messages import describe, os_error_text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("ten", "'ten'"),
        (True, "true"),
        ([None, False, 7], "[null, false, 7]"),
        ({"pid": "7", "not": {"remote": ["", None]}}, "{pid: '7', not: {remote: ['', null]}}"),
        ({1: 2, "a b": {}}, "{1: 2, 'a b': {}}"),
    ],
)
def test_values_are_shown_as_they_could_have_been_written(value: Any, shown: str) -> None:
    told = describe(InputError(("match", "any", 0), value, "is wrong", "another"))
    assert told.startswith(f"match.any[0]: {shown}: is wrong")
    assert "another" in told


def test_a_long_value_and_a_deep_one_are_cut() -> None:
    deep: Any = []
    for _each in range(5_000):
        deep = [deep]
    assert len(describe(InputError((), deep, "is wrong", "another"))) < 200
    assert len(describe(InputError((), ["x" * 50] * 50, "is wrong", "another"))) < 200


@pytest.mark.parametrize("problem", ["missing", "null"])
def test_absent_value_is_described_once(problem: str) -> None:
    assert describe(InputError(("a",), None, problem, "x")).startswith(f"a: {problem}. ")


@pytest.mark.parametrize(
    ("number", "group", "advice"),
    [
        (errno.EACCES, "agents", {"root", "agents"}),
        (errno.EACCES, None, {"root"}),
        (errno.ENOENT, "agents", {"installed"}),
        (errno.ENOSPC, "agents", set()),
    ],
)
def test_unreachable_agent_names_the_users_who_may(
    number: int, group: str | None, advice: set[str]
) -> None:
    told = describe(AgentUnreachable("pause the agent", "/var/lib/x", number, group))
    assert "pause the agent" in told
    assert f"/var/lib/x: {os.strerror(number)}" in told
    words = set(re.findall(r"\w+", told))
    assert words & {"root", "agents", "installed"} == advice


def test_errors_of_the_system_come_without_their_numbers() -> None:
    assert os_error_text(PermissionError(13, "Permission denied", "/x")) == "/x: Permission denied"
    assert os_error_text(OSError(98, "another agent runs")) == "another agent runs"
    assert os_error_text(OSError("as it is")) == "as it is"
