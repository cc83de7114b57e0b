# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""policy check, plan and enforce: files in JSON and YAML, results and exit statuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.socketctl import exit_status
from tests.support.drain_timeline import Timeline
from tests.support.fake_machine import connection
from tests.unit.socketctl.conftest import Shell

POLICY: dict[str, Any] = {
    "version": 1,
    "limits": {"max_sockets": 5, "per": "1m"},
    "rules": [
        {"name": "web", "match": {"remote_port": 443}, "hold": "0s"},
        {"name": "watch", "match": {"remote_port": 80}, "action": "report"},
    ],
}
YAML = """
version: 1
limits: {max_sockets: 5, per: 1m}
rules:
  - name: web
    match: {remote_port: 443}
    hold: 0s
  - name: watch
    match: {remote_port: 80}
    action: report
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(POLICY))
    return str(path)


@pytest.fixture
def yaml_file(tmp_path: Path) -> str:
    path = tmp_path / "policy.yml"
    path.write_text(YAML)
    return str(path)


def test_valid_policy(file: str, yaml_file: str, socketctl: Shell) -> None:
    done = socketctl("policy", "check", file)
    assert done.status == 0
    assert done.out.startswith("valid: 2 rules, mode enforce, digest ")
    assert socketctl("policy", "check", yaml_file).out == done.out
    assert socketctl("policy", "check", "-", stdin=YAML.encode()).out == done.out
    assert socketctl("policy", "check", file, "--json").json == api.check_policy(POLICY).to_dict()


@pytest.mark.parametrize("command", ["check", "plan", "enforce"])
def test_every_error_of_a_policy_is_on_a_line(command: str, socketctl: Shell) -> None:
    done = socketctl(
        "policy",
        command,
        "-",
        *(["--yes"] if command == "enforce" else []),
        stdin=b'{"version": 1}',
    )
    assert done.status == exit_status.FAILED
    assert done.out == ""
    heading, *errors = done.err.splitlines()
    assert "2 errors" in heading
    assert [line[:16] for line in errors] == ["- policy.limits:", "- policy.rules: "]


def test_errors_of_a_policy_as_json(socketctl: Shell) -> None:
    done = socketctl("policy", "check", "-", "--json", stdin=b'{"version": 1}')
    assert done.status == exit_status.FAILED
    assert done.json["valid"] is False
    lines = socketctl("policy", "check", "-", "--ndjson", stdin=b'{"version": 1}').lines
    assert [line["error"] for line in lines] == done.json["errors"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "standard input is empty"),
        (b'{"version": 1', "not JSON"),
        (b'{"version": 1, "version": 1}', "more than once"),
        (b"version: 1\nversion: 2", "duplicate key 'version'"),
        (b"a: [", "not valid YAML or JSON"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_file_that_is_no_document(content: bytes, words: str, socketctl: Shell) -> None:
    done = socketctl("policy", "check", "-", stdin=content)
    assert done.status == exit_status.FAILED
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_missing_file(socketctl: Shell) -> None:
    done = socketctl("policy", "plan", "/nowhere/policy.json")
    assert done.status == exit_status.FAILED
    assert (
        done.err == "socketctl: /nowhere/policy.json cannot be read: No such file or directory.\n"
    )


def test_yaml_without_its_package(
    file: str, yaml_file: str, socketctl: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    done = socketctl("policy", "check", yaml_file)
    assert done.status == exit_status.FAILED
    assert "python3-yaml" in done.err
    assert socketctl("policy", "check", file).status == 0


def test_plan_shows_sockets_by_rule(machine: Timeline, file: str, socketctl: Shell) -> None:
    machine.add(connection())
    machine.add(connection(remote_port=80))
    done = socketctl("policy", "plan", file)
    assert done.status == 0
    assert [line.split(":")[0] for line in done.out.splitlines()] == [
        "web",
        "  would be destroyed",
        "watch",
        "  reported only",
    ]
    plan = api.plan_policy(POLICY, host=machine.host).to_dict()
    assert socketctl("policy", "plan", file, "--json").json == plan
    lines = socketctl("policy", "plan", file, "--ndjson").lines
    assert [line["rule"] for line in lines] == ["web", "watch"]
    assert socketctl("policy", "plan", file, "--detailed-exitcode").status == exit_status.VIOLATIONS


def test_detailed_exit_status_without_violations(
    machine: Timeline, file: str, socketctl: Shell
) -> None:
    machine.add(connection(remote_port=80))
    assert socketctl("policy", "plan", file, "--detailed-exitcode").status == 0


def test_enforce_asks_and_destroys(machine: Timeline, file: str, socketctl: Shell) -> None:
    machine.add(connection())
    machine.add(connection(remote_port=80))
    refused = socketctl("policy", "enforce", file, typed="n\n")
    assert refused.status == exit_status.FAILED
    assert socketctl("policy", "enforce", file).status == exit_status.USAGE
    assert socketctl("policy", "enforce", "-", stdin=YAML.encode()).status == exit_status.USAGE
    dry = socketctl("policy", "enforce", file, "--dry-run")
    assert dry.out.splitlines()[-1] == "1 socket (dry run): 1 destroyed."
    done = socketctl("policy", "enforce", file, typed="y\n")
    assert done.status == 0
    assert "Destroy 1 socket? [y/N]" in done.err
    assert done.out.splitlines()[-1] == "1 socket: 1 destroyed."
    assert api.find(host=machine.host).matched == 1
    again = socketctl("policy", "enforce", file, "--yes", "--json")
    assert again.json["outcomes"] == {}
    assert again.status == 0


def test_budget_of_a_policy_refuses(machine: Timeline, file: str, socketctl: Shell) -> None:
    for port in range(6):
        machine.add(connection(local_port=port + 1))
    done = socketctl("policy", "enforce", file, "--yes")
    assert done.status == exit_status.LIMIT
    assert "Budget exceeded" in done.err
    assert socketctl("policy", "plan", file, "--detailed-exitcode").status == exit_status.VIOLATIONS


def test_nftables_rules(tmp_path: Path, socketctl: Shell, machine: Timeline) -> None:
    vpn = {"name": "vpn", "match": {"user": 1000, "not": {"local": "interface:wg0"}}}
    document = {**POLICY, "rules": [vpn, *POLICY["rules"]]}
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(document))
    rules = api.firewall_rules(document, host=machine.host)
    done = socketctl("policy", "firewall", str(file))
    assert (done.status, done.out) == (0, rules.text)
    assert "left out: rules.web: a packet filter cannot express match.user: " in done.err
    as_json = socketctl("policy", "firewall", str(file), "--json")
    assert json.loads(as_json.out) == rules.to_dict()


def test_policy_without_nftables_rules_fails(file: str, socketctl: Shell) -> None:
    done = socketctl("policy", "firewall", file)
    assert (done.status, done.out) == (exit_status.FAILED, "")
    assert "rules.web: a packet filter cannot express match.user: it is missing" in done.err
