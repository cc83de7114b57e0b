# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in a terminal, and the filters as Ansible runs them."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.plugin_utils._report.document import ReportError, document, of_one_host
from plugins.plugin_utils._report.text import text
from tests.unit.plugins.test_text_table import templated

from .answers import MIXED, TIME, found, mixed, record, verdict


def test_several_hosts() -> None:
    assert text(mixed(), width=80, limit=2).splitlines() == [
        "3 connections on 1 of the 3 hosts that answered make no progress, most of them",
        "(2) because the peer reads no more.",
        "! 1 host could not be reached: db-2.",
        "! 1 host could not be looked at: old-1.",
        "",
        "peer reads no more          2  ████████████████  the longest for at least 12.0s",
        "application does not close  1  ████████          the longest for at least 31m40s",
        "silent                      1  ████████          the longest for at least 2h00m",
        "",
        "web-10  3  ██████████████████████████████  the longest for at least 31m40s",
        "web-2   1  ██████████                      the longest for at least 2h00m",
        "",
        "web-10  192.0.2.10:48134 → 198.51.100.7:443  php-fpm[912]",
        "    application does not close, for at least 31m40s",
        "",
        "web-10  192.0.2.10:48134 → 198.51.100.7:443  php-fpm[912]",
        "    peer reads no more, for at least 12.0s",
        "",
        "and 2 more connections",
    ]


def test_one_host() -> None:
    told = found(
        record(verdict("zero_window", 9_500, unsent_bytes=169_370, probes=5)),
        record(
            verdict("close_wait", 10_300), verdict("address_gone", local="x"), remote="2001:db8::1"
        ),
        record(verdict("orphaned", None), inode=0, processes=[]),
    )

    assert text(of_one_host(told), width=90).splitlines()[-9:] == [
        "192.0.2.10:48134 → [2001:db8::1]:443  php-fpm[912]",
        "    address gone: local x",
        "    application does not close, for at least 10.3s",
        "",
        "192.0.2.10:48134 → 198.51.100.7:443  php-fpm[912]",
        "    peer reads no more, for at least 9.5s: unsent 165.4 KiB, probes 5",
        "",
        "192.0.2.10:48134 → 198.51.100.7:443  no process",
        "    no process left",
    ]


def test_nothing_is_stuck() -> None:
    assert text(of_one_host([])) == "No connection is stuck on this host."
    assert text(document({}, time=TIME)) == "No host was asked."


def test_what_is_not_listed_is_counted() -> None:
    records = [record(verdict("zero_window", number)) for number in range(30)]

    assert text(of_one_host(records)).endswith("\n\nand 10 more connections")
    assert text(of_one_host(records), limit=0).endswith("\n\nand 30 more connections")


@pytest.mark.parametrize("width", [40, 60, 100])
def test_it_fits(width: int) -> None:
    lines = text(mixed(), width=width).splitlines()

    # An address and a port are not broken.
    assert max(map(len, lines)) <= max(width, 42)


def test_a_name_cannot_write_to_the_terminal() -> None:
    evil = "a\x1b[2J\u202eb\nc"
    entry = record(
        verdict("zero_window", 1, **{evil: evil}),
        processes=[{"pid": 1, "comm": evil, "unit": evil}],
    )
    said = text(document({evil: found(entry), "b": {"failed": True, "msg": evil}}, time=TIME))

    assert all(line.isprintable() for line in said.splitlines())
    assert "a\\u{1b}[2J\\u{202e}b\\u{a}c" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 39}, "width: 39 is not a number of 40 or more"),
        ({"width": "90"}, "width: '90' is not a number of 40 or more"),
        ({"limit": -1}, "limit: -1 is not a number of 0 or more"),
        ({"limit": True}, "limit: True is not a number of 0 or more"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReportError) as refused:
        text(mixed(), **options)

    assert str(refused.value) == message


REPORT = f"records | linuxnet.sockets.stuck_report('{TIME}')"


@pytest.mark.parametrize(
    ("expression", "records", "said"),
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
            "peer reads no more, for at least 9.5s: unsent 165.4",
        ),
    ],
)
def test_ansible_finds_the_filters(expression: str, records: Any, said: str) -> None:
    ran = templated(expression, records)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert said in ran.stdout


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (REPORT, "linuxnet.sockets.stuck_report: a mapping of hosts to answers is needed"),
        (
            "records | linuxnet.sockets.stuck_text",
            "linuxnet.sockets.stuck_text: record 0 is int, not a mapping",
        ),
        (
            "records | linuxnet.sockets.stuck_page",
            "linuxnet.sockets.stuck_page: a report of version 1 is needed",
        ),
    ],
)
def test_ansible_tells_what_is_wrong(expression: str, message: str) -> None:
    ran = templated(expression, [1])

    assert ran.returncode != 0
    assert message in ran.stdout + ran.stderr
