# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page: well-formed, escaped, self-contained and bounded in size."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from plugins.plugin_utils._report import page as page_module
from plugins.plugin_utils._report.document import ReportError, build_report
from plugins.plugin_utils._report.page import render_page
from plugins.plugin_utils._report.verdicts import VERDICTS, describe
from tests.support.sample_fleet import fleet_report
from tests.support.sample_results import (
    TIME,
    facts_result,
    info_result,
    mixed_report,
    record,
    verdict,
)

FOLDER = Path(page_module.__file__).parent
VOID = {"input", "link", "meta", "br", "hr", "img", "wbr"}


class ParsedPage(HTMLParser):
    """Elements and text of a page. Raises AssertionError for mismatched tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_page_is_well_formed_and_shows_the_headline() -> None:
    html = render_page(mixed_report())
    parsed = ParsedPage(html)

    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert parsed.all("meta")[0] == {"charset": "utf-8"}
    identities = [attributes["id"] for _tag, attributes in parsed.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    # In the title and in the heading.
    assert parsed.text.count(mixed_report()["headline"]) == 2
    assert "2026-11-21 06:41:52 UTC" in parsed.text


def test_page_shows_evidence_and_limits() -> None:
    report = mixed_report()
    text = " ".join(ParsedPage(render_page(report)).text.split())

    for expected in (
        f"{describe('zero_window').title}: {describe('zero_window').short}",
        describe("zero_window").meaning,
        "unsent 165.4 KiB",
        "probes 5",
        "9.5s",
        "192.0.2.10:48134",
        "198.51.100.7:443",
        "php-fpm[912]",
        "18.0 KiB to send",
        "No route to host",
        "unreachable",
        *report["not_shown"],
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"send_queue": 0}, "0"),
        ({"send_queue": 1, "state": "syn-sent"}, "0"),
        ({"send_queue": 2049, "state": "fin-wait-1"}, "2.0 KiB to send"),
        ({"send_queue": 2048, "recv_queue": 1}, "2.0 KiB to send 1 B to read"),
        ({"send_queue": None, "recv_queue": 1, "state": "close-wait"}, "FIN to read"),
        ({"send_queue": 0, "recv_queue": 13, "state": "close-wait"}, "12 B to read"),
    ],
)
def test_queued_cell(changes: dict[str, Any], expected: str) -> None:
    report = build_report(
        {"web": info_result(record(verdict("close_wait", 1), **changes))}, time=TIME
    )
    cell = re.findall(r'<td role="cell">(.*?)</td>', render_page(report))[-1]

    assert " ".join(re.sub("<[^>]*>", " ", cell).split()) == expected


def test_page_is_accessible() -> None:
    parsed = ParsedPage(render_page(mixed_report()))

    assert len(parsed.all("caption")) == 1
    assert all(svg.get("aria-hidden") == "true" for svg in parsed.all("svg"))
    headers = [header for header in parsed.all("th") if header.get("scope") == "col"]
    assert len(headers) == 7
    # Two of the four connections are equal, and have a row for the group.
    assert len(parsed.all("th")) == 7 + 4 + 1
    fields = {field["id"] for tag in ("select", "input") for field in parsed.all(tag)}
    assert fields == {"verdict", "host", "find", "grouped", "order", "size", "change", "earlier"}
    assert {label["for"] for label in parsed.all("label")} == fields - {"earlier"}
    assert all(button.get("type") for button in parsed.all("button"))


def _choices(html: str, identity: str) -> dict[str, str]:
    """Return the options of a select element: value and text."""
    (select,) = re.findall(rf'<select id="{identity}">(.*?)</select>', html)
    return dict(re.findall(r'<option value="([^"]*)">(.*?)</option>', select))


def test_filter_and_glossary_know_every_verdict_that_occurs() -> None:
    report = build_report(
        {
            "web": info_result(
                record(verdict("address_gone"), verdict("retransmitting", 10_000)),
                record(verdict("of_a_later_version", 5), cookie="2"),
                record(cookie="3"),
            )
        },
        time=TIME,
    )
    html = render_page(report)
    (explained, *_absent) = re.findall(
        "<dl>(.*?)</dl>", html.split("What the verdicts mean")[1], re.DOTALL
    )

    # retransmitting is the first verdict of no connection.
    assert report["totals"]["verdicts"].keys() == {"address_gone", "none", "of_a_later_version"}
    assert _choices(html, "verdict") == {
        "": "all verdicts",
        "address_gone": "address gone (1)",
        "retransmitting": "retransmitting (1)",
        "none": "no verdict (1)",
        "of_a_later_version": "of_a_later_version (1)",
    }
    text = re.sub("<[^>]*>", "", explained)
    for name in ("address_gone", "retransmitting", "none", "of_a_later_version"):
        assert f"{describe(name).title}: {describe(name).short}" in text, name
    assert explained.count("<dt>") == 4


def test_page_does_not_depend_on_the_order_of_sets() -> None:
    code = (
        "from tests.support.sample_fleet import fleet_report\n"
        "from plugins.plugin_utils._report.page import render_page\n"
        "import hashlib; print(hashlib.sha256(render_page(fleet_report(60)).encode()).hexdigest())"
    )
    pages = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=FOLDER.parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(pages) == 1


def test_size_of_a_page_with_500_findings() -> None:
    assert len(render_page(fleet_report()).encode()) < 1_200_000


def test_page_loads_nothing_and_its_policy_forbids_it() -> None:
    html = render_page(mixed_report(), json_path="/tmp/elsewhere/stuck report.json")
    parsed = ParsedPage(html)

    (link,) = parsed.all("link")
    assert str(link["href"]).startswith("data:image/svg+xml,")
    assert {anchor["href"] for anchor in parsed.all("a")} == {
        "#connections",
        "./stuck%20report.json",
    }
    assert not any({"src", "style"} & attributes.keys() for _tag, attributes in parsed.elements)
    # The SVG namespace and the licence.
    assert set(re.findall(r"https?://([^/'\s]*)", html)) == {"www.w3.org", "www.gnu.org"}
    policy = str(parsed.all("meta")[1]["content"])
    assert policy.startswith("default-src 'none'; ")
    for tag, kind in (("style", "style"), ("script", "script"), ('script type="module"', "script")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        (sources,) = re.findall(rf"{kind}-src ([^;]*);", policy)
        assert f"'sha256-{digest}'" in sources.split()
        assert "unsafe" not in sources


HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style>{{ 7 * 7 }}{% raw %}",
    "a\u202egnp.exe",
    "\ud800\x00\x1b[2J",
    "مرحبا",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_untrusted_names_are_escaped(name: str) -> None:
    harmless, hostile = (
        build_report(
            {
                text: info_result(
                    record(
                        verdict("zero_window", 1, **{text: text}),
                        verdict(text, 2),
                        **dict.fromkeys(
                            ("namespace", "state", "local", "remote", "user", "device", "timer"),
                            text,
                        ),
                        processes=[{"pid": 1, "comm": text, "unit": text}],
                    )
                ),
                f"{text}2": {"failed": True, "msg": text},
            },
            {text: facts_result(kernel=text)},
            time=TIME,
        )
        # The page may break lines at each dot of a name.
        for text in ("web" + ".x" * name.count("."), name)
    )
    one, other = ParsedPage(render_page(harmless)), ParsedPage(render_page(hostile))

    assert [tag for tag, _attributes in other.elements] == [
        tag for tag, _attributes in one.elements
    ]
    assert [set(attributes) for _tag, attributes in other.elements] == [
        set(attributes) for _tag, attributes in one.elements
    ]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800]", other.text)
    if name.isprintable():
        assert name in other.text


def test_template_does_not_disable_escaping() -> None:
    template = (FOLDER / "page.html.j2").read_text(encoding="utf-8")

    assert not re.findall(r"\|\s*safe\b|autoescape|Markup|xmlattr", template)
    # Only the style and the scripts, which are files of the collection, are trusted.
    code = [path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")]
    assert re.findall(r"\bMarkup\((\w+)\)", "".join(code)) == ["style", "script", "start"]


def test_direction_mark_is_shown_as_an_escape() -> None:
    assert "a\\u202egnp.exe" in ParsedPage(render_page(_of_host("a\u202egnp.exe"))).text


def _of_host(name: str) -> dict[str, Any]:
    return build_report({name: info_result(record(verdict("zero_window", 1)))}, time=TIME)


def test_page_without_findings() -> None:
    results = {f"web-{number}": info_result() for number in range(12)}
    facts = {name: facts_result(established=10) for name in results}
    parsed = ParsedPage(render_page(build_report(results, facts, time=TIME)))

    assert parsed.all("body") == [{"class": "good"}]
    assert parsed.all("svg")[0]["class"] == "tick"
    assert parsed.all("table") == []
    assert "12 hosts without stuck connections" in parsed.text
    assert "of 120 TCP connections" in parsed.text


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ({}, "gap"),
        ({"a": info_result(), "b": {"failed": True}}, "gap"),
        ({"a": info_result(record(verdict("silent", 1)))}, "maybe"),
        ({"a": info_result(record(verdict("silent", 1), verdict("zero_window", 1)))}, "bad"),
    ],
)
def test_state_of_the_page(results: dict[str, Any], state: str) -> None:
    assert ParsedPage(render_page(build_report(results, time=TIME))).all("body") == [
        {"class": state}
    ]


def test_page_lists_at_most_1000_connections() -> None:
    names = list(VERDICTS)
    long = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"
    records = [
        record(
            verdict(names[number % 11] if names[number % 11] != "superseded" else "silent", number),
            cookie=f"{number:x}",
            remote=long,
            local=long,
        )
        for number in range(5_000)
    ]
    results = {f"web-{number}": info_result(*records[number::50]) for number in range(50)}
    results["web-0"]["matched"] = 700
    html = render_page(build_report(results, time=TIME))
    parsed = ParsedPage(html)

    assert len(html) < 3_000_000
    assert len([row for row in parsed.all("tr") if row.get("class") == "row"]) == 1000
    (caption,) = re.findall("<caption>(.*?)</caption>", html)
    assert re.findall(r"[\d,]+\d", caption) == ["1,000", "5,600", "4,000", "600"]


def test_other_documents_are_rejected() -> None:
    for value in ({}, {"version": 2}, None):
        with pytest.raises(ReportError, match=r"version 1.*stuck_report"):
            render_page(value)  # type: ignore[arg-type]


def _schemes() -> list[dict[str, str]]:
    """Return the colour variables of the style sheet, light and dark."""
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    )
    assert light.keys() == dark.keys()
    return [light, dark]


def _luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    digits = colour.lstrip("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_has_sufficient_contrast(scheme: int) -> None:
    colours = _schemes()[scheme]

    for text in ("text", "dim", "link", "bad", "good", "gap"):
        for ground in ("page", "panel"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for text, ground in (("text", "soft"), ("text", "gap-soft"), ("gap", "gap-soft")):
        assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize("scheme", [0, 1])
def test_each_verdict_has_a_distinct_visible_colour(scheme: int) -> None:
    colours = _schemes()[scheme]
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    used = [colours[name.replace("_", "-")] for name in (*VERDICTS, "none")]

    assert len(set(used)) == len(used)
    for name in (*VERDICTS, "none"):
        variable = name.replace("_", "-")
        assert f".v-{name} {{ fill: var(--{variable}); background: var(--{variable}); }}" in style
        assert _contrast(colours[variable], colours["panel"]) >= 2.6, name
