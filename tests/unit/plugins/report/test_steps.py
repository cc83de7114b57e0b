# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selectors of findings and groups: they parse, select just these, and are safe to paste."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.socketctl.parser import get_parser, given_options
from plugins.plugin_utils._report.document import build_report
from plugins.plugin_utils._report.groups import group_equal
from plugins.plugin_utils._report.steps import (
    MAX_LISTED,
    command_words,
    finding_selector,
    group_selector,
    is_harmless,
)
from plugins.plugin_utils._report.verdicts import VERDICTS
from tests.support.fake_kernel import FakeRoute
from tests.support.fake_kernel.model import CLOSE_WAIT
from tests.support.fake_machine import REMOTE, connection
from tests.support.sample_fleet import fleet_report
from tests.support.sample_results import TIME, info_result, record, verdict
from tests.unit.api.conftest import Target

QUIET = {"last_data_recv": 90_000, "last_ack_recv": 90_000, "bytes_received": 1}
EVIDENCE = {"rerouted": {"leaves_by": ["wg0", "eth1"]}}


def findings(*records: dict[str, Any]) -> list[dict[str, Any]]:
    return build_report({"web": info_result(*records)}, time=TIME)["findings"]


def selected(target: Target, selector: dict[str, Any]) -> set[str]:
    """Return the cookies that a selector selects on the fake machine."""
    return {entry["cookie"] for entry in api.find(selector, host=target.host).sockets}


def parsed_words(words: str) -> dict[str, Any]:
    """Return the options that socketctl destroy reads from words, as a shell splits them."""
    parsed = get_parser().parse_args(["destroy", *shlex.split(words)])
    return dict(given_options(parsed))


def parse(selector: dict[str, Any], tmp_path: Path) -> None:
    for role in ("find", "destroy"):
        parse_selector(selector, names=Host(proc=str(tmp_path)), role=role)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """Three equal connections in CLOSE_WAIT of a process, one of another, and a lost address."""
    target = Target(tmp_path)
    target.sockets.routes.append(FakeRoute("0.0.0.0/0", ((2, "192.0.2.126"),)))
    target.process(501, comm="other")
    for port in (1, 2, 3):
        target.add(connection(local_port=port, state=CLOSE_WAIT, tcp_info=QUIET))
    target.add(connection(local_port=4, state=CLOSE_WAIT, tcp_info=QUIET), holder=501)
    target.add(connection(local="192.0.2.99", local_port=5))
    target.add(connection(local_port=6, tcp_info={"last_data_recv": 5, "last_ack_recv": 5}))
    return target


@pytest.fixture
def found(target: Target) -> list[dict[str, Any]]:
    """The findings of a report of the fake machine."""
    report = api.stuck_report(host=target.host)
    return findings(*[entry.record for entry in report.connections])


def test_selector_of_a_finding_selects_just_it(target: Target, found: list[dict[str, Any]]) -> None:
    assert len(found) == 5
    for finding in found:
        assert selected(target, finding["selector"]) == {finding["cookie"]}


def test_selector_of_a_group_selects_just_it(target: Target, found: list[dict[str, Any]]) -> None:
    group = max(group_equal(found), key=len)
    others = [finding for finding in found if finding not in group]
    selector = group_selector(group, others)

    assert selector == {
        "local": "192.0.2.1",
        "remote": f"{REMOTE}:443",
        "process": "app",
        "stuck": "close_wait",
    }
    assert selected(target, selector) == {finding["cookie"] for finding in group}
    assert len(group) == 3


def test_destroy_with_the_words_of_a_group_destroys_just_it(
    target: Target, found: list[dict[str, Any]]
) -> None:
    group = max(group_equal(found), key=len)
    selector = group_selector(group, [finding for finding in found if finding not in group])
    assert selector is not None
    options = parsed_words(f"{command_words(selector, 'current')} --max-sockets {len(group)}")
    result = api.destroy(**options, host=target.host).to_dict()

    assert result["outcomes"] == {"destroyed": 3}
    assert {entry["cookie"] for entry in result["destroyed"]} == {
        finding["cookie"] for finding in group
    }


def test_group_that_a_common_selector_cannot_separate_lists_its_endpoints(
    target: Target, found: list[dict[str, Any]]
) -> None:
    group = max(group_equal(found), key=len)
    for finding in found:
        # A program of this name is not part of a selector.
        finding["processes"] = [{"pid": 1, "comm": "{{ x }}", "unit": None}]
    selector = group_selector(group, [finding for finding in found if finding not in group])

    assert selector is not None
    assert [entry["local"] for entry in selector["any"]] == [
        f"192.0.2.1:{port}" for port in (1, 2, 3)
    ]
    assert selected(target, selector) == {finding["cookie"] for finding in group}
    assert parsed_words(command_words(selector, None))["match"] == selector


