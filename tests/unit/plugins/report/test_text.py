# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as text, and the filters as Ansible runs them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from plugins.plugin_utils._report.document import ReportError, build_host_report, build_report
from plugins.plugin_utils._report.text import render_text
from tests.support.ansible_template import templated
from tests.support.sample_results import MIXED, TIME, info_result, mixed_report, record, verdict


def test_text_of_several_hosts() -> None:
    assert render_text(mixed_report(), width=80, limit=2).splitlines() == [
        "3 connections on 1 of the 3 hosts that answered make no progress, most of them",
        "(2) because the peer's receive window is zero.",
        "! 1 host could not be reached: db-2.",
        "! 1 host could not be checked: old-1.",
        "",
        "zero window  2  ██████████████████████████████  longest: at least 12.0s",
        "CLOSE_WAIT   1  ███████████████                 longest: at least 31m40s",
        "silent       1  ███████████████                 longest: at least 2h00m",
        "",
        "web-10  3  ██████████████████████████████  longest: at least 31m40s",
        "web-2   1  ██████████                      longest: at least 2h00m",
        "",
        "web-10  192.0.2.10:48134 → 198.51.100.7:443  php-fpm[912]",
        "    CLOSE_WAIT for at least 31m40s: the application has not closed its end",
        "",
        "web-10  192.0.2.10:48134 → 198.51.100.7:443  php-fpm[912]",
        "    zero window for at least 12.0s: the peer does not read",
        "",
        "and 2 more connections",
    ]


def test_text_of_one_host() -> None:
    result = info_result(
        record(verdict("zero_window", 9_500, unsent_bytes=169_370, probes=5)),
        record(
            verdict("close_wait", 10_300), verdict("address_gone", local="x"), remote="2001:db8::1"
        ),
        record(verdict("orphaned", None), inode=0, processes=[]),
    )

    assert render_text(build_host_report(result), width=90).splitlines()[-9:] == [
        "192.0.2.10:48134 → [2001:db8::1]:443  php-fpm[912]",
        "    address gone: no interface has the local address; local x",
        "    CLOSE_WAIT for at least 10.3s: the application has not closed its end",
        "",
        "192.0.2.10:48134 → 198.51.100.7:443  php-fpm[912]",
        "    zero window for at least 9.5s: the peer does not read; unsent 165.4 KiB, probes 5",
        "",
        "192.0.2.10:48134 → 198.51.100.7:443  no process",
        "    orphaned: no process holds the socket",
    ]


def test_text_without_findings() -> None:
    assert render_text(build_host_report([])) == "No connection is stuck on this host."
    assert render_text(build_report({}, time=TIME)) == "The report contains no hosts."


def test_omitted_connections_are_counted() -> None:
    records = [record(verdict("zero_window", number)) for number in range(30)]

    assert render_text(build_host_report(records)).endswith("\n\nand 10 more connections")
    assert render_text(build_host_report(records), limit=0).endswith("\n\nand 30 more connections")


@pytest.mark.parametrize("width", [40, 60, 100])
def test_lines_fit_the_width(width: int) -> None:
    lines = render_text(mixed_report(), width=width).splitlines()

    # An endpoint is not broken.
    assert max(map(len, lines)) <= max(width, 42)


def test_control_characters_in_names_are_escaped() -> None:
    evil = "a\x1b[2J\u202eb\nc"
    entry = record(
        verdict("zero_window", 1, **{evil: evil}),
        processes=[{"pid": 1, "comm": evil, "unit": evil}],
    )
    output = render_text(
        build_report({evil: info_result(entry), "b": {"failed": True, "msg": evil}}, time=TIME)
    )

    assert all(line.isprintable() for line in output.splitlines())
    assert "a\\x1b[2J\\u202eb\\x0ac" in output


@pytest.mark.parametrize(
    ("options", "start", "minimum"),
    [
        ({"width": 39}, "width: 39;", "40"),
        ({"width": "90"}, "width: '90';", "40"),
        ({"limit": -1}, "limit: -1;", "0"),
        ({"limit": True}, "limit: True;", "0"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], start: str, minimum: str) -> None:
    with pytest.raises(ReportError) as error:
        render_text(mixed_report(), **options)

    assert str(error.value).startswith(start)
    assert str(error.value).endswith(f" {minimum}")


REPORT = f"records | linuxnet.sockets.stuck_report('{TIME}')"


@pytest.mark.parametrize(
    ("expression", "records", "expected"),
    [
        (f"({REPORT}).headline", MIXED, "3 connections on 1 of the 3 hosts that answered"),
        (f"{REPORT} | linuxnet.sockets.stuck_text(limit=1)", MIXED, "and 3 more connections"),
        (
            f"({REPORT} | linuxnet.sockets.stuck_page(json='a.json') | length) > 20000",
            MIXED,
            "msg: true",
        ),
        (
            "records | linuxnet.sockets.stuck_text(width=60)",
            MIXED["web-10"]["sockets"],
            "zero window for at least 9.5s: the peer does not read;",
        ),
    ],
)
def test_ansible_runs_the_filters(expression: str, records: Any, expected: str) -> None:
    done = templated(expression, records)

    assert done.returncode == 0, done.stdout + done.stderr
    assert expected in done.stdout


@pytest.mark.parametrize(
    ("expression", "start", "fact"),
    [
        (REPORT, "linuxnet.sockets.stuck_report: ", "list"),
        (
            "records | linuxnet.sockets.stuck_text",
            "linuxnet.sockets.stuck_text: record 0: ",
            "int",
        ),
        (
            "records | linuxnet.sockets.stuck_page",
            "linuxnet.sockets.stuck_page: ",
            "version 1",
        ),
    ],
)
def test_ansible_shows_the_error_of_a_filter(expression: str, start: str, fact: str) -> None:
    done = templated(expression, [1])

    assert done.returncode != 0
    # Ansible wraps its messages.
    output = " ".join((done.stdout + done.stderr).split())
    assert re.search(f"{re.escape(start)}[^']*{fact}", output), output
