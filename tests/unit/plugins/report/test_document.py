# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report document: counts, order, headline and remarks, and arbitrary host results."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linuxnet_sockets.api import stuck
from linuxnet_sockets.verdicts.stranded import STRANDED
from linuxnet_sockets.verdicts.stuck import STUCK
from plugins.plugin_utils._report.document import ReportError, build_host_report, build_report
from plugins.plugin_utils._report.page import render_page
from plugins.plugin_utils._report.text import render_text
from plugins.plugin_utils._report.verdicts import VERDICTS, describe
from tests.support.sample_results import (
    FAILED,
    MIXED,
    TIME,
    facts_result,
    info_result,
    mixed_report,
    record,
    verdict,
)


def host_report(*records: dict[str, Any], **options: Any) -> dict[str, Any]:
    return build_report({"web": info_result(*records, **options)}, time=TIME)


def test_report_contains_every_host() -> None:
    report = mixed_report()

    assert [(host["name"], host["status"], host["found"]) for host in report["hosts"]] == [
        ("cache-1", "answered", 0),
        ("db-2", "unreachable", 0),
        ("old-1", "failed", 0),
        ("web-2", "answered", 1),
        ("web-10", "answered", 3),
    ]
    assert report["hosts"][1]["message"] == "ssh: connect to host db-2 port 22: No route to host"
    assert [remark.rpartition(": ")[2] for remark in report["remarks"]] == ["db-2.", "old-1."]
    totals = report["totals"]
    assert (totals["hosts"], totals["answered"], totals["affected"]) == (5, 3, 1)
    assert (totals["found"], totals["certain"], totals["left_out"]) == (4, 3, 0)
    assert totals["connections"] == 100
    assert totals["waiting_bytes"] == 4 * 18432


def test_waiting_bytes_exclude_syn_and_fin() -> None:
    ends = [record(state=state, send_queue=1) for state in ("syn-sent", "last-ack", "closing")]
    answer = info_result(*ends, record(state="fin-wait-1", send_queue=101), record(send_queue=None))

    assert build_report({"web": answer}, time=TIME)["totals"]["waiting_bytes"] == 100


def test_message_of_a_crashed_module_includes_its_stderr() -> None:
    answer = {"failed": True, "msg": "No JSON found", "module_stderr": "sh: python3:\n not found\n"}
    (host,) = build_report({"web": answer}, time=TIME)["hosts"]

    assert host["message"] == "No JSON found sh: python3: not found"


@pytest.mark.parametrize("answer", [None, {}, {"skipped": True}, "?", {"sockets": "none"}])
def test_host_without_sockets_has_no_result(answer: Any) -> None:
    report = build_report({"web": answer, "db": info_result()}, time=TIME)

    assert report["hosts"][1]["status"] == "no_result"
    (remark,) = report["remarks"]
    assert remark.startswith("1 host ")
    assert remark.endswith(": web.")
    assert "1 of 2 hosts" in report["headline"]


def test_connection_counts_once_under_its_cause() -> None:
    report = host_report(
        record(verdict("retransmitting", 63_000, retransmits=7), verdict("address_gone"))
    )

    (entry,) = report["findings"]
    assert entry["leading"] == "address_gone"
    assert [verdict["verdict"] for verdict in entry["verdicts"]] == [
        "address_gone",
        "retransmitting",
    ]
    assert entry["for_ms"] == 63_000
    assert report["totals"]["verdicts"] == {"address_gone": 1}


def test_uncertain_verdict_gives_no_duration_to_a_certain_one() -> None:
    report = host_report(record(verdict("silent", 9_000_000), verdict("no_carrier")))

    assert report["findings"][0]["for_ms"] is None
    assert report["totals"]["longest_ms"] is None
    assert report["ages"][-1] == {"from_ms": None, "to_ms": None, "verdicts": {"no_carrier": 1}}


