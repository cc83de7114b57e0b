# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the page's table of connections, with the evidence of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._formatting import size_text
from . import html, pictures
from .finding import unsent
from .html import Element, element
from .sentences import (
    MOST_NUMBERS,
    age_text,
    count_text,
    endpoint,
    numbers,
    owner_text,
    plural,
)
from .verdicts import words

# What a browser on a phone still scrolls well; 2 MB at most.
MOST_ROWS = 1000
# Title, and by what a click on it sorts: text or number.
_COLUMNS = (
    ("Host", "text"),
    ("Verdict and evidence", "text"),
    ("For at least", "number"),
    ("Connection", "text"),
    ("Program", "text"),
    ("Waiting", "number"),
)
_MORE = ("cookie", "inode", "device", "mark", "timer", "retransmits", "idle_ms")


def section(report: Mapping[str, Any]) -> Element:
    shown = report["findings"][:MOST_ROWS]
    head = [
        element("th", title, scope="col", role="columnheader", data_sort=kind)
        for title, kind in _COLUMNS
    ]
    return element(
        "section",
        element("h2", "Connections", id="connections"),
        _controls(report["totals"]["verdicts"], shown),
        element(
            "table",
            element("caption", _caption(report["totals"], len(shown))),
            element("thead", element("tr", *head, role="row"), role="rowgroup"),
            element("tbody", *map(_row, shown), role="rowgroup"),
            role="table",
            id="table",
        ),
        aria_labelledby="connections",
    )


def _caption(totals: Mapping[str, Any], shown: int) -> str:
    if totals["found"] == shown == 1:
        return "It is the only one."
    if totals["found"] == shown:
        return f"All {plural(shown, 'connection')}, those that wait longest first."
    beside = totals["listed"] - shown
    whole = plural(totals["found"], "connection")
    parts = [f"{count_text(shown)} of {whole}, those that wait longest first."]
    if beside:
        parts.append(f"{count_text(beside)} more are described in the JSON document.")
    if totals["left_out"]:
        parts.append(f"{count_text(totals['left_out'])} were only counted (truncated).")
    return " ".join(parts)


def _controls(verdicts: Mapping[str, int], shown: Sequence[Mapping[str, Any]]) -> Element:
    """Shown by the script, which makes them work."""
    hosts = sorted({each["host"] for each in shown})
    return element(
        "form",
        _select("verdict", "Verdict", [(name, words(name).title) for name in verdicts]),
        _select("host", "Host", [(name, name) for name in hosts]) if len(hosts) > 1 else None,
        element(
            "label",
            "Find",
            element(
                "input",
                id="find",
                type="search",
                placeholder="address, program …",
                autocomplete="off",
                spellcheck="false",
            ),
        ),
        element("button", "Show all", type="reset"),
        element("output", id="count", aria_live="polite"),
        id="controls",
        hidden=True,
    )


def _select(identity: str, label: str, options: Sequence[tuple[str, str]]) -> Element:
    choices = [element("option", shown, value=value) for value, shown in options]
    every = element("option", "all", value="")
    return element("label", label, element("select", every, *choices, id=identity))


def _row(entry: Mapping[str, Any]) -> Element:
    verdicts = " ".join(each["verdict"] for each in entry["verdicts"]) or "none"
    cells = (
        html.join(
            html.name(entry["host"]),
            element("span", html.name(entry["namespace"]), class_="dim line")
            if entry["namespace"] not in (None, "current")
            else None,
        ),
        _evidence(entry),
        _age(entry["for_ms"]),
        _connection(entry),
        _program(entry),
        _waiting(entry),
    )
    sorts = (None, None, entry["for_ms"], None, None, unsent(entry))
    return element(
        "tr",
        *(
            element(
                "th" if index == 0 else "td",
                cell,
                role="rowheader" if index == 0 else "cell",
                scope="row" if index == 0 else None,
                data_label=title,
                data_number=sort,
            )
            for index, ((title, _kind), cell, sort) in enumerate(zip(_COLUMNS, cells, sorts))
        ),
        role="row",
        data_host=entry["host"],
        data_verdicts=verdicts,
    )


