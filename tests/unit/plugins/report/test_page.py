# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page: well-formed, harmless, complete without anything else, and bounded in size."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from plugins.plugin_utils._report import page as page_module
from plugins.plugin_utils._report.document import ReportError, document
from plugins.plugin_utils._report.page import page
from plugins.plugin_utils._report.verdicts import VERDICTS

from .answers import TIME, facts, found, mixed, record, verdict

FOLDER = Path(page_module.__file__).parent
VOID = {"input", "link", "meta", "br", "hr", "img"}


class Read(HTMLParser):
    """The elements and the text of a page. Raises AssertionError where tags do not match."""

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


def test_it_is_well_formed_and_says_what_it_is_in() -> None:
    html = page(mixed())
    read = Read(html)

    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert read.all("meta")[0] == {"charset": "utf-8"}
    identities = [each["id"] for _tag, each in read.elements if "id" in each]
    assert len(identities) == len(set(identities))
    assert read.text.count("3 connections on 1 of the 3 hosts that answered make no progress") == 2
    assert "2026-11-21 06:41:52 UTC" in read.text


def test_evidence_stands_in_words_and_numbers() -> None:
    text = " ".join(Read(page(mixed())).text.split())

    for said in (
        "peer reads no more",
        "unsent 165.4 KiB",
        "probes 5",
        "9.5s",
        "192.0.2.10:48134",
        "198.51.100.7:443",
        "php-fpm[912]",
        "18.0 KiB to send",
        "No route to host",
        "Nothing is known of its connections.",
        "they have no socket there",
    ):
        assert said.lower() in text.lower(), said


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"send_queue": 0}, "nothing"),
        ({"send_queue": 1, "state": "syn-sent"}, "nothing"),
        ({"send_queue": 2049, "state": "fin-wait-1"}, "2.0 KiB to send"),
        ({"send_queue": 2048, "recv_queue": 1}, "2.0 KiB to send 1 B to read"),
        ({"send_queue": None, "recv_queue": 1, "state": "close-wait"}, "the end to read"),
        ({"send_queue": 0, "recv_queue": 13, "state": "close-wait"}, "12 B to read"),
    ],
)
def test_what_waits(changes: dict[str, Any], expected: str) -> None:
    report = document({"web": found(record(verdict("close_wait", 1), **changes))}, time=TIME)
    (cell,) = re.findall(r'data-label="Waiting"[^>]*>(.*?)</td>', page(report))

    assert " ".join(re.sub("<[^>]*>", " ", cell).split()) == expected


def test_everything_can_be_read_aloud() -> None:
    read = Read(page(mixed()))

    assert len(read.all("caption")) == 1
    assert all(each.get("aria-hidden") == "true" for each in read.all("svg"))
    headers = [each for each in read.all("th") if each.get("scope") == "col"]
    assert len(headers) == 6
    assert len(read.all("th")) == 6 + 4
    fields = {each["id"] for tag in ("select", "input") for each in read.all(tag)}
    assert fields == {"verdict", "host", "find"}
    assert len(read.all("label")) == len(fields)


def test_it_needs_nothing_else_and_its_policy_forbids_it() -> None:
    html = page(mixed(), json="/tmp/elsewhere/stuck report.json")
    read = Read(html)

    (link,) = read.all("link")
    assert str(link["href"]).startswith("data:image/svg+xml,")
    assert {each["href"] for each in read.all("a")} == {
        "#connections",
        "./stuck%20report.json",
    }
    assert not any("src" in each or "style" in each for _tag, each in read.elements)
    # A name of a kind of document, and that of the licence.
    assert set(re.findall(r"https?://([^/'\s]*)", html)) == {"www.w3.org", "www.gnu.org"}
    policy = str(read.all("meta")[1]["content"])
    assert policy.startswith("default-src 'none'; ")
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


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
def test_names_that_others_chose_are_text(name: str) -> None:
    harmless, hostile = (
        document(
            {
                each: found(
                    record(
                        verdict("zero_window", 1, **{each: each}),
                        verdict(each, 2),
                        **dict.fromkeys(
                            ("namespace", "state", "local", "remote", "user", "device", "timer"),
                            each,
                        ),
                        processes=[{"pid": 1, "comm": each, "unit": each}],
                    )
                ),
                f"{each}2": {"failed": True, "msg": each},
            },
            {each: facts(kernel=each)},
            time=TIME,
        )
        for each in ("web", name)
    )
    one, other = Read(page(harmless)), Read(page(hostile))

    assert [tag for tag, _attributes in other.elements] == [
        tag for tag, _attributes in one.elements
    ]
    assert [set(attributes) for _tag, attributes in other.elements] == [
        set(attributes) for _tag, attributes in one.elements
    ]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800]", other.text)
    if name.isprintable():
        assert name in other.text


