# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many hosts' answers as one document: counts, order, sentences, and whatever hosts may send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linuxnet_sockets.verdicts.stranded import STRANDED
from linuxnet_sockets.verdicts.stuck import STUCK
from plugins.plugin_utils._report.document import ReportError, document, of_one_host
from plugins.plugin_utils._report.page import page
from plugins.plugin_utils._report.text import text
from plugins.plugin_utils._report.verdicts import VERDICTS

from .answers import FAILED, MIXED, TIME, facts, found, mixed, record, verdict


def reported(*records: dict[str, Any], **options: Any) -> dict[str, Any]:
    return document({"web": found(*records, **options)}, time=TIME)


def test_every_host_is_in_it_whatever_became_of_it() -> None:
    report = mixed()

    assert [(host["name"], host["status"], host["found"]) for host in report["hosts"]] == [
        ("cache-1", "looked", 0),
        ("db-2", "unreachable", 0),
        ("old-1", "failed", 0),
        ("web-2", "looked", 1),
        ("web-10", "looked", 3),
    ]
    assert report["hosts"][1]["message"] == "ssh: connect to host db-2 port 22: No route to host"
    assert report["remarks"] == [
        "1 host could not be reached: db-2.",
        "1 host could not be looked at: old-1.",
    ]
    totals = report["totals"]
    assert (totals["hosts"], totals["looked"], totals["affected"]) == (5, 3, 1)
    assert (totals["found"], totals["certain"], totals["left_out"]) == (4, 3, 0)
    assert totals["connections"] == 100
    assert totals["waiting_bytes"] == 4 * 18432


def test_what_waits_is_data_and_no_end_of_a_connection() -> None:
    ends = [record(state=state, send_queue=1) for state in ("syn-sent", "last-ack", "closing")]
    answer = found(*ends, record(state="fin-wait-1", send_queue=101), record(send_queue=None))

    assert document({"web": answer}, time=TIME)["totals"]["waiting_bytes"] == 100


def test_a_module_that_did_not_run_is_told_by_what_it_printed() -> None:
    answer = {"failed": True, "msg": "No JSON found", "module_stderr": "sh: python3:\n not found\n"}
    (host,) = document({"web": answer}, time=TIME)["hosts"]

    assert host["message"] == "No JSON found sh: python3: not found"


@pytest.mark.parametrize("answer", [None, {}, {"skipped": True}, "?", {"sockets": "none"}])
def test_a_host_without_an_answer_is_said_to_have_none(answer: Any) -> None:
    report = document({"web": answer, "db": found()}, time=TIME)

    assert report["hosts"][1]["status"] == "not_asked"
    assert report["remarks"] == ["1 host gave no answer: web."]
    assert "the 1 host that answered, of 2" in report["headline"]


def test_a_connection_counts_once_under_the_cause_and_keeps_all_its_verdicts() -> None:
    report = reported(
        record(verdict("retransmitting", 63_000, retransmits=7), verdict("address_gone"))
    )

    (entry,) = report["findings"]
    assert entry["leading"] == "address_gone"
    assert [each["verdict"] for each in entry["verdicts"]] == ["address_gone", "retransmitting"]
    assert entry["for_ms"] == 63_000
    assert report["totals"]["verdicts"] == {"address_gone": 1}


def test_what_is_only_perhaps_stuck_lends_its_clock_to_nothing_that_is_certain() -> None:
    report = reported(record(verdict("silent", 9_000_000), verdict("no_carrier")))

    assert report["findings"][0]["for_ms"] is None
    assert report["totals"]["longest_ms"] is None
    assert report["ages"][-1] == {"from_ms": None, "to_ms": None, "verdicts": {"no_carrier": 1}}


def test_superseded_is_a_verdict_like_the_others() -> None:
    by = {"remote_port": 40_001, "cookie": "4a", "heard_ms": 120}
    report = reported(record(superseded={"silent_ms": 31_000, "by": by}))

    (told,) = report["findings"][0]["verdicts"]
    assert told == {
        "verdict": "superseded",
        "for_ms": 31_000,
        "evidence": {"other_remote_port": 40_001, "other_cookie": "4a", "other_heard_ms": 120},
    }


def test_every_verdict_has_words() -> None:
    assert {*STUCK, *STRANDED, "superseded"} == set(VERDICTS)


def test_ages_fall_into_the_step_that_begins_with_them() -> None:
    ages = [0, 999, 1_000, 59_999, 60_000, 86_399_999, 86_400_000, None]
    report = reported(*(record(verdict("zero_window", age)) for age in ages))

    assert [sum(step["verdicts"].values()) for step in report["ages"]] == [
        2, 1, 1, 1, 0, 0, 1, 1, 1,
    ]  # fmt: skip


def test_the_longest_come_first_and_what_may_be_in_order_comes_last() -> None:
    report = reported(
        record(verdict("silent", 90_000_000), cookie="1"),
        record(verdict("zero_window", 5_000), cookie="2"),
        record(verdict("no_carrier"), cookie="3"),
        record(verdict("close_wait", 6_000), cookie="4"),
    )

    assert [entry["cookie"] for entry in report["findings"]] == ["4", "2", "3", "1"]


