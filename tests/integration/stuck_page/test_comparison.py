# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison of the page with an earlier report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.browser import Browser, Page
from tests.integration.stuck_page.helpers import (
    DESKTOP,
    count,
)
from tests.support.sample_fleet import (
    earlier_report,
)
from tests.support.topologies.waiting import until


def test_comparison_is_shown_and_filters(
    browser: Browser, files: dict[str, Path], reports: dict[str, dict[str, Any]]
) -> None:
    page = browser.open(files["compared"])
    page.resize(*DESKTOP)
    compared = reports["compared"]["comparison"]

    assert compared["sentence"] in page.texts(".comparison")
    page.fill("#change", "new")
    assert count(page) == compared["new"] > 0
    assert {text.split()[-1] for text in page.texts("tbody tr .badge")} == {"new"}
    page.fill("#change", "still")
    assert count(page) == compared["still"] > 0
    page.evaluate("document.querySelector('#gone ~ details').open = true")
    assert len(page.texts(".gone li")) == compared["gone"] > 0


def _choose_file(page: Page, path: Path) -> None:
    """Choose a file in the page, as the dialog of the browser does."""
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    found = page.call("DOM.querySelector", nodeId=document, selector="#earlier")
    page.call("DOM.setFileInputFiles", files=[str(path)], nodeId=found["nodeId"])
    until(lambda: page.texts("#compared p"), "the page has read the file")


def test_page_compares_with_a_file_as_the_playbook_does(
    browser: Browser, files: dict[str, Path], reports: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(earlier_report()))
    page = browser.open(files["500"])
    page.resize(*DESKTOP)
    assert not page.texts("#change")
    _choose_file(page, earlier)
    compared = reports["compared"]["comparison"]

    assert page.texts("#compared p") == [compared["sentence"]]
    page.fill("#change", "new")
    assert count(page) == compared["new"] > 0
    assert {text.split()[-1] for text in page.texts("tbody tr .badge")} == {"new"}
    page.fill("#change", "still")
    assert count(page) == compared["still"] > 0
    page.click("#compared summary")
    assert len(page.texts("#compared .gone li")) == compared["gone"] > 0
    # Another comparison replaces the first one.
    earlier.write_text(json.dumps(reports["500"]))
    _choose_file(page, earlier)
    until(
        lambda: "0 new, 500 still there, 0 gone" in page.texts("#compared p")[0], "compared again"
    )
    page.fill("#change", "")
    assert page.texts("tbody tr .badge") == []
    assert page.errors == []


def test_names_of_a_file_are_shown_as_text(
    browser: Browser, files: dict[str, Path], reports: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    host = next(host for host in reports["500"]["hosts"] if host["status"] == "answered")
    evil = "<img src=x onerror=alert(1)>\u202e\x1b"
    finding = dict.fromkeys(("leading", "local", "remote", "cookie"), evil)
    report = {
        "version": 1,
        "time": evil,
        "hosts": [{"name": host["name"], "status": "answered", "found": 1, "listed": 1}],
        "findings": [{**finding, "host": host["name"]}],
    }
    path = tmp_path / "evil.json"
    path.write_text(json.dumps(report))
    page = browser.open(files["500"])
    _choose_file(page, path)
    page.click("#compared summary")

    (line,) = page.texts("#compared .gone li")
    assert line.count("<img src=x onerror=alert(1)>\\u202e\\u001b") == 3
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.errors == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not valid JSON"),
        ("[]", "no report of stuck connections"),
        ('{"hosts": [], "findings": [null], "version": 1}', "no report of stuck connections"),
        ('{"hosts": [], "findings": [], "version": 2}', "a report of version 2"),
    ],
)
def test_page_refuses_other_files(
    browser: Browser, files: dict[str, Path], tmp_path: Path, text: str, problem: str
) -> None:
    other = tmp_path / "other.json"
    other.write_text(text)
    page = browser.open(files["500"])
    _choose_file(page, other)

    (shown,) = page.texts("#compared p")
    assert shown.startswith(f"other.json: {problem}; expected ")
    assert "version 1" in shown
    assert count(page) == 500
    assert page.errors == []
