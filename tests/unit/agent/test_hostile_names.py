# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile names in each command of socket-agent, its status and its log."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.agent import cli, commands, controls
from linuxnet_sockets.agent.journal import Log
from linuxnet_sockets.agent.status import status_lines
from linuxnet_sockets.host.namespaces import Namespace
from tests.support.fake_machine import FakeMachine
from tests.support.hostile_names import (
    FILE_NAME,
    FORGED,
    NAME,
    add_victim,
    assert_harmless,
    documents,
    texts_of,
)
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Harness


@pytest.mark.parametrize(
    ("command", "file"),
    [("check", "FILE"), ("check", "WRONG"), ("check", "MISSING"), ("plan", "FILE")],
)
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.usefixtures("spaces")
def test_commands_of_the_agent(
    machine: FakeMachine,
    tmp_path: Path,
    command: str,
    file: str,
    as_json: bool,
) -> None:
    add_victim(machine)
    out = io.StringIO()
    work: Callable[..., int] = getattr(commands, command)
    options = {"installed": False} if command == "plan" else {}
    work(machine.host, documents(tmp_path)[file], out, as_json=as_json, **options)
    assert_harmless(out.getvalue())
    if as_json:
        for text in texts_of(json.loads(out.getvalue())):
            assert_harmless(text or "-")


def test_status_and_journal_of_the_agent(harness: Harness, spaces: dict[str, Namespace]) -> None:
    add_victim(harness.machine)
    controls.write_pause(str(harness.state), FILE_NAME, None)
    spaces[NAME] = Namespace(NAME, "/run/netns/x", (4, 99))
    harness.write(
        rule("close-wait", match={"state": "close-wait"}, hold=0),
        rule("without", while_={"interface": "wg00", "is": "up"}),
        namespaces=["current", "all"],
    )
    harness.run_for(5)
    out = io.StringIO()
    status = {**harness.status, "faults": [{"operation": NAME, "error": NAME}]}
    for line in status_lines(poisoned_status(status)):
        assert_harmless(line)
    for text in texts_of(harness.status):
        assert_harmless(text or "-")
    assert harness.status["pause"]["reason"].startswith(r"\x1b[2J")
    assert_harmless("\n".join(harness.log))
    assert FORGED in "\n".join(harness.log)
    Log(out, prefixed=False).error(NAME, {"comm": NAME, "evidence": f'{NAME}" uid=0'})
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().isascii()
    assert_harmless(out.getvalue())


def poisoned_status(status: dict[str, Any]) -> dict[str, Any]:
    """As an agent of another version may have written it."""
    return {
        **status,
        "pause": {"reason": NAME, "remaining_s": None},
        "rejected": {"file": NAME, "errors": [NAME]},
        "rules": [{**each, "name": NAME, "missing_interfaces": [NAME]} for each in status["rules"]],
        "last_pass": {
            **status["last_pass"],
            "not_evaluated": [{"namespace": NAME, "rule": NAME, "error": NAME}],
        },
    }


@pytest.mark.parametrize("words", [["NAME"], ["run", "--NAME"], ["run", "--resync", "NAME"]])
def test_wrong_arguments_of_the_agent(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):
        cli.main([word.replace("NAME", NAME) for word in words])
    assert_harmless(capsys.readouterr().err)
