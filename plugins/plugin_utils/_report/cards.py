# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the hosts on the page, those with findings and those without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import html, pictures
from .html import Element, element
from .sentences import age_text, count_text, plural
from .verdicts import words

MOST_CARDS = 100
_STATUS = {
    "unreachable": "not reached",
    "failed": "failed",
    "not_asked": "no answer",
}


def section(hosts: Sequence[Mapping[str, Any]]) -> Element:
    """Hosts that did not answer first, then those with findings, then the rest by name."""
    missing = [host for host in hosts if host["status"] != "looked"]
    affected = sorted(
        (host for host in hosts if host["found"]),
        key=lambda host: (-host["certain"], -host["found"]),
    )
    well = [host for host in hosts if host["status"] == "looked" and not host["found"]]
    cards = [*map(_missing, missing), *map(_affected, affected)]
    left = len(cards) - MOST_CARDS
    more = (
        f"{plural(left, 'more host')} with findings: all are in the JSON document."
        if left > 0
        else None
    )
    return element(
        "section",
        element("h2", "Hosts", id="hosts"),
        element("ul", *cards[:MOST_CARDS], class_="cards") if cards else None,
        element("p", more, class_="dim") if more else None,
        _well(well, alone=not cards) if well else None,
        aria_labelledby="hosts",
    )


def _missing(host: Mapping[str, Any]) -> Element:
    return element(
        "li",
        element("h3", html.name(host["name"])),
        element("span", _STATUS[host["status"]], class_="badge bad"),
        element("p", "Nothing is known of its connections."),
        element("p", html.name(host["message"]), class_="message") if host["message"] else None,
        class_="card missing",
    )


def _affected(host: Mapping[str, Any]) -> Element:
    out = host["found"] - host["listed"]
    counts = [
        element(
            "li",
            pictures.swatch(name),
            element("b", count_text(count)),
            f" {words(name).title}",
        )
        for name, count in host["verdicts"].items()
    ]
    if out:
        counts.append(element("li", element("b", count_text(out)), " not described (truncated)"))
    facts = []
    if host["connections"] is not None:
        facts.append(f"of {plural(host['connections'], 'TCP connection')}")
    if host["longest_ms"] is not None:
        facts.append(f"the longest for at least {age_text(host['longest_ms'])}")
    return element(
        "li",
        element(
            "h3",
            html.name(host["name"]),
            element("span", count_text(host["found"]), class_="big"),
        ),
        element("p", ", ".join(facts), class_="dim") if facts else None,
        pictures.stacked(host["verdicts"], host["found"], out),
        element("ul", *counts, class_="counts"),
        element(
            "p",
            element("a", "Its connections", href="#connections", data_host=host["name"]),
            element("span", f"Linux {host['kernel']}", class_="dim") if host["kernel"] else None,
            class_="foot",
        ),
        class_="card",
    )


def _well(hosts: Sequence[Mapping[str, Any]], *, alone: bool) -> Element:
    items = [
        element(
            "li",
            html.name(host["name"]),
            element("span", f" {count_text(host['connections'])}", class_="dim")
            if host["connections"] is not None
            else None,
        )
        for host in hosts
    ]
    count = len(hosts)
    return element(
        "details",
        element(
            "summary",
            f"{plural(count, 'host')} {'is' if count == 1 else 'are'} well",
            element("span", " (with the number of TCP connections)", class_="dim"),
        ),
        element("ul", *items, class_="well"),
        open=alone or count <= 24,
        class_="panel",
    )
