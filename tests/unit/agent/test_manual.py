# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual documents all keys, metrics, commands and exit statuses of the agent."""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from linuxnet_sockets.agent import cli, commands, protocol, request_server
from linuxnet_sockets.agent.metrics import PREFIX, collect, render
from linuxnet_sockets.agent.state import INHIBITED_BY
from linuxnet_sockets.agent.status import OVERDUE, build_status
from linuxnet_sockets.policy import findings
from tests.support.fake_machine import connection
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Harness
from tests.unit.agent.full_state import NOW, full_state

_RST = Path(__file__).parents[3] / "docs" / "docsite" / "rst"
_GUIDE = (_RST / "agent.rst").read_text(encoding="utf-8")
_PAGE = (_RST / "agent_reference.rst").read_text(encoding="utf-8")


def section(title: str) -> str:
    _before, rest = _PAGE.split(f"\n{title}\n{'-' * len(title)}\n")
    return re.split(r"\n\S[^\n]*\n-{3,}\n", rest)[0]


def first_column(text: str) -> set[str]:
    """Return the literals in the first column of the tables."""
    cells = re.findall(r"\n  \* - (.*?)\n    - ", text, re.DOTALL)
    return {word for cell in cells for word in re.findall(r"``(.+?)``", cell)}


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted path of each leaf. List items share one path; Counts have any keys."""
    if isinstance(value, dict) and path.endswith(("outcomes", "].unenforced")):
        yield f"{path}.*"
    elif path.endswith("record"):
        yield path
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from leaves(child, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for item in value:
            yield from leaves(item, f"{path}[]")
    else:
        yield path


def test_status_keys_are_documented() -> None:
    keys, _table_of_statuses = section("status.json").split("The status of a violation")
    documented = first_column(keys)
    keys_written = set(leaves(build_status(full_state(), NOW)))
    # Keys that can be null have a row of their own.
    nullable = {"policy", "rejected", "pause", "trial", "last_pass", "budget"}
    assert documented == keys_written | nullable


def test_statuses_and_inhibitors_are_documented() -> None:
    for status in findings.STATUSES:
        assert f"  * - ``{status}``\n" in section("status.json")
    for reason in (*INHIBITED_BY, OVERDUE):
        assert f"\n``{reason}``" in _GUIDE
        assert f"``{reason}``" in section("status.json")


def test_metrics_and_labels_are_documented() -> None:
    exported = set()
    for metric in collect(full_state(), NOW):
        labels = ", ".join(metric.samples[0][0])
        exported.add(f"{PREFIX}{metric.name}" + (f"{{{labels}}}" if labels else ""))
    assert first_column(section("Metrics")) == exported
    assert set(re.findall(rf"{PREFIX}\w+", _PAGE)) <= {name.partition("{")[0] for name in exported}


def test_commands_and_options_are_documented() -> None:
    page = section("Commands")
    (choices,) = (
        action.choices
        for action in cli.get_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    assert {word.split()[0] for word in first_column(page)} - set("01235") == set(choices)
    for command in choices.values():
        for action in command._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or f"``{option}" in page, option


def test_exit_statuses_are_documented() -> None:
    numbers = set(cli.EXIT_STATUSES)
    assert {int(word) for word in first_column(section("Commands")) if word.isdigit()} == numbers


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool of Prometheus")
def test_alerts_are_valid(tmp_path: Path) -> None:
    """Prometheus accepts them, and they fire for the metrics of an unhealthy agent."""
    (block,) = re.findall(r"code-block:: yaml\n\n(    - alert:.*?)\n\n\S", _PAGE, re.DOTALL)
    rules = yaml.safe_load(block)
    groups = {"groups": [{"name": "agent", "rules": rules}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(groups))
    series = [
        {"series": f"{line.rpartition(' ')[0]}", "values": f"{line.rpartition(' ')[2]}x30"}
        for line in render(collect(full_state(), NOW)).splitlines()
        if not line.startswith("#")
    ]
    fires = {
        "alertname": "SocketAgentUnenforced",
        "eval_time": "15m",
        "exp_alerts": [
            {
                "exp_labels": {"rule": "a-rule", "reason": "survived"},
                "exp_annotations": {
                    "summary": "1 violations of a-rule cannot be destroyed: survived"
                },
            }
        ],
    }
    test = {
        "rule_files": ["rules.yml"],
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": [fires]}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    for arguments in (("check", "rules", "rules.yml"), ("test", "rules", "test.yml")):
        done = subprocess.run(
            [str(PROMTOOL), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def event_keys(harness: Harness) -> dict[str, set[str]]:
    """Return the keys of each kind of event."""
    harness.machine.add(connection(local_port=1))
    harness.machine.add(connection(local_port=2))
    protect = {"selectors": [{"local_port": 2}]}
    harness.write(rule(hold=0, match={"state": "all"}), protect=protect)
    harness.run_for()
    harness.policy.write_text("{")
    harness.run_for(11)
    found: dict[str, set[str]] = {}
    for event in harness.events:
        found.setdefault(event["event"], set()).update(event.keys() - {"event"})
    return found


def test_event_keys_are_documented(event_keys: dict[str, set[str]]) -> None:
    page = section("Events")
    assert first_column(page) == {"event", *event_keys}
    for name, keys in event_keys.items():
        (row,) = re.findall(rf"  \* - ``{name}``\n    - (.*?)(?=\n  \* -|\n\n|\Z)", page, re.DOTALL)
        lines = first_column(section("The journal")) if name == "violation" else set()
        assert keys - lines <= set(re.findall(r"``(\w+)``", row)), name


def test_journal_keys_are_documented(event_keys: dict[str, set[str]]) -> None:
    documented = first_column(section("The journal"))
    assert documented == event_keys["violation"] - {"status"}


def test_budget_file_keys_are_documented(harness: Harness) -> None:
    harness.write(rule(hold=0))
    harness.run_for()
    records = (harness.runtime / "budget.json").read_text().splitlines()
    assert len(records) == 2
    for record in records:
        assert first_column(section("budget.json")) == set(json.loads(record))


def test_requests_and_their_errors_are_documented() -> None:
    requests = {*protocol.CHANGES, protocol.STATUS, protocol.EVENTS}
    headings = {"request", "error.name"}
    assert first_column(section("Requests")) == headings | requests | set(protocol.ERRORS)
    text = section("Requests")
    for number in (
        protocol.MAX_REQUEST_BYTES,
        request_server.MAX_CLIENTS_PER_USER,
        request_server.MAX_CLIENTS,
        int(request_server.CLIENT_TIMEOUT_S),
    ):
        assert re.search(rf"\b{number} (bytes|connections|of|seconds)\b", text)


def test_plan_keys_are_documented(harness: Harness) -> None:
    for port in (1, 2):
        harness.machine.add(connection(local_port=port))
    documented = first_column(section("Output of plan --json"))
    found: set[str] = set()
    for limit in (1, 5):
        harness.write(rule(), limits={"max_sockets": limit}, namespaces=["current", "nowhere"])
        out = io.StringIO()
        file = str(harness.policy)
        commands.plan(harness.machine.host, file, out, as_json=True, installed=True)
        found |= set(leaves(json.loads(out.getvalue())))
    assert {name.removesuffix("[]") for name in documented} == {
        name.removesuffix("[]") for name in found - {"budget_exceeded", "not_evaluated"}
    }