def _age(for_ms: int | None) -> Element:
    shown = age_text(for_ms)
    return element("span", "not known", class_="dim") if shown is None else element("b", shown)


def _evidence(entry: Mapping[str, Any]) -> Element:
    """The verdicts in words, the numbers behind each, and the rest to be opened."""
    told = []
    for each in entry["verdicts"] or [{"verdict": "none", "for_ms": None, "evidence": {}}]:
        # The row's own column says it of one of them.
        since = None if each["for_ms"] == entry["for_ms"] else age_text(each["for_ms"])
        shown = numbers(each["evidence"])[:MOST_NUMBERS]
        told.append(
            element(
                "div",
                element(
                    "span",
                    pictures.swatch(each["verdict"]),
                    words(each["verdict"]).title,
                    class_="chip",
                ),
                element("span", f" for at least {since}", class_="dim") if since else None,
                _numbers(shown),
                class_="verdict",
            )
        )
    return html.join(*told, _rest(entry))


def _numbers(shown: Sequence[tuple[str, str]]) -> Element | None:
    if not shown:
        return None
    each = (
        element("span", f"{name} ", element("b", value), class_="number") for name, value in shown
    )
    return element("span", *each, class_="numbers")


def _rest(entry: Mapping[str, Any]) -> Element | None:
    """What else is known of it."""
    more: dict[str, Any] = {}
    for each in entry["verdicts"]:
        known = {name: value for name, value in each["evidence"].items() if value is not None}
        more.update(list(known.items())[MOST_NUMBERS:])
    more.update((name, entry[name]) for name in _MORE if entry[name] is not None)
    for name, value in (entry["tcp_info"] or {}).items():
        more.setdefault(_KERNEL_UNITS.get(name, name), value)
    shown = _numbers(numbers(more))
    return element("details", element("summary", "more numbers"), shown) if shown else None


# struct tcp_info counts round trips in microseconds, and clocks in milliseconds.
_KERNEL_UNITS = {
    "rtt": "rtt_us",
    "rto": "rto_us",
    "snd_wnd": "snd_wnd_bytes",
    "bytes_acked": "acked_bytes",
    "bytes_received": "received_bytes",
    "last_data_sent": "last_data_sent_ms",
    "last_data_recv": "last_data_recv_ms",
    "last_ack_recv": "last_ack_recv_ms",
}


def _connection(entry: Mapping[str, Any]) -> Element:
    state = " ".join(each for each in (entry["protocol"], entry["state"]) if each)
    return html.join(
        element("code", html.name(endpoint(entry, "local"))),
        element("code", "→\u00a0", html.name(endpoint(entry, "remote"))),
        element("span", state, class_="dim line"),
    )


def _program(entry: Mapping[str, Any]) -> Element:
    owner = owner_text(entry)
    held = entry["processes"] or [{}]
    user = entry["user"] if entry["user"] is not None else entry["uid"]
    if owner is None:
        owner = "none" if entry["inode"] == 0 else "not known"
    return html.join(
        html.name(owner) if entry["processes"] else element("span", owner, class_="dim"),
        element("span", html.name(held[0]["unit"]), class_="dim line")
        if held[0].get("unit")
        else None,
        element("span", html.name(user), class_="dim line") if user is not None else None,
    )


def _waiting(entry: Mapping[str, Any]) -> Element:
    parts = []
    if unsent(entry):
        parts.append(f"{size_text(unsent(entry))} to send")
    unread = entry["recv_queue"] or 0
    if unread and entry["state"] in _PEER_IS_DONE:
        # The kernel counts the peer's FIN as a byte until the application has met with it.
        unread -= 1
        parts.append("the end to read" if not unread else "")
    if unread:
        parts.append(f"{size_text(unread)} to read")
    lines = [element("span", part, class_="line") for part in parts if part]
    return html.join(*lines) if lines else element("span", "nothing", class_="dim")


_PEER_IS_DONE = ("close-wait", "closing", "last-ack")
