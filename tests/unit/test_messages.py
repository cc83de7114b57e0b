# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of errors: values appear as in the user's input, not as Python objects."""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import Any

import pytest

from linuxnet_sockets.agent.rtnetlink import _MulticastSocket
from linuxnet_sockets.errors import (
    AgentUnreachable,
    DirectoryUnusable,
    InputError,
    PackageMissing,
)
from linuxnet_sockets.messages import describe, os_error_text
from tests.support.hostile_names import NAME, assert_harmless


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
def test_values_are_shown_as_yaml(value: Any, shown: str) -> None:
    text = describe(InputError(("match", "any", 0), value, "is wrong", "another"))
    assert text.startswith(f"match.any[0]: {shown}: is wrong")
    assert "another" in text


def test_long_and_deep_values_are_truncated() -> None:
    deep: Any = []
    for _depth in range(5_000):
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
        (errno.ECONNREFUSED, "agents", {"running"}),
        (errno.ENOSPC, "agents", set()),
    ],
)
def test_unreachable_agent_names_permitted_users(
    number: int, group: str | None, advice: set[str]
) -> None:
    text = describe(AgentUnreachable("pause the agent", "/var/lib/x", number, group))
    assert "pause the agent" in text
    assert f"/var/lib/x: {os.strerror(number)}" in text
    words = set(re.findall(r"\w+", text))
    assert words & {"root", "agents", "installed", "running"} == advice


def test_missing_package_names_the_consequence_and_the_remedy() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pyroute2.netlink", None)
        with pytest.raises(PackageMissing) as caught:
            _MulticastSocket((), all_namespaces=False)
    text = describe(caught.value)
    assert "pyroute2, which receives events of network changes" in text
    assert "only at the next resync" in text
    assert "pip install 'linuxnet-sockets[agent]'" in text


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOENT, "Create it, or name another directory with --runtime-directory."),
        (errno.EACCES, "Run it as root, or name another directory with --runtime-directory."),
        (errno.EROFS, "Name another directory with --runtime-directory."),
    ],
)
def test_unusable_directory_names_the_option(number: int, advice: str) -> None:
    text = describe(DirectoryUnusable("/run/x", "its status", "--runtime-directory", number))
    assert text.startswith(f"Cannot use the directory /run/x of its status: {os.strerror(number)}.")
    assert text.endswith(advice)


def test_os_errors_are_shown_without_errno() -> None:
    assert os_error_text(PermissionError(13, "Permission denied", "/x")) == "/x: Permission denied"
    assert os_error_text(OSError(98, "another agent runs")) == "another agent runs"
    assert os_error_text(OSError("as it is")) == "as it is"


def test_files_in_errors_of_the_system() -> None:
    for name in (NAME, NAME.encode("utf-8", "surrogatepass")):
        error = OSError(2, "No such file or directory", name)
        assert_harmless(os_error_text(error))