def test_group_that_is_too_long_to_list_has_no_selector() -> None:
    records = [
        record(verdict("close_wait", 70_000), local_port=port, processes=None)
        for port in range(1, MAX_LISTED + 2)
    ]
    other = record(
        verdict("close_wait", 70_000), local_port=9999, processes=[{"pid": 1, "comm": "b"}]
    )
    found = findings(*records, other)
    group = max(group_equal(found), key=len)

    assert len(group) == MAX_LISTED + 1
    assert group_selector(group, [found[-1], *found[:0]]) is None
    assert group_selector(group, []) is not None


@pytest.mark.parametrize("name", [*VERDICTS, "none", "of_a_later_version"])
@pytest.mark.parametrize("for_ms", [None, 0, 1_500, 10_000_000])
@pytest.mark.parametrize("local", ["192.0.2.10", "2001:db8::1", "fe80::1%eth0"])
def test_every_verdict_has_a_valid_selector(
    name: str, for_ms: int | None, local: str, tmp_path: Path
) -> None:
    verdicts = [] if name == "none" else [verdict(name, for_ms, **EVIDENCE.get(name, {}))]
    changes: dict[str, Any] = {"local": local}
    if name == "superseded":
        verdicts = []
        changes["superseded"] = {"silent_ms": for_ms, "by": {}}
    (finding,) = findings(record(*verdicts, **changes))
    other = {**finding, "local_port": 7, "cookie": "7"}

    assert finding["leading"] == name
    for selector in (finding["selector"], group_selector([finding, other], [])):
        assert selector is not None
        parse(selector, tmp_path)
        words = parsed_words(command_words(selector, "blue"))
        assert words["namespaces"] == ["blue"]
        parse(words["match"], tmp_path)


def test_selectors_of_a_large_report_are_valid(tmp_path: Path) -> None:
    found = fleet_report()["findings"]
    for group in group_equal(found):
        others = [entry for entry in found if entry["host"] == group[0]["host"]]
        others = [entry for entry in others if entry not in group]
        selectors = [group[0]["selector"]]
        if len(group) > 1:
            selectors.append(group_selector(group, others))
        for selector in selectors:
            assert selector is not None
            parse(selector, tmp_path)
            words = shlex.split(command_words(selector, None))
            # As the page writes the command that watches.
            get_parser().parse_args(["list", "-p", *words])


def test_a_verdict_shorter_than_its_default_is_selected_with_its_duration() -> None:
    selectors = [
        finding["selector"]["stuck"]
        for finding in findings(
            record(verdict("zero_window", 10_000)),
            record(verdict("zero_window", 9_999), cookie="2"),
            record(verdict("zero_window", None), cookie="3"),
        )
    ]

    assert selectors == [
        "zero_window",
        {"verdict": "zero_window", "for": "9s"},
        {"verdict": "zero_window", "for": "0s"},
    ]


def test_rerouted_is_selected_with_the_interfaces_that_packets_leave_by() -> None:
    unnamed, named = findings(
        record(verdict("rerouted", leaves_by=["wg0"])),
        record(verdict("rerouted", leaves_by=["{{ x }}"]), local_port=2, cookie="2"),
    )

    assert named["selector"]["stranded"] == {"verdict": "rerouted", "to": ["wg0"]}
    assert unnamed["selector"] == {
        "local": "192.0.2.10:2",
        "remote": "198.51.100.7:443",
        "state": "established",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"local": None},
        {"remote": "{{ lookup('pipe', 'id') }}"},
        {"remote": "fe80::1%$(id)"},
        {"namespace": "$(id)"},
        {"protocol": "tcp; id"},
    ],
)
def test_finding_with_invalid_data_has_no_selector(changes: dict[str, Any]) -> None:
    (finding,) = findings(record(verdict("zero_window", 10_000), **changes))

    assert finding["selector"] is None
    assert group_selector([finding, finding], []) is None


@pytest.mark.parametrize(
    "name",
    [
        "{{ lookup('pipe', 'id') }}",
        "$(id)",
        "`id`",
        "a b",
        "x'; id; '",
        'x"',
        "a\\u202eb",
        "{% raw %}",
        "!unsafe",
        "#",
        "مرحبا",
        "a,b",
    ],
)
def test_harmful_names_are_never_part_of_a_selector(name: str) -> None:
    assert not is_harmless(name)
    records = [
        record(
            verdict("close_wait", 70_000),
            local_port=port,
            cookie=str(port),
            user=name,
            device=name,
            processes=[{"pid": 1, "comm": name, "unit": f"{name}.service"}],
        )
        for port in (1, 2)
    ]
    found = findings(*records)
    selector = group_selector(found, [])

    assert selector is not None
    assert set(selector) == {"local", "remote", "stuck"}
    for text in (json.dumps(finding_selector(found[0])), command_words(selector, None)):
        assert shlex.split(text)
        assert not set(text) & set("$`;{%") - set(json.dumps({"": ""}))


def test_ordinary_names_are_harmless() -> None:
    assert not is_harmless("")
    for name in ("nginx", "postgresql@16-main.service", "node_exporter", "größe", "платёжник"):
        assert is_harmless(name)