def test_superseded_becomes_a_verdict() -> None:
    by = {"remote_port": 40_001, "cookie": "4a", "last_received_ms": 120}
    report = host_report(record(superseded={"silent_ms": 31_000, "by": by}))

    (entry,) = report["findings"][0]["verdicts"]
    assert entry == {
        "verdict": "superseded",
        "for_ms": 31_000,
        "evidence": {
            "other_remote_port": 40_001,
            "other_cookie": "4a",
            "other_last_received_ms": 120,
        },
    }


def test_every_verdict_has_a_description() -> None:
    assert {*STUCK, *STRANDED, "superseded"} == set(VERDICTS)


def test_age_belongs_to_the_step_that_starts_with_it() -> None:
    ages = [0, 999, 1_000, 59_999, 60_000, 86_399_999, 86_400_000, None]
    report = host_report(*(record(verdict("zero_window", age)) for age in ages))

    assert [sum(step["verdicts"].values()) for step in report["ages"]] == [
        2, 1, 1, 1, 0, 0, 1, 1, 1,
    ]  # fmt: skip


def test_longest_come_first_and_uncertain_last() -> None:
    report = host_report(
        record(verdict("silent", 90_000_000), cookie="1"),
        record(verdict("zero_window", 5_000), cookie="2"),
        record(verdict("no_carrier"), cookie="3"),
        record(verdict("close_wait", 6_000), cookie="4"),
    )

    assert [entry["cookie"] for entry in report["findings"]] == ["4", "2", "3", "1"]


def test_peers_and_programs_are_ranked() -> None:
    one = record(verdict("zero_window", 1), processes=[])
    other = record(verdict("close_wait", 1), remote="2001:db8::1")
    report = build_report({"a": info_result(one, other), "b": info_result(one)}, time=TIME)

    assert [(peer["name"], peer["found"], peer["hosts"]) for peer in report["peers"]] == [
        ("198.51.100.7", 2, 2),
        ("2001:db8::1", 1, 1),
    ]
    assert [program["name"] for program in report["programs"]] == ["php.service"]


def test_truncated_connections_are_counted() -> None:
    report = host_report(record(verdict("zero_window", 1)), matched=1_500)

    assert report["totals"]["left_out"] == 1_499
    assert report["headline"].startswith("At least 1 connection ")
    (remark,) = report["remarks"]
    assert "1,499 of 1,500 connections" in remark
    assert "web" in remark


def test_unknown_owners_exclude_sockets_without_owner() -> None:
    report = host_report(
        record(verdict("zero_window", 1), processes=None),
        record(verdict("orphaned", 1), processes=[], inode=0),
    )

    assert report["totals"]["owners_unknown"] == 1
    (remark,) = report["remarks"]
    assert "owner of 1 connection" in remark


def test_connections_counts_open_ones() -> None:
    facts = {
        "web": facts_result(established=7, **{"close-wait": 2, "time-wait": 90, "listening": 4})
    }

    assert build_report({"web": info_result()}, facts, time=TIME)["totals"]["connections"] == 9


ZERO, CLOSE, SILENT = verdict("zero_window", 1), verdict("close_wait", 1), verdict("silent", 1)
FOUR_CAUSES = (ZERO, CLOSE, CLOSE, verdict("no_carrier"), verdict("syn_sent", 1), SILENT)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ({}, "The report contains no hosts."),
        ({"a": FAILED}, "No host could be checked."),
        ({"a": info_result()}, "No connection is stuck on this host."),
        (
            {"a": info_result(), "b": info_result()},
            "No connection is stuck on any of 2 hosts.",
        ),
        (
            {"a": info_result(), "b": FAILED},
            "No connection is stuck on the 1 of 2 hosts that answered.",
        ),
        (
            {"a": info_result(record(SILENT))},
            "No connection is certainly stuck, but 1 may be.",
        ),
    ],
)
def test_headline_without_stuck_connections(results: dict[str, Any], expected: str) -> None:
    assert build_report(results, time=TIME)["headline"] == expected


