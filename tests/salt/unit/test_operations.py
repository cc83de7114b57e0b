# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments as Salt gives them, and errors as Salt shows them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from linuxnet_sockets import api
from linuxnet_sockets.errors import InputError, NamespaceNotFound, PolicyErrors
from saltext.linuxnet_sockets import operations
from saltext.linuxnet_sockets.operations import NO_MATCH, selector


@pytest.mark.parametrize(
    ("match", "keys", "expected"),
    [
        (NO_MATCH, {}, None),
        (NO_MATCH, {"remote_port": 443}, {"remote_port": 443}),
        (NO_MATCH, {"__pub_jid": "1", "__pub_fun": "sockets.list"}, None),
        ({"remote_port": 443}, {}, {"remote_port": 443}),
        ({"remote_port": 443}, {"__pub_jid": "1"}, {"remote_port": 443}),
        ({"remote_port": 443}, {"user": "app"}, {"remote_port": 443, "user": "app"}),
        ({"user": "app"}, {"user": "web"}, {"all": [{"user": "app"}, {"user": "web"}]}),
    ],
)
def test_selector_needs_match_and_keys(match: Any, keys: dict[str, Any], expected: Any) -> None:
    assert selector(match, keys) == expected


@pytest.mark.parametrize("match", [None, {}, "", []])
def test_empty_match_beside_keys_is_an_error(match: Any) -> None:
    """A template variable that is empty does not select by the other keys alone."""
    with pytest.raises(InputError):
        api.destroy(selector(match, {"state": "established"}))


def test_mappings_of_pillars_become_plain() -> None:
    match = OrderedDict(any=[OrderedDict(remote_port=443), OrderedDict(user="app")])

    found = selector(match, {"stuck": OrderedDict(verdict="close_wait")})

    assert [type(each) for each in (found, *found["any"], found["stuck"])] == [dict] * 4


@pytest.mark.parametrize(
    ("test", "option", "expected"),
    [
        (None, None, False),
        (None, False, False),
        (None, True, True),
        (False, True, False),
        (True, False, True),
        ("true", False, True),
        ("False", True, False),
    ],
)
def test_test_mode(test: Any, option: bool | None, expected: bool) -> None:
    opts = {} if option is None else {"test": option}
    assert operations.test_mode(test, opts) is expected


def test_unclear_test_mode_is_an_error() -> None:
    with pytest.raises(InputError) as caught:
        operations.test_mode("maybe", {})
    assert caught.value.path == ("test",)


@pytest.mark.parametrize(
    "error",
    [
        InputError(("limit",), -1, "less than 0", "a number from 0"),
        NamespaceNotFound("blue"),
    ],
)
def test_errors_have_the_sentence_of_other_faces(error: Exception) -> None:
    with pytest.raises(CommandExecutionError) as caught, operations.errors_for_salt():
        raise error
    assert str(caught.value) == api.describe(error)


def test_each_problem_of_a_policy_is_listed() -> None:
    problems = [InputError(("policy", name), None, "missing", "a value") for name in "ab"]
    with pytest.raises(CommandExecutionError) as caught, operations.errors_for_salt():
        raise PolicyErrors(problems)
    assert all(api.describe(problem) in str(caught.value) for problem in problems)


def test_errors_of_the_system_name_the_file() -> None:
    denied = pytest.raises(CommandExecutionError, match="/x: Permission denied")
    with denied, operations.errors_for_salt():
        raise PermissionError(13, "Permission denied", "/x")
