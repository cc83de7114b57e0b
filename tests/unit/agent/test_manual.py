# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual's pages about the agent name every word that it takes and tells, and no others."""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.agent import cli, commands
from linuxnet_sockets.agent.metrics import PREFIX
from linuxnet_sockets.agent.numbers import metrics_of
from linuxnet_sockets.agent.state import HELD_BACK
from linuxnet_sockets.agent.status import OVERDUE, status_of
from linuxnet_sockets.policy import findings
from tests.support.fake_machine import connection
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Bench
from tests.unit.agent.full_state import NOW, everything

_RST = Path(__file__).parents[3] / "docs" / "docsite" / "rst"
_GUIDE = (_RST / "agent.rst").read_text(encoding="utf-8")
_PAGE = (_RST / "agent_reference.rst").read_text(encoding="utf-8")


def section(title: str) -> str:
    _before, rest = _PAGE.split(f"\n{title}\n{'-' * len(title)}\n")
    return re.split(r"\n\S[^\n]*\n-{3,}\n", rest)[0]


def first_column(text: str) -> set[str]:
    """Every literal in the first column of the tables, one that is broken over lines too."""
    cells = re.findall(r"\n  \* - (.*?)\n    - ", text, re.DOTALL)
    return {word for cell in cells for word in re.findall(r"``(.+?)``", cell)}


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """The dotted paths of all that is told; a list's members are one. `outcomes` has any keys."""
    if isinstance(value, dict) and path.endswith("outcomes"):
        yield f"{path}.*"
    elif path.endswith("record"):
        yield path
    elif isinstance(value, dict):
        for key, under in value.items():
            yield from leaves(under, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for each in value:
            yield from leaves(each, f"{path}[]")
    else:
        yield path


def test_every_key_of_the_status_is_told_and_no_other() -> None:
    keys, _table_of_statuses = section("status.json").split("The status of a violation")
    documented = first_column(keys)
    told = set(leaves(status_of(everything(), NOW)))
    # What is null at times is told as a whole as well.
    wholes = {"policy", "rejected", "pause", "trial", "last_pass", "budget"}
    assert documented == told | wholes


def test_every_status_and_every_reason_is_told() -> None:
    for status in findings.STATUSES:
        assert f"  * - ``{status}``\n" in section("status.json")
    for reason in (*HELD_BACK, OVERDUE):
        assert f"\n``{reason}``" in _GUIDE
        assert f"``{reason}``" in section("status.json")


def test_every_metric_is_told_with_its_labels_and_no_other() -> None:
    told = set()
    for metric in metrics_of(everything(), NOW):
        labels = ", ".join(metric.samples[0][0])
        told.add(f"{PREFIX}{metric.name}" + (f"{{{labels}}}" if labels else ""))
    assert first_column(section("Metrics")) == told
    assert set(re.findall(rf"{PREFIX}\w+", _PAGE)) <= {name.partition("{")[0] for name in told}


def test_every_command_and_option_is_told() -> None:
    page = section("Commands")
    (choices,) = (
        action.choices
        for action in cli._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    assert {word.split()[0] for word in first_column(page)} - set("0123") == set(choices)
    for command in choices.values():
        for action in command._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or f"``{option}" in page, option


def test_every_exit_status_is_told() -> None:
    numbers = {commands.WELL, commands.NOT_WELL, cli.USAGE, commands.NOT_RUNNING}
    assert {int(word) for word in first_column(section("Commands")) if word.isdigit()} == numbers


@pytest.fixture
def told(bench: Bench) -> dict[str, set[str]]:
    """The keys of each kind of event that an agent sends."""
    bench.machine.add(connection(local_port=1))
    bench.machine.add(connection(local_port=2))
    protect = {"selectors": [{"local_port": 2}]}
    bench.write(rule(hold=0, match={"state": "all"}), protect=protect)
    bench.goes_on()
    bench.policy.write_text("{")
    bench.goes_on(11)
    found: dict[str, set[str]] = {}
    for event in bench.events:
        found.setdefault(event["event"], set()).update(event.keys() - {"event"})
    return found


def test_every_key_of_an_event_is_told(told: dict[str, set[str]]) -> None:
    page = section("Events")
    assert first_column(page) == {"event", *told}
    for name, keys in told.items():
        (row,) = re.findall(rf"  \* - ``{name}``\n    - (.*?)(?=\n  \* -|\n\n|\Z)", page, re.DOTALL)
        lines = first_column(section("The journal")) if name == "violation" else set()
        assert keys - lines <= set(re.findall(r"``(\w+)``", row)), name


def test_every_key_of_a_line_of_the_journal_is_told(told: dict[str, set[str]]) -> None:
    documented = first_column(section("The journal"))
    assert documented == told["violation"] - {"status"}


def test_every_key_of_the_count_is_told(bench: Bench) -> None:
    bench.write(rule(hold=0))
    bench.goes_on()
    written = json.loads((bench.runtime / "budget.json").read_text())
    assert first_column(section("budget.json")) == set(written)


def test_every_key_of_a_plan_is_told(bench: Bench) -> None:
    for port in (1, 2):
        bench.machine.add(connection(local_port=port))
    documented = first_column(section("Output of plan --json"))
    found: set[str] = set()
    for limit in (1, 5):
        bench.write(rule(), limits={"max_sockets": limit}, namespaces=["current", "nowhere"])
        out = io.StringIO()
        commands.plan(bench.machine.host, str(bench.policy), out, as_json=True)
        found |= set(leaves(json.loads(out.getvalue())))
    assert {name.removesuffix("[]") for name in documented} == {
        name.removesuffix("[]") for name in found - {"budget_exceeded", "not_evaluated"}
    }
