# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page is short, readable, reachable by the keyboard, and does not jump."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plugins.plugin_utils._report.page import render_page
from plugins.plugin_utils._report.verdicts import describe
from tests.integration.browser import Browser, Page
from tests.integration.stuck_page.helpers import (
    DESKTOP,
    PAGE_SIZE,
    PHONE,
    count,
    rows,
    to_list,
)

MAX_SCREENS = 15


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
    filter_bar, header = large.evaluate(
        "['#bar', 'thead th'].map(part => document.querySelector(part).getBoundingClientRect())"
        ".map(box => [box.top, box.bottom])"
    )

    assert filter_bar[0] == 0
    assert header[0] == pytest.approx(filter_bar[1], abs=1)


def test_common_domain_is_folded(large: Page) -> None:
    hosts = large.texts("tbody th")

    assert not any("example.net" in host for host in hosts)
    assert any(host.endswith(".ams") for host in hosts)
    assert "without .fra.example.net or .example.net" in large.texts("caption")[0]
    titles = large.evaluate("[...document.querySelectorAll('tbody th [title]')].map(e => e.title)")
    assert all(title.endswith(".example.net") for title in titles)


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
