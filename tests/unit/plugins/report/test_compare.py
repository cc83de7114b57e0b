# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison with an earlier report: new, still there, gone, and what cannot be compared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugins.plugin_utils._report.document import ReportError, build_report
from plugins.plugin_utils._report.page import render_page
from plugins.plugin_utils._report.text import render_text
from tests.support.ansible_template import templated
from tests.support.sample_results import TIME, UNREACHABLE, info_result, record, verdict

EARLIER = "2026-11-20T06:00:00Z"
EARLIEST = "2026-11-19T06:00:00Z"


def stuck(cookie: str, **changes: Any) -> dict[str, Any]:
    return record(verdict("close_wait", 70_000), cookie=cookie, **changes)


def report(results: dict[str, Any], *, time: str = TIME, **options: Any) -> dict[str, Any]:
    return build_report(results, time=time, **options)


def counts(compared: dict[str, Any]) -> tuple[int, ...]:
    return tuple(compared["comparison"][key] for key in ("new", "still", "gone", "unknown"))


@pytest.fixture
def earlier() -> dict[str, Any]:
    return report({"web": info_result(stuck("1"), stuck("2"))}, time=EARLIER)


def test_new_still_and_gone(earlier: dict[str, Any]) -> None:
    compared = report({"web": info_result(stuck("2"), stuck("3"))}, previous=json.dumps(earlier))
    changes = {finding["cookie"]: finding["change"] for finding in compared["findings"]}

    assert changes == {"2": "still", "3": "new"}
    assert [finding["cookie"] for finding in compared["gone"]] == ["1"]
    assert counts(compared) == (1, 1, 1, 0)
    sentence = compared["comparison"]["sentence"]
    assert sentence == (
        "Compared with the report of 2026-11-20 06:00:00 UTC: 1 new, 1 still there, 1 gone."
    )
    assert sentence in " ".join(render_text(compared).split())
    assert compared["remarks"] == []


def test_report_without_an_earlier_one_compares_nothing(earlier: dict[str, Any]) -> None:
    assert (earlier["comparison"], earlier["gone"]) == (None, [])
    assert {finding["change"] for finding in earlier["findings"]} == {None}


def test_first_time_survives_a_chain_of_reports() -> None:
    first = report({"web": info_result(stuck("1"))}, time=EARLIEST)
    second = report({"web": info_result(stuck("1"))}, time=EARLIER, previous=first)
    third = report({"web": info_result(stuck("1"))}, previous=second)

    assert third["findings"][0]["first_time"] == EARLIEST
    assert "2026-11-19 06:00:00 UTC" in render_page(third)


def test_a_socket_that_reuses_the_endpoints_is_new(earlier: dict[str, Any]) -> None:
    # The cookie differs although host and endpoints are equal.
    compared = report({"web": info_result(stuck("9"))}, previous=earlier)

    assert counts(compared) == (1, 0, 2, 0)


@pytest.mark.parametrize(
    "now",
    [
        {"web": UNREACHABLE},
        {"other": info_result()},
        {"web": info_result(stuck("7"), matched=5)},
    ],
)
def test_nothing_is_gone_on_a_host_that_was_not_checked_completely(
    earlier: dict[str, Any], now: dict[str, Any]
) -> None:
    compared = report(now, previous=earlier)

    assert compared["gone"] == []
    assert compared["comparison"]["unknown"] == 2
    assert compared["remarks"][-1].startswith("2 connections could not be compared")


def test_nothing_is_new_on_a_host_that_was_not_checked_completely_before() -> None:
    before = report({"web": UNREACHABLE, "db": info_result(stuck("1"), matched=9)}, time=EARLIER)
    compared = report(
        {"web": info_result(stuck("1")), "db": info_result(stuck("2"))}, previous=before
    )

    assert {finding["change"] for finding in compared["findings"]} == {"unknown"}
    assert counts(compared) == (0, 0, 1, 2)


def test_another_selection_is_a_remark(earlier: dict[str, Any]) -> None:
    now = {"web": info_result()}
    same = report(
        now, previous=report(now, time=EARLIER, selection={"a": [1]}), selection={"a": [1]}
    )
    other = report(now, previous=earlier, selection={"a": [1]})

    assert same["comparison"]["same_selection"]
    assert same["remarks"] == []
    assert not other["comparison"]["same_selection"]
    assert "other variables" in other["remarks"][-1]


@pytest.mark.parametrize(
    ("previous", "problem"),
    [
        ("", "not valid JSON"),
        ("<html>", "not valid JSON"),
        ("[]", "no report of stuck connections"),
        ("{}", "no report of stuck connections"),
        (7, "no report of stuck connections"),
        ({"version": 2, "hosts": [], "findings": []}, "a report of version 2"),
        ({"hosts": [], "findings": []}, "a report of version None"),
        ({"version": 1, "hosts": "x", "findings": []}, "hosts is not a list of mappings"),
        ({"version": 1, "hosts": [], "findings": [1]}, "findings is not a list of mappings"),
    ],
)
def test_other_files_are_rejected(previous: Any, problem: str) -> None:
    with pytest.raises(ReportError) as error:
        report({}, previous=previous)

    assert str(error.value).startswith(f"previous: {problem}")
    assert "version 1" in str(error.value)


def test_changed_findings_of_an_earlier_file_do_no_harm() -> None:
    evil = "</script>\u202e{{ 7 * 7 }}"
    entry = dict.fromkeys(
        ("host", "local", "remote", "cookie", "first_time", "state", "processes"), evil
    )
    previous = {
        "version": 1,
        "time": evil,
        "hosts": [{"name": evil, "status": "answered", "found": 2, "listed": 2}, {}],
        "findings": [entry, {}, {"verdicts": [{"verdict": evil, "evidence": {evil: evil}}]}],
    }
    compared = report({evil: info_result()}, previous=previous)

    assert [finding["host"] for finding in compared["gone"]] == ["</script>\\u202e{{ 7 * 7 }}"]
    html = render_page(compared)
    assert "</script>\\u" not in html
    assert "\u202e" not in html


def test_ansible_shows_what_is_wrong_with_an_earlier_report() -> None:
    done = templated(f"records | linuxnet.sockets.stuck_report('{TIME}', previous='nothing')", {})

    assert done.returncode != 0
    assert "previous: not valid JSON" in " ".join((done.stdout + done.stderr).split())