def test_nothing_in_the_template_turns_escaping_off() -> None:
    template = (FOLDER / "page.html.j2").read_text(encoding="utf-8")

    assert not re.findall(r"\|\s*safe\b|autoescape|Markup|xmlattr", template)
    # Only the style and the script, which are files of the collection.
    code = [path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")]
    assert re.findall(r"\bMarkup\((\w+)\)", "".join(code)) == ["style", "script"]


def test_a_name_that_turns_the_line_around_is_shown_as_what_it_is() -> None:
    assert "a\\u{202e}gnp.exe" in Read(page(_of_host("a\u202egnp.exe"))).text


def _of_host(name: str) -> dict[str, Any]:
    return document({name: found(record(verdict("zero_window", 1)))}, time=TIME)


def test_a_page_on_which_all_is_well() -> None:
    answers = {f"web-{number}": found() for number in range(12)}
    told = {name: facts(established=10) for name in answers}
    read = Read(page(document(answers, told, time=TIME)))

    assert read.all("body") == [{"class": "good"}]
    assert next(each["class"] for each in read.all("svg")) == "tick"
    assert read.all("table") == []
    assert "No connection is stuck on any of 12 hosts." in read.text
    assert "12 hosts are well" in read.text
    assert "of 120 TCP connections" in read.text


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ({}, "gap"),
        ({"a": found(), "b": {"failed": True}}, "gap"),
        ({"a": found(record(verdict("silent", 1)))}, "maybe"),
        ({"a": found(record(verdict("silent", 1), verdict("zero_window", 1)))}, "bad"),
    ],
)
def test_the_colour_of_the_page(answers: dict[str, Any], state: str) -> None:
    assert Read(page(document(answers, time=TIME))).all("body") == [{"class": state}]


def test_thousands_are_cut_and_that_is_said() -> None:
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
    answers = {f"web-{number}": found(*records[number::50]) for number in range(50)}
    answers["web-0"]["matched"] = 700
    html = page(document(answers, time=TIME))
    read = Read(html)

    assert len(html) < 3_000_000
    assert len([each for each in read.all("tr") if "data-host" in each]) == 1000
    assert "1,000 of 5,600 connections, those that wait longest first." in read.text
    assert "4,000 more are described in the JSON document." in read.text
    assert "600 were only counted (truncated)." in read.text


def test_what_is_no_report_is_refused() -> None:
    for told in ({}, {"version": 2}, None):
        with pytest.raises(ReportError, match="a report of version 1 is needed"):
            page(told)  # type: ignore[arg-type]


def _schemes() -> list[dict[str, str]]:
    """The variables of the style, light and dark."""
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    )
    assert light.keys() == dark.keys()
    return [light, dark]


def _luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
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
def test_text_can_be_read_in_both_schemes(scheme: int) -> None:
    colours = _schemes()[scheme]

    for text in ("text", "dim", "link", "bad", "good", "gap"):
        for ground in ("page", "panel"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for text, ground in (("text", "soft"), ("text", "gap-soft"), ("gap", "gap-soft")):
        assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_verdict_has_a_colour_of_its_own_that_shows(scheme: int) -> None:
    colours = _schemes()[scheme]
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    used = [colours[name.replace("_", "-")] for name in (*VERDICTS, "none")]

    assert len(set(used)) == len(used)
    for name in (*VERDICTS, "none"):
        variable = name.replace("_", "-")
        assert f".v-{name} {{ fill: var(--{variable}); }}" in style
        assert _contrast(colours[variable], colours["panel"]) >= 2.6, name
