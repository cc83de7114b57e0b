# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the report as one page of HTML that needs nothing else.

The page asks for nothing from anywhere, and its content security policy forbids it to: of scripts
and styles only those that are written here run, known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._formatting import size_text
from . import cards, html, pictures, table
from .document import VERSION, ReportError
from .html import Element, element
from .sentences import age_text, count_text, listed_text, plural, time_text
from .verdicts import VERDICTS, words

_HERE = Path(__file__).parent
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Ccircle cx='8' cy='8' r='7' fill='%23{}'/%3E%3C/svg%3E"
)
_ICON_COLOURS = {"good": "12805c", "maybe": "6b7280", "gap": "b3541e", "bad": "b3261e"}
_MOST_BARS = 20


def page(report: Mapping[str, Any], *, json: str | None = None) -> str:
    """The whole page. json: where the same report lies as JSON, to be linked. Raises ReportError.

    The same report gives the same bytes.
    """
    if not isinstance(report, Mapping) or report.get("version") != VERSION:
        raise ReportError(f"a report of version {VERSION} is needed, made by stuck_report")
    style, script = (
        # Only what stands between the tags is hashed, so it is taken as it is.
        Element(_HERE.joinpath(name).read_text(encoding="utf-8"))
        for name in ("style.css", "script.js")
    )
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    state = _state(report["totals"])
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{report['headline']} Stuck connections, {time_text(report['time'])}"),
        element("link", rel="icon", href=Element(_ICON.format(_ICON_COLOURS[state]))),
        element("style", style),
    )
    main = element(
        "main",
        _opening(report, state),
        _pictures(report) if report["findings"] else None,
        cards.section(report["hosts"]),
        table.section(report) if report["findings"] else None,
        _glossary(report["totals"]["verdicts"]),
        id="top",
    )
    body = element(
        "body",
        element("a", "To the connections", href="#connections", class_="skip")
        if report["findings"]
        else None,
        main,
        _footer(report, json),
        element("script", script),
        class_=state,
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _state(totals: Mapping[str, Any]) -> str:
    if totals["certain"]:
        return "bad"
    if totals["looked"] < totals["hosts"] or not totals["hosts"]:
        return "gap"
    return "maybe" if totals["found"] else "good"


def _opening(report: Mapping[str, Any], state: str) -> Element:
    totals = report["totals"]
    remarks = [element("li", html.name(remark)) for remark in report["remarks"]]
    return element(
        "header",
        element(
            "div",
            element(
                "p",
                "Stuck connections",
                element("span", " · "),
                element("time", time_text(report["time"]), datetime=report["time"]),
                class_="kicker",
            ),
            element("h1", report["headline"]),
            element("ul", *remarks, class_="remarks") if remarks else None,
            class_="said",
        ),
        pictures.tick() if state == "good" else None,
        _tiles(totals),
        class_="opening",
    )


def _tiles(totals: Mapping[str, Any]) -> Element:
    missing = totals["hosts"] - totals["looked"]
    among = f"{count_text(missing)} not looked at" if missing else "all looked at"
    connections = totals["connections"]
    beside = totals["found"] - totals["certain"]
    tiles = [
        (
            count_text(totals["certain"]),
            "stuck" if totals["certain"] != 1 else "is stuck",
            None if connections is None else f"of {plural(connections, 'TCP connection')}",
        ),
        (
            f"{count_text(totals['affected'])} of {count_text(totals['hosts'])}",
            "hosts affected",
            among,
        ),
    ]
    if totals["longest_ms"] is not None:
        tiles.append((f"≥ {age_text(totals['longest_ms'])}", "the longest", "proven by a clock"))
    if totals["found"]:
        tiles.append((size_text(totals["waiting_bytes"]), "waiting", "unsent or unacknowledged"))
    if beside and totals["certain"]:
        tiles.append((count_text(beside), "not certain", "may be in order"))
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", title),
                element("dd", number),
                element("dd", more, class_="dim") if more else None,
            )
            for number, title, more in tiles
        ),
        class_="tiles",
    )


def _pictures(report: Mapping[str, Any]) -> Element:
    totals = report["totals"]
    hosts = sorted(
        (host for host in report["hosts"] if host["found"]), key=lambda host: -host["found"]
    )
    rows = [
        (html.name(host["name"]), host["verdicts"], host["found"] - host["listed"], "")
        for host in hosts[:_MOST_BARS]
    ]
    rest = hosts[_MOST_BARS:]
    caption = "Each connection counts once, under its first verdict."
    if rest:
        caption += (
            f" {plural(len(rest), 'more host')}: {listed_text([h['name'] for h in rest], 4)}."
        )
    several = totals["looked"] > 1
    return element(
        "section",
        pictures.legend(totals["verdicts"], totals["left_out"]),
        element(
            "div",
            pictures.bars("By host", caption, rows) if several else None,
            pictures.ages(report["ages"]),
            _ranking("Top peers", "The other ends with the most.", report["peers"], several),
            _ranking("Top programs", "Who holds them here.", report["programs"], several),
            class_="pictures",
        ),
        aria_label="Pictures",
    )


def _ranking(
    title: str, caption: str, entries: list[dict[str, Any]], several: bool
) -> Element | None:
    if not entries:
        return None
    rows = [
        (
            html.name(entry["name"]),
            entry["verdicts"],
            0,
            f"on {plural(entry['hosts'], 'host')}" if several else "",
        )
        for entry in entries
    ]
    return pictures.bars(title, caption, rows)


def _glossary(verdicts: Mapping[str, int]) -> Element:
    """Those that occur are explained in the open; the others can be opened."""
    rest = [name for name in VERDICTS if name not in verdicts]
    return element(
        "section",
        element("h2", "What the verdicts mean", id="meaning"),
        _meanings(list(verdicts)) if verdicts else None,
        element(
            "details",
            element(
                "summary", "Verdicts of which there is none here" if verdicts else "All verdicts"
            ),
            _meanings(rest),
        )
        if rest
        else None,
        aria_labelledby="meaning",
        class_="panel glossary",
    )


def _meanings(names: list[str]) -> Element:
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", pictures.swatch(name), words(name).title, " ", element("code", name)),
                element("dd", words(name).meaning, " ", element("em", words(name).remedy)),
            )
            for name in names
        ),
    )


def _footer(report: Mapping[str, Any], json: str | None) -> Element:
    link = None
    if json:
        name = posixpath.basename(json)
        link = element(
            "p",
            "The same as data: ",
            element("a", name, href=f"./{urllib.parse.quote(name)}"),
            f" (version {report['version']}).",
        )
    return element(
        "footer",
        element("h2", "What this report cannot show"),
        element("ul", *(element("li", each) for each in report["not_shown"])),
        link,
        element("p", "Made by linuxnet.sockets, from what the kernels said.", class_="dim"),
    )
