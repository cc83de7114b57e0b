# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of equal findings, and short names of hosts."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.plugin_utils._report.document import build_report
from plugins.plugin_utils._report.groups import folded_suffixes, group_equal, short_names
from tests.support.sample_results import TIME, info_result, record, verdict

CLOSE = verdict("close_wait", 70_000)


def test_equal_findings_form_a_group() -> None:
    same = [record(CLOSE, cookie=str(number), local_port=number) for number in (1, 2, 3)]
    others: list[dict[str, Any]] = [
        record(verdict("zero_window", 60_000), cookie="4"),
        record(CLOSE, verdict("address_gone"), cookie="5"),
        record(CLOSE, cookie="6", remote="198.51.100.8"),
        record(CLOSE, cookie="7", namespace="blue"),
        record(CLOSE, cookie="8", processes=[{"pid": 1, "comm": "b", "unit": None}]),
    ]
    report = build_report(
        {"web": info_result(*same, *others), "db": info_result(record(CLOSE, cookie="9"))},
        time=TIME,
    )
    groups = group_equal(report["findings"])

    assert sorted(map(len, groups)) == [1, 1, 1, 1, 1, 1, 3]
    assert {finding["cookie"] for finding in max(groups, key=len)} == {"1", "2", "3"}


@pytest.mark.parametrize(
    ("names", "suffixes"),
    [
        ([], []),
        (["web-1.example.net"], []),
        (["web-1", "web-2"], []),
        (["web-1.example.net", "web-2.example.net"], [".example.net"]),
        (["a.fra.example.net", "b.fra.example.net"], [".fra.example.net"]),
        (
            ["a.fra.example.net", "b.fra.example.net", "c.ams.example.net"],
            [".fra.example.net", ".example.net"],
        ),
        (["a.example.net", "b.example.org"], []),
        (["10.0.0.1", "10.1.0.1", "10.2.0.1"], []),
        (["2001:db8::1.2.3.4", "a"], []),
        (["..", ".example.net", "x.example.net"], []),
    ],
)
def test_domains_of_most_hosts_are_folded(names: list[str], suffixes: list[str]) -> None:
    assert folded_suffixes(names) == suffixes


def test_short_names_stay_unique() -> None:
    names = ["web-1.example.net", "web-1", "web-2.example.net", "web-2.other.org", "10.0.0.1"]
    short = short_names(names, [".example.net"])

    assert short == {
        "web-1.example.net": "web-1.example.net",
        "web-1": "web-1",
        "web-2.example.net": "web-2",
        "web-2.other.org": "web-2.other.org",
        "10.0.0.1": "10.0.0.1",
    }
