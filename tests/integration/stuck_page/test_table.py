# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters, search, order, groups and pages of the table."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from plugins.plugin_utils._report.groups import group_equal
from tests.integration.browser import Browser, Page
from tests.integration.stuck_page.helpers import (
    DESKTOP,
    PAGE_SIZE,
    Finding,
    count,
    has_verdict,
    rows,
)


def _state(text: str) -> Callable[[Finding], bool]:
    return lambda finding: finding["state"] == text


def _inside(prefix: str) -> Callable[[Finding], bool]:
    network = ipaddress.ip_network(prefix)
    return lambda finding: any(
        ipaddress.ip_address(finding[end]) in network for end in ("local", "remote")
    )


def _starts(text: str) -> Callable[[Finding], bool]:
    return lambda finding: any(finding[end].startswith(text) for end in ("local", "remote"))


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ("close_wait", has_verdict("close_wait")),
        ("CLOSE_WAIT", has_verdict("close_wait")),
        ("Close-Wait", has_verdict("close_wait")),
        ("zero window", has_verdict("zero_window")),
        ("FIN_WAIT2", _state("fin-wait-2")),
        ("fin-wait-2", _state("fin-wait-2")),
        # The second verdict of a connection counts too.
        ("retransmitting", has_verdict("retransmitting")),
        ("10.20.0.0/16", _inside("10.20.0.0/16")),
        ("10.0.0.0/8", _inside("10.0.0.0/8")),
        ("10.20.2.0/23", _inside("10.20.2.0/23")),
        ("0.0.0.0/0", _inside("0.0.0.0/0")),
        ("2001:db8:4:1::/64", _inside("2001:db8:4:1::/64")),
        ("10.20.", _starts("10.20.")),
        ("10.2", _starts("10.2")),
        ("2001:db8:4:2:", _starts("2001:db8:4:2:")),
        ("198.51.100.1", lambda finding: finding["remote"] == "198.51.100.1"),
        (":5432", lambda finding: finding["remote_port"] == 5432),
        ("[2001:db8:4:0::1]:443", lambda finding: (
            (finding["remote"], finding["remote_port"]) == ("2001:db8:4:0::1", 443))),
        ("web-1.fra", lambda finding: finding["host"].startswith("web-1.fra")),
        ("redis.service", lambda finding: (
            bool(finding["processes"]) and finding["processes"][0]["unit"] == "redis.service")),
        ("  close_wait   198.51.100.0/24 ", lambda finding: (
            has_verdict("close_wait")(finding) and _inside("198.51.100.0/24")(finding))),
        ("0.0.0.0/33", lambda _finding: False),
        ("2001:::/8", lambda _finding: False),
    ],
)  # fmt: skip
def test_search(
    large: Page, findings: list[Finding], text: str, test: Callable[[Finding], bool]
) -> None:
    large.fill("#find", text)

    assert count(large) == sum(map(test, findings))


def test_a_number_does_not_match_inside_another_one(large: Page) -> None:
    large.fill("#find", "443")
    large.evaluate("document.getElementById('size').value = '1000'")
    large.evaluate(
        "document.getElementById('size').dispatchEvent(new Event('change', {bubbles: true}))"
    )
    large.click("#grouped")
    texts = large.texts("tbody tr.row")

    assert texts
    assert all(re.search(r"(?<!\d)443", text) for text in texts)


def test_charts_filter_the_table(large: Page, reports: dict[str, dict[str, Any]]) -> None:
    report = reports["500"]
    largest = max(report["hosts"], key=lambda host: host["found"])
    age = max(report["ages"], key=lambda step: sum(step["verdicts"].values()))
    for key, value, expected in (
        ("host", largest["name"], largest["found"]),
        ("peer", report["peers"][0]["name"], report["peers"][0]["found"]),
        ("program", report["programs"][0]["name"], report["programs"][0]["found"]),
        ("age", f"{age['from_ms']}-{age['to_ms']}", sum(age["verdicts"].values())),
        ("verdict", "close_wait", report["totals"]["verdicts"]["close_wait"]),
    ):
        link = f'a[data-filter="{key}"][data-value="{value}"]'
        large.click(link)
        assert count(large) == expected, key
        assert f"{key}={quote(value, safe='')}" in large.evaluate("location.hash")
        assert large.evaluate(f"document.querySelector('{link}').ariaCurrent") == "true"
        # A second click removes the filter.
        large.click(link)
        assert count(large) == 500


