# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people take out of the page: CSV, text, print, the next step."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import yaml

from tests.integration.browser import Browser, Page
from tests.integration.stuck_page.helpers import (
    Finding,
    count,
    has_verdict,
    rows,
)
from tests.support.topologies.waiting import until


def test_yaml_of_the_next_step_is_what_it_shows(large: Page) -> None:
    # The functions of the page are private to its module; this is their text.
    folder = Path(__file__).parents[3] / "plugins/plugin_utils/_report"
    values = {
        "text": [
            "8s",
            "123",
            "1e3",
            "0x10",
            "yes",
            "On",
            "null",
            "~",
            "n",
            "a b",
            "",
            "12:30",
            "-",
        ],
        "words": ["nginx", "node_exporter.service", "x-1", "größe", "a: b", "#", "2026-11-30"],
        "numbers": [0, 443],
        "any": [{"local": "[2001:db8::1]:443", "remote": "10.0.0.1:1"}, {"a": {"b": ["c"]}}],
        "stuck": {"verdict": "zero_window", "for": "8s"},
    }
    text = large.evaluate(
        f"(() => {{ {(folder / 'steps.js').read_text()}\n"
        f"return playText('Watch', 'web-1', {json.dumps({'name': 'x', 'module': values})}) }})()"
    )

    (play,) = yaml.safe_load(text)
    assert play["tasks"] == [{"name": "x", "module": values}]
    assert (play["hosts"], play["become"]) == ("web-1", True)


def test_csv_contains_what_the_filter_shows(
    browser: Browser, large: Page, findings: list[Finding], tmp_path: Path
) -> None:
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    large.fill("#verdict", "retransmitting")
    large.click("#csv")
    path = tmp_path / "stuck-report.csv"
    until(lambda: path.exists() and path.stat().st_size > 0, "the file is saved")
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    expected = [finding for finding in findings if has_verdict("retransmitting")(finding)]

    assert {line["cookie"] for line in lines} == {finding["cookie"] for finding in expected}
    by_cookie = {finding["cookie"]: finding for finding in expected}
    for line in lines:
        finding = by_cookie[line["cookie"]]
        assert line["host"] == finding["host"]
        assert line["verdict"] == finding["leading"]
        assert line["verdicts"].split() == [entry["verdict"] for entry in finding["verdicts"]]
        assert line["remote"] == finding["remote"]
        assert line["for_ms"] == str(finding["for_ms"] or "")
    assert large.errors == []


def test_csv_is_no_formula(large: Page) -> None:
    # The functions of the page are private to its module; this is their text.
    source = (Path(__file__).parents[3] / "plugins/plugin_utils/_report/export.js").read_text()
    text = large.evaluate(
        "(() => {"
        + source
        + """
        return csvText(["a", "b"], [{a: "=1+1", b: 'say "x", y'}, {a: -5, b: ["p", "q"]},
          {a: "@x", b: null}]) })()"""
    )

    assert text == 'a,b\r\n\'=1+1,"say ""x"", y"\r\n-5,p q\r\n\'@x,\r\n'


def test_table_and_next_step_are_copied(browser: Browser, large: Page) -> None:
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    large.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    large.fill("#verdict", "close_wait")
    large.click("#copy")
    until(lambda: large.evaluate("window.copied ?? null") is not None, "the table is copied")
    lines = large.evaluate("window.copied").split("\n")
    assert len(lines) == 1 + count(large)
    assert lines[0].split("\t")[:3] == ["host", "namespace", "verdict"]
    until(lambda: large.texts("#copy") == ["Copy table"], "the button has its name again")
    large.click("tr.group .open")
    large.click("tr.detail .copy")
    until(lambda: "\n" not in large.evaluate("window.copied"), "the command is copied")
    assert large.evaluate("window.copied") == large.texts("tr.detail pre")[0]
    large.click("tr.group .open")


def test_text_is_copied_without_a_clipboard_object(large: Page) -> None:
    """As on a page without HTTPS."""
    large.evaluate(
        "navigator.clipboard.writeText = async () => { throw new Error('not allowed') };"
        "document.addEventListener('copy', () => {"
        " window.selected = document.activeElement.value }, {once: true})"
    )
    large.fill("#verdict", "close_wait")
    large.evaluate("document.getElementById('copy').focus()")
    large.press("Enter")
    until(lambda: large.evaluate("window.selected ?? null") is not None, "text was selected")

    assert large.evaluate("window.selected").startswith("host\tnamespace\t")


def test_print_shows_all_rows_of_the_filter(large: Page) -> None:
    large.set_hash("group=0&verdict=close_wait&size=25")
    shown = rows(large)
    large.evaluate("dispatchEvent(new Event('beforeprint'))")
    large.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert shown == 25 < rows(large) == count(large)
        for selector in ("#find", "#csv", "#next", ".open"):
            assert large.texts(selector) == [], selector
    finally:
        large.call("Emulation.setEmulatedMedia", media="")
        large.evaluate("dispatchEvent(new Event('afterprint'))")
    assert rows(large) == 25


def test_next_step_texts_of_every_row_are_valid(large: Page) -> None:
    """Each text parses: see test_steps.py for what the selectors select."""
    large.set_hash("size=1000")
    data = large.evaluate("JSON.parse(document.getElementById('data').textContent)")
    selector = data["columns"].index("selector")
    assert all(row[selector] for row in data["rows"])
    assert all(group["selector"] for group in data["groups"] if group["size"] > 1)
    large.click("tr.row .open")
    names = large.texts("tr.detail .choices button")
    assert names == [
        "Watch: socketctl",
        "Watch: Ansible",
        "Destroy: socketctl",
        "Destroy: Ansible",
        "Selector",
    ]
    large.click("tr.row .open")
