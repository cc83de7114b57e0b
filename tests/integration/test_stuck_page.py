# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page with 500 findings of fifty hosts and with one finding, in a real browser."""

from __future__ import annotations

import csv
import ipaddress
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from plugins.plugin_utils._report.groups import group_equal
from plugins.plugin_utils._report.page import render_page
from plugins.plugin_utils._report.verdicts import describe
from tests.integration.browser import Browser, Page
from tests.support.sample_fleet import (
    compared_report,
    earlier_report,
    fleet_report,
    single_report,
)
from tests.support.topologies.waiting import until

REPORTS = {"500": fleet_report, "compared": compared_report, "1": single_report}
DESKTOP, PHONE = (1400, 900), (390, 844)
MAX_SCREENS = 15
PAGE_SIZE = 50

Finding = dict[str, Any]


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    return {name: make() for name, make in REPORTS.items()}


@pytest.fixture(scope="module")
def files(
    reports: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in reports}
    for name, path in paths.items():
        path.write_text(render_page(reports[name]), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def shared(browser: Browser, files: dict[str, Path]) -> Page:
    page = browser.open(files["500"])
    page.resize(*DESKTOP)
    return page


@pytest.fixture
def large(shared: Page) -> Page:
    """The page with 500 findings, without filters."""
    shared.set_hash(f"size={PAGE_SIZE}")
    shared.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    return shared


@pytest.fixture
def findings(reports: dict[str, dict[str, Any]]) -> list[Finding]:
    return reports["500"]["findings"]


def count(page: Page) -> int:
    """Return the number of connections that the filter shows."""
    return int(page.texts("#count")[0].split()[0])


def rows(page: Page) -> int:
    return page.evaluate("document.querySelectorAll('tbody tr.row').length")


def to_list(page: Page) -> None:
    page.evaluate("document.getElementById('list').scrollIntoView({behavior: 'instant'})")


def test_500_findings_take_few_screens(large: Page) -> None:
    screens = large.evaluate("document.documentElement.scrollHeight") / DESKTOP[1]
    assert screens <= MAX_SCREENS
    # Compact rows: evidence opens on demand.
    heights = large.evaluate(
        "[...document.querySelectorAll('tbody tr')].map(row => row.offsetHeight)"
    )
    assert len(heights) == PAGE_SIZE
    assert sorted(heights)[PAGE_SIZE // 2] < 40
    large.set_hash(f"group=0&size={PAGE_SIZE}")
    assert large.evaluate("document.documentElement.scrollHeight") / DESKTOP[1] <= MAX_SCREENS


@pytest.mark.parametrize("name", ["500", "1", "compared"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_readable(
    browser: Browser, files: dict[str, Path], name: str, size: tuple[int, int], scheme: str
) -> None:
    page = browser.open(files[name])
    page.resize(*size)
    page.prefer(prefers_color_scheme=scheme)
    # Details of a connection, of a group, and of the charts.
    page.evaluate(
        "document.querySelectorAll('tr.group .open, details').forEach("
        " (part, index) => part.open === false ? part.open = true : index < 2 && part.click())"
    )
    page.evaluate("document.querySelector('tr.row .open').click()")

    assert page.errors == []
    assert page.overflow() == 0
    outside = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(element => element.checkVisibility()"
        " && !element.closest('.visually-hidden, .skip')"
        f" && element.getBoundingClientRect().right > {size[0]}.5)"
        ".map(element => element.outerHTML.slice(0, 200))"
    )
    assert outside == []
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.evaluate(BROKEN_NUMBERS) == []


# Contrast of WCAG 2.2 between each visible text and the background behind it.
LOW_CONTRAST = """
(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [red, green, blue] = channels(colour).slice(0, 3).map((part) => part / 255).map(
      (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const low = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    // Controls that are switched off are exempt (WCAG 2.2, 1.4.3).
    if (element.closest(".visually-hidden, script, style, option, :disabled")) continue;
    const [one, other] = [luminance(getComputedStyle(element).color), luminance(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) low.add(`${element.outerHTML.slice(0, 120)} ${ratio.toFixed(2)}`);
  }
  return [...low].slice(0, 10);
})()
"""

# Numbers, with their units, that a line break splits. Names of hosts and programs may break.
BROKEN_NUMBERS = """
(() => {
  const broken = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    if (!element.checkVisibility() || element.closest("script, style, option, pre")) continue;
    const numbers = /\\d[\\d.,:]*(?:[hdms]\\d*| ?[KMGT]i?B|ms)*/g;
    for (const found of node.data.matchAll(numbers)) {
      const range = document.createRange();
      range.setStart(node, found.index);
      range.setEnd(node, found.index + found[0].length);
      const lines = new Set([...range.getClientRects()].map((rect) => Math.round(rect.top)));
      if (lines.size > 1) broken.add(`${found[0]} in ${element.outerHTML.slice(0, 120)}`);
    }
  }
  return [...broken].slice(0, 10);
})()
"""


@pytest.mark.parametrize("name", ["500", "1"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_every_control_is_reached_by_the_keyboard_with_visible_focus(
    browser: Browser, files: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    page = browser.open(files[name])
    page.resize(*size)
    page.prefer(prefers_reduced_motion="reduce")
    if name == "500":
        page.set_hash("find=close_wait&size=25")
    page.evaluate("document.querySelector('tr .open').click(); document.activeElement.blur()")
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    page.evaluate(
        "window.controls = [...document.querySelectorAll("
        " 'a[href], button, input, select, summary, [tabindex]')]"
        ".filter(element => element.checkVisibility() && !element.disabled)"
    )
    total = page.evaluate("controls.length")
    assert total > 10
    reached: set[int] = set()
    while len(reached) < total:
        page.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            # From the last control, the focus goes on to the browser and then to the first one.
            continue
        index, width, covered = page.evaluate(FOCUS)
        assert index not in reached, page.evaluate(
            "controls.map(control => control.outerHTML.slice(0, 200))"
        )[min(set(range(total)) - reached)]
        reached.add(index)
        assert width >= 2, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        assert not covered, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    assert reached == set(range(total))


# The number of the focused control, the width of its outline, and whether other elements hide it.
FOCUS = """
(() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const width = style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
  const box = element.getClientRects()[0];
  const at = document.elementFromPoint(
    Math.max(0, box.left) + Math.min(box.width, innerWidth) / 2, box.top + box.height / 2);
  const seen = at && (element.contains(at) || at.contains(element) ||
    at.closest("label")?.contains(element));
  return [controls.indexOf(element), width, !seen];
})()
"""


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_nothing_shifts_while_somebody_filters(
    browser: Browser, files: dict[str, Path], size: tuple[int, int]
) -> None:
    page = browser.open(files["500"])
    page.resize(*size)
    to_list(page)
    page.evaluate("scrollBy({top: 900, behavior: 'instant'})")
    page.evaluate("document.getElementById('find').focus({preventScroll: true})")
    assert page.shifts == []
    page.evaluate("window.moved.length = 0")
    places = "[...document.querySelectorAll('#bar, #bar label')].map(part => {"
    places += " const box = part.getBoundingClientRect(); return [box.top, box.left, box.width] })"
    before = page.evaluate(places)
    for text in ("close", "_wait", " web-1", " nothing like this"):
        page.type(text)
        assert page.evaluate(places) == before, text
    assert count(page) == 0
    assert page.evaluate("document.querySelector('#nothing').checkVisibility()")
    # Only what the filter changes moves: the rows, and what follows them.
    assert page.moved(outside="#table, #nothing, #pages") == []
    page.click("#reset")
    page.fill("#verdict", "silent")
    assert page.evaluate(places) == before
    page.set_hash("peer=198.51.100.1&age=60000-600000&program=nginx.service")
    assert page.evaluate(places) == before
    assert len(page.texts(".chosen")) == 3


@pytest.mark.parametrize("name", ["500", "1"])
def test_nothing_shifts_while_the_page_loads(
    browser: Browser, files: dict[str, Path], name: str
) -> None:
    browser.open(files[name]).resize(*DESKTOP)
    page = browser.open(files[name])

    assert page.shifts == []


def test_bar_and_header_stay_in_view(large: Page) -> None:
    to_list(large)
    large.evaluate("scrollBy({top: 1000, behavior: 'instant'})")
    bar, header = large.evaluate(
        "['#bar', 'thead th'].map(part => document.querySelector(part).getBoundingClientRect())"
        ".map(box => [box.top, box.bottom])"
    )

    assert bar[0] == 0
    assert header[0] == pytest.approx(bar[1], abs=1)


def _state(text: str) -> Callable[[Finding], bool]:
    return lambda finding: finding["state"] == text


def _verdict(name: str) -> Callable[[Finding], bool]:
    return lambda finding: any(entry["verdict"] == name for entry in finding["verdicts"])


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
        ("close_wait", _verdict("close_wait")),
        ("CLOSE_WAIT", _verdict("close_wait")),
        ("Close-Wait", _verdict("close_wait")),
        ("zero window", _verdict("zero_window")),
        ("FIN_WAIT2", _state("fin-wait-2")),
        ("fin-wait-2", _state("fin-wait-2")),
        # The second verdict of a connection counts too.
        ("retransmitting", _verdict("retransmitting")),
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
            _verdict("close_wait")(finding) and _inside("198.51.100.0/24")(finding))),
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


def test_yaml_of_the_next_step_is_what_it_shows(large: Page) -> None:
    # The functions of the page are private to its module; this is their text.
    folder = Path(__file__).parents[2] / "plugins/plugin_utils/_report"
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


def test_common_domain_is_folded(large: Page) -> None:
    hosts = large.texts("tbody th")

    assert not any("example.net" in host for host in hosts)
    assert any(host.endswith(".ams") for host in hosts)
    assert "without .fra.example.net or .example.net" in large.texts("caption")[0]
    titles = large.evaluate("[...document.querySelectorAll('tbody th [title]')].map(e => e.title)")
    assert all(title.endswith(".example.net") for title in titles)


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
    expected = [finding for finding in findings if _verdict("retransmitting")(finding)]

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
    source = (Path(__file__).parents[2] / "plugins/plugin_utils/_report/export.js").read_text()
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


def test_legend_explains_the_names(large: Page, reports: dict[str, dict[str, Any]]) -> None:
    legend = " ".join(" ".join(large.texts(".mark")).split())

    for name, number in reports["500"]["totals"]["verdicts"].items():
        known = describe(name)
        assert f"{known.title} {number} {known.short}" in legend
    assert "CLOSE_WAIT" in legend
    assert "the application has not closed its end" in legend


def test_large_page_is_complete_without_scripts(browser: Browser, files: dict[str, Path]) -> None:
    static = browser.open(files["500"], scripts=False)
    static.resize(*PHONE)

    assert len(static.texts("tbody tr.row")) == 500
    assert static.overflow() == 0
    assert static.texts("#bar, .tools, #pages") == []


def test_empty_and_largest_pages_fit_a_phone(browser: Browser, tmp_path: Path) -> None:
    """The largest page has the longest possible names."""
    from plugins.plugin_utils._report.document import build_report
    from tests.support import sample_results

    record = sample_results.record(
        sample_results.verdict("zero_window", 9_500, unsent_bytes=169_370),
        sample_results.verdict("address_gone", address="2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"),
        local="2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
        remote="2001:db8:aaaa:bbbb:cccc:dddd:eeee:fffe",
        user="x" * 32,
        processes=[{"pid": 4_194_304, "comm": "y" * 15, "unit": f"{'z' * 90}.service"}],
    )
    many = {
        f"web-{'0' * 60}-{number}": sample_results.info_result(*[record] * 100)
        for number in range(50)
    }
    many["gone"] = {"failed": True, "msg": "w" * 200}
    for name, results, expected in (
        ("many", many, 1000),
        ("none", {"web": sample_results.info_result()}, 0),
    ):
        path = tmp_path / f"{name}.html"
        path.write_text(
            render_page(build_report(results, time=sample_results.TIME)), encoding="utf-8"
        )
        opened = browser.open(path, "group=0&size=1000")
        opened.resize(360)

        assert rows(opened) == expected
        assert opened.overflow() == 0
        assert opened.errors == []
        if expected:
            opened.click("tr.row .open")
            assert opened.overflow() == 0
            json.loads(opened.evaluate("document.getElementById('data').textContent"))