@pytest.mark.parametrize(
    ("results", "subject", "causes"),
    [
        ({"a": info_result(record(ZERO))}, "1 connection makes", ["zero_window"]),
        (
            {"a": info_result(record(ZERO)), "b": FAILED},
            "1 connection on the only host that answered makes",
            ["zero_window"],
        ),
        (
            {
                "a": info_result(record(ZERO), record(ZERO)),
                "b": info_result(record(CLOSE)),
                "c": info_result(),
            },
            "3 connections on 2 of 3 hosts make",
            ["most of them (2)", "zero_window"],
        ),
        (
            {"a": info_result(*map(record, FOUR_CAUSES))},
            "5 connections make",
            ["mainly", "close_wait", "(2)", "no_carrier", "(1)"],
        ),
        (
            {"a": info_result(record(ZERO)), "b": info_result(record(CLOSE)), "c": FAILED},
            "2 connections on all 2 hosts that answered make",
            ["zero_window", "(1)", "close_wait", "(1)"],
        ),
    ],
)
def test_headline_names_count_hosts_and_causes(
    results: dict[str, Any], subject: str, causes: list[str]
) -> None:
    """causes: names of verdicts and other words, in the order of the sentence."""
    headline = build_report(results, time=TIME)["headline"]

    assert headline.startswith(f"{subject} no progress")
    expected = [describe(cause).cause if cause in VERDICTS else cause for cause in causes]
    assert re.search(".*".join(map(re.escape, expected)), headline), headline
    others = [entry.cause for name, entry in VERDICTS.items() if name not in causes]
    assert not [cause for cause in others if cause in headline]


def test_order_of_the_input_does_not_matter() -> None:
    reversed_results = {
        name: {**answer, "sockets": answer["sockets"][::-1]} if "sockets" in answer else answer
        for name, answer in reversed(MIXED.items())
    }
    one, other = (build_report(results, time=TIME) for results in (MIXED, reversed_results))

    assert json.dumps(one) == json.dumps(other)
    assert render_page(one) == render_page(other)
    assert render_text(one) == render_text(other)


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        ("web", ["socket_diag_info", "str"]),
        ({"matched": 0}, ["socket_diag_info", "dict"]),
        (["web"], ["record 0", "mapping", "str"]),
        (
            [record(stuck=None, stranded=None, superseded=None)],
            ["record 0 ", "details: [verdicts]"],
        ),
    ],
)
def test_invalid_records_are_rejected(data: Any, facts: list[str]) -> None:
    with pytest.raises(ReportError) as error:
        build_host_report(data)

    assert [fact for fact in facts if fact not in str(error.value)] == []


def test_results_must_be_a_mapping() -> None:
    with pytest.raises(ReportError, match=r"mapping.*list"):
        build_report([info_result()], time=TIME)  # type: ignore[arg-type]


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_ANY = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_RECORDS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(record(), _ANY),
        "stuck": st.lists(
            st.fixed_dictionaries({}, optional={"verdict": _ANY, "for_ms": _ANY, "evidence": _ANY})
        ),
        "processes": st.lists(
            st.fixed_dictionaries({}, optional={"pid": _ANY, "comm": _ANY, "unit": _ANY})
        ),
    },
)
_RESULTS = st.fixed_dictionaries(
    {}, optional={"sockets": st.lists(_RECORDS, max_size=3), "matched": _ANY, "msg": _ANY}
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), _RESULTS | _ANY, max_size=3), _ANY)
def test_arbitrary_results_give_a_report(results: dict[str, Any], facts: Any) -> None:
    report = build_report(results, dict.fromkeys(results, facts), time=TIME)

    assert len(report["hosts"]) == len(results)
    assert json.loads(json.dumps(report)) == report
    assert render_page(report).encode("utf-8").endswith(b"</html>\n")
    assert render_text(report).startswith(report["headline"].split()[0])


def test_descriptions_have_the_order_and_certainty_of_the_api() -> None:
    assert tuple(VERDICTS) == stuck.PRECEDENCE
    uncertain = {name for name, entry in VERDICTS.items() if entry.family == "maybe"}
    assert uncertain == stuck.UNCERTAIN