def test_peers_and_programs_are_ranked_with_their_hosts() -> None:
    one = record(verdict("zero_window", 1), processes=[])
    other = record(verdict("close_wait", 1), remote="2001:db8::1")
    report = document({"a": found(one, other), "b": found(one)}, time=TIME)

    assert [(peer["name"], peer["found"], peer["hosts"]) for peer in report["peers"]] == [
        ("198.51.100.7", 2, 2),
        ("2001:db8::1", 1, 1),
    ]
    assert [each["name"] for each in report["programs"]] == ["php.service"]


def test_what_was_not_listed_is_counted_and_said() -> None:
    report = reported(record(verdict("zero_window", 1)), matched=1_500)

    assert report["totals"]["left_out"] == 1_499
    assert report["headline"].startswith("At least 1 connection makes no progress")
    (remark,) = report["remarks"]
    assert remark.startswith("The lists are truncated: 1,499 connections of 1,500 are counted but")


def test_owners_that_are_not_known_are_said_but_not_of_what_has_none() -> None:
    report = reported(
        record(verdict("zero_window", 1), processes=None),
        record(verdict("orphaned", 1), processes=[], inode=0),
    )

    assert report["totals"]["owners_unknown"] == 1
    assert report["remarks"] == [
        "Of 1 connection the owner is unknown: no process that may be read holds it."
    ]


def test_connections_are_those_that_are_open() -> None:
    told = {"web": facts(established=7, **{"close-wait": 2, "time-wait": 90, "listening": 4})}

    assert document({"web": found()}, told, time=TIME)["totals"]["connections"] == 9


ZERO, CLOSE, SILENT = verdict("zero_window", 1), verdict("close_wait", 1), verdict("silent", 1)
FOUR = (ZERO, CLOSE, CLOSE, verdict("no_carrier"), verdict("syn_sent", 1), SILENT)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, "No host was asked."),
        ({"a": FAILED}, "No host could be looked at."),
        ({"a": found()}, "No connection is stuck on this host."),
        ({"a": found(), "b": found()}, "No connection is stuck on any of 2 hosts."),
        (
            {"a": found(), "b": FAILED},
            "No connection is stuck on the 1 host that answered, of 2.",
        ),
        (
            {"a": found(record(SILENT))},
            "No connection is stuck for certain, but 1 may be.",
        ),
        (
            {"a": found(record(ZERO))},
            "1 connection makes no progress, because the peer reads no more.",
        ),
        (
            {"a": found(record(ZERO)), "b": FAILED},
            (
                "1 connection on the only host that answered makes no progress, because the peer "
                "reads no more."
            ),
        ),
        (
            {"a": found(record(ZERO), record(ZERO)), "b": found(record(CLOSE)), "c": found()},
            (
                "3 connections on 2 of 3 hosts make no progress, most of them (2) because the peer "
                "reads no more."
            ),
        ),
        (
            {"a": found(*map(record, FOUR))},
            (
                "5 connections make no progress, above all because the application does not close "
                "(2) and the link is down (1)."
            ),
        ),
        (
            {"a": found(record(ZERO)), "b": found(record(CLOSE)), "c": FAILED},
            (
                "2 connections on all 2 hosts that answered make no progress, because "
                "the peer reads no more (1) and the application does not close (1)."
            ),
        ),
    ],
)
def test_the_headline_says_what_is_wrong(answers: dict[str, Any], expected: str) -> None:
    assert document(answers, time=TIME)["headline"] == expected


def test_the_order_of_hosts_and_sockets_in_the_input_is_of_no_matter() -> None:
    turned = {
        name: {**answer, "sockets": answer["sockets"][::-1]} if "sockets" in answer else answer
        for name, answer in reversed(MIXED.items())
    }
    one, other = (document(each, time=TIME) for each in (MIXED, turned))

    assert json.dumps(one) == json.dumps(other)
    assert page(one) == page(other)
    assert text(one) == text(other)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("web", "records or the result of socket_diag_info are needed, not str"),
        ({"matched": 0}, "records or the result of socket_diag_info are needed, not dict"),
        (["web"], "record 0 is str, not a mapping"),
        (
            [record(stuck=None, stranded=None, superseded=None)],
            "record 0 has no verdicts: ask socket_diag_info for details: [verdicts]",
        ),
    ],
)
def test_records_without_verdicts_are_refused(told: Any, message: str) -> None:
    with pytest.raises(ReportError) as refused:
        of_one_host(told)

    assert str(refused.value) == message


def test_answers_have_to_be_by_host() -> None:
    with pytest.raises(ReportError, match="a mapping of hosts to answers is needed, not list"):
        document([found()], time=TIME)  # type: ignore[arg-type]


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
_ANSWERS = st.fixed_dictionaries(
    {}, optional={"sockets": st.lists(_RECORDS, max_size=3), "matched": _ANY, "msg": _ANY}
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), _ANSWERS | _ANY, max_size=3), _ANY)
def test_whatever_hosts_answer_there_is_a_report(answers: dict[str, Any], told: Any) -> None:
    report = document(answers, dict.fromkeys(answers, told), time=TIME)

    assert len(report["hosts"]) == len(answers)
    assert json.loads(json.dumps(report)) == report
    assert page(report).encode("utf-8").endswith(b"</html>\n")
    assert text(report).startswith(report["headline"].split()[0])
