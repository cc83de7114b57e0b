# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The output of the commands for a terminal."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from linuxnet_sockets.agent import commands
from tests.support.fake_machine import connection
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Harness


def _plan_lines(harness: Harness, *rules: dict[str, Any], **keys: Any) -> list[str]:
    harness.write(*rules, **keys)
    out = io.StringIO()
    commands.plan(harness.machine.host, str(harness.policy), out, as_json=False, installed=True)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "would be destroyed: "),
        ({"mode": "report"}, "not destroyed in mode report: "),
        ({"limits": {"max_sockets": 1}}, "exceeds the budget: "),
        ({"protect": {"selectors": [{"local_port": [1, 2]}]}}, "protected by selector"),
    ],
)
def test_plan_shows_the_status_of_each_socket(
    harness: Harness, keys: dict[str, Any], text: str
) -> None:
    for port in (1, 2):
        harness.machine.add(connection(local_port=port))
    first, *sockets = _plan_lines(harness, rule(), **keys)[:3]
    assert first.startswith("a-rule: 2 sockets (destroy, after 2 s)")
    for line in sockets:
        assert line.startswith(f"  {text}")
        assert "app[" in line
    assert harness.destroyed == []


@pytest.mark.parametrize(
    ("ports", "keys", "status"),
    [
        ((1,), {}, 5),
        ((1, 2), {"limits": {"max_sockets": 1}}, 5),
        ((1,), {"mode": "report"}, 0),
        ((), {}, 0),
    ],
)
def test_detailed_exit_status_of_a_plan(
    harness: Harness, ports: tuple[int, ...], keys: dict[str, Any], status: int
) -> None:
    for port in ports:
        harness.machine.add(connection(local_port=port))
    harness.write(rule(), **keys)
    arguments = (harness.machine.host, str(harness.policy), io.StringIO())
    found = [
        commands.plan(*arguments, as_json=False, installed=True, detailed=detailed)
        for detailed in (False, True)
    ]
    assert found == [0, status]


def test_plan_names_an_unknown_interface_and_a_false_condition(harness: Harness) -> None:
    vpn = rule("vpn", **{"while": {"interface": "wg00", "is": "up"}})
    line, warning = _plan_lines(harness, vpn)
    assert warning.startswith("warning: Unknown interface 'wg00' (rule vpn): ")
    assert line.startswith("vpn: 0 sockets")
    assert "while" in line
    assert "missing interface wg00" in line


@pytest.mark.parametrize("installed", [True, False])
def test_plan_of_the_installed_policy_rejects_what_the_agent_rejects(
    harness: Harness, installed: bool
) -> None:
    harness.write(rule())
    harness.policy.chmod(0o666)
    out = io.StringIO()
    host, file = harness.machine.host, str(harness.policy)
    status = commands.plan(host, file, out, as_json=False, installed=installed)
    assert status == (commands.FAILURE if installed else commands.SUCCESS)
    assert ("mode 0666" in out.getvalue()) is installed


def test_check_of_the_installed_policy_rejects_what_the_agent_rejects(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.write(rule())
    harness.policy.chmod(0o666)
    host, file = harness.machine.host, str(harness.policy)
    # A file that a user has just written, such as the one that the role validates.
    assert commands.check(host, file, io.StringIO(), as_json=True) == commands.SUCCESS
    monkeypatch.setattr(commands, "POLICY_FILE", file)
    out = io.StringIO()
    assert commands.check(host, file, out, as_json=True) == commands.FAILURE
    result = json.loads(out.getvalue())
    assert result["valid"] is False
    assert "mode 0666" in result["errors"][0]
