# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables rules of a policy, from the API and from its commands."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.agent import commands
from linuxnet_sockets.errors import NotExpressible, PolicyErrors
from linuxnet_sockets.policy.nftables_rules import rule_set
from tests.support.fake_machine import FakeMachine
from tests.support.policy_documents import document, policy, rule

VPN = rule("vpn", match={"user": 1000, "not": {"local": "interface:wg0"}})
HOSTILE = rule("hostile", match={"user": 1000, "process": "\x1b[2J"})


def test_rules_and_what_they_leave_out(machine: FakeMachine) -> None:
    rules = api.firewall_rules(document(VPN, HOSTILE), host=machine.host)
    assert (rules.rules, rules.unconditional) == (("vpn",), ())
    assert [error.place for error in rules.left_out] == ["rules.hostile"]
    content = rules.to_dict()
    assert content["text"] == rules.text == rule_set(policy(VPN, HOSTILE)).text
    assert "\n\t\t" in content["text"]
    assert content["left_out"] == [api.describe(rules.left_out[0])]
    assert content["warnings"] == [api.describe_warning(each) for each in rules.warnings]


def test_output_of_the_agents_command(machine: FakeMachine, tmp_path: Path) -> None:
    file, out = tmp_path / "policy.json", io.StringIO()
    file.write_text(json.dumps(document(VPN, HOSTILE)))
    commands.firewall(machine.host, str(file), out, out, as_json=True, installed=False)
    rules = api.firewall_rules(document(VPN, HOSTILE), host=machine.host)
    assert json.loads(out.getvalue()) == rules.to_dict()


def test_policy_without_a_rule_that_can_be_expressed(machine: FakeMachine) -> None:
    with pytest.raises(NotExpressible) as raised:
        api.firewall_rules(document(HOSTILE), host=machine.host)
    assert "rules.hostile: a packet filter cannot express process: " in api.describe(raised.value)


def test_wrong_policy(machine: FakeMachine) -> None:
    with pytest.raises(PolicyErrors):
        api.firewall_rules({"version": 1}, host=machine.host)
