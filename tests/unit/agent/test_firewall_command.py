# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command firewall."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from linuxnet_sockets.agent import cli, commands
from tests.support.fake_machine import FakeMachine
from tests.support.policy_documents import document, rule

VPN = rule("vpn", match={"user": 1000, "not": {"local": "interface:wg0"}})
PROCESS = rule("process", match={"process": "curl"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(document(VPN, PROCESS)))
    return path


def test_rule_set_and_what_it_leaves_out(machine: FakeMachine, file: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    status = commands.firewall(machine.host, str(file), out, err, as_json=False, installed=False)
    assert status == 0
    assert 'oifname "wg0" return' in out.getvalue()
    assert err.getvalue().startswith("socket-agent: left out: rules.process: ")
    json_out = io.StringIO()
    commands.firewall(machine.host, str(file), json_out, err, as_json=True, installed=False)
    found = json.loads(json_out.getvalue())
    assert found["text"] == out.getvalue()
    assert (found["rules"], found["unconditional"]) == (["vpn"], [])
    assert len(found["left_out"]) == 1


def test_policy_without_a_rule_set_fails(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(json.dumps(document(PROCESS)))
    out = io.StringIO()
    assert cli.main(["firewall", str(file)], out) == commands.FAILURE
    assert out.getvalue() == ""
    assert "a packet filter cannot express" in capsys.readouterr().err