@pytest.mark.parametrize(
    ("area", "key"),
    [
        (".bars.host .bar", "host"),
        (".bars.peer .bar", "peer"),
        (".bars.program .bar", "program"),
        (".ages li:nth-child(4) .column", "age"),
        (".mark .swatch", "verdict"),
    ],
)
def test_bars_and_colours_are_clickable(large: Page, area: str, key: str) -> None:
    large.click_at(area)

    assert f"{key}=" in large.evaluate("location.hash")
    assert 0 < count(large) < 500


def test_a_row_filters_by_its_host_peer_and_program(large: Page, findings: list[Finding]) -> None:
    first = findings[0]
    large.click("tr .open")
    buttons = large.texts("button.only")
    large.click("tr .open")
    for button, (key, value) in zip(
        buttons,
        (
            ("host", first["host"]),
            ("peer", first["remote"]),
            ("program", first["processes"][0]["unit"]),
        ),
        strict=True,
    ):
        assert button == f"{key} {value}"
        large.set_hash(f"size={PAGE_SIZE}")
        large.click("tr .open")
        large.choose("button.only", button)
        assert f"{key}={quote(value, safe='')}" in large.evaluate("location.hash")
        assert 0 < count(large) < 500
        large.click("tr .open")


def test_address_of_the_page_holds_the_state(
    browser: Browser, large: Page, files: dict[str, Path]
) -> None:
    large.fill("#find", "10.20. nginx")
    large.fill("#verdict", "close_wait")
    large.click("#grouped")
    large.click("thead th:nth-child(1) button")
    large.click('a[data-value="60000-600000"]')
    fragment = large.evaluate("location.hash").lstrip("#")
    again = browser.open(files["500"], fragment)
    again.resize(*DESKTOP)

    assert 0 < count(large) < 500
    assert again.texts("#count") == large.texts("#count")
    assert again.texts("tbody tr") == large.texts("tbody tr")
    assert again.texts(".chosen") == large.texts(".chosen") != []
    assert again.evaluate("document.getElementById('find').value") == "10.20. nginx"
    again.click(".chosen")
    assert "age" not in again.evaluate("location.hash")


@pytest.mark.parametrize(
    "fragment", ["page=99", "page=-1&size=x", "sort=x", "age=x-y", "verdict=x", "%", "a=%zz"]
)
def test_strange_addresses_do_no_harm(large: Page, fragment: str) -> None:
    large.set_hash(fragment)

    assert large.errors == []
    assert count(large) in (0, 500)


def test_equal_connections_are_grouped(large: Page, findings: list[Finding]) -> None:
    groups = group_equal(findings)
    large.set_hash("size=1000")
    assert large.evaluate("document.querySelectorAll('tbody tr').length") == len(groups)
    assert large.evaluate("document.querySelectorAll('tbody tr.group').length") == sum(
        len(group) > 1 for group in groups
    )
    shown = [int(text) for text in large.texts("tr.group .times span")]
    assert sum(shown) + rows(large) == 500
    size = shown[0]
    large.click("tr.group .open")
    assert rows(large) - sum(len(group) == 1 for group in groups) == size
    assert len(large.texts("tr.detail .steps")) == 1
    large.click("tr.group .open")
    # A filter that some connections of a group match says how many.
    large.fill("#find", ":443")
    assert any(" of " in text for text in large.texts("tr.group .times"))
    large.set_hash("group=0&size=1000")
    assert rows(large) == 500


def test_table_sorts_and_turns_pages(large: Page, findings: list[Finding]) -> None:
    large.set_hash(f"group=0&size={PAGE_SIZE}")
    assert rows(large) == PAGE_SIZE
    first = large.texts("tbody tr.row")
    large.click("#next")
    assert large.texts("#page") == ["Page 2 of 10"]
    assert not set(large.texts("tbody tr.row")) & set(first)
    large.click("thead th:nth-child(3) button")
    assert large.texts("#page") == ["Page 1 of 10"]
    assert (
        large.evaluate("document.querySelector('thead th:nth-child(3)').ariaSort") == "descending"
    )
    assert large.evaluate("document.querySelectorAll('thead [aria-sort]').length") == 1
    large.set_hash("group=0&size=1000&sort=age")
    unknown = sum(finding["for_ms"] is None for finding in findings)
    # Unknown durations come last in both orders.
    assert large.texts("tbody td:nth-child(3)")[-unknown:] == ["unknown"] * unknown
    large.set_hash("group=0&size=1000&sort=host")
    hosts = large.texts("tbody th")
    numbers = [int(re.sub(r"\D", "", host)) for host in hosts if host.startswith("web-")]
    assert numbers == sorted(numbers)
