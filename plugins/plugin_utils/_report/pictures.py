# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the pictures of the page.

Each picture is drawn without text and stretches to the room that there is; names and numbers stand
beside it as text, so that they keep their size on a phone and are read aloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .html import Element, element
from .sentences import count_text, plural
from .verdicts import FAMILIES, RANK, words

_WIDTH = 1000
_HEIGHT = 120


def colour(verdict: str) -> str:
    """The class that gives a verdict its colour."""
    return f"v-{verdict}" if verdict in RANK else "v-none"


def described(verdicts: Mapping[str, int], left_out: int = 0) -> str:
    parts = [f"{count_text(count)} {words(name).title}" for name, count in verdicts.items()]
    if left_out:
        parts.append(f"{count_text(left_out)} not described")
    return ", ".join(parts) or "none"


def stacked(verdicts: Mapping[str, int], whole: int, left_out: int = 0) -> Element:
    """A horizontal bar, stacked by verdict; as long as its share of the whole."""
    drawn, at = [], 0.0
    parts = [*((colour(name), count) for name, count in verdicts.items()), ("v-left-out", left_out)]
    for kind, count in parts:
        if count:
            width = count / max(whole, 1) * _WIDTH
            drawn.append(
                element("rect", class_=kind, x=_short(at), y="0", width=_short(width), height="10")
            )
            at += width
    return element(
        "svg",
        *drawn,
        class_="bar",
        viewBox=f"0 0 {_WIDTH} 10",
        preserveAspectRatio="none",
        aria_hidden="true",
        focusable="false",
    )


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def bars(
    title: str, caption: str, rows: Sequence[tuple[Element, Mapping[str, int], int, str]]
) -> Element:
    """A picture of bars, each with its name before it and its number behind it.

    rows: name, counts by verdict, how many more were left out, what stands behind the number.
    """
    whole = max((sum(verdicts.values()) + out for _name, verdicts, out, _more in rows), default=0)
    items = [
        element(
            "li",
            element("span", shown, class_="bar-name"),
            stacked(verdicts, whole, out),
            element(
                "span",
                element("b", count_text(sum(verdicts.values()) + out)),
                element("span", f" {more}", class_="dim") if more else None,
                element("span", f": {described(verdicts, out)}", class_="aloud"),
                class_="bar-count",
            ),
        )
        for shown, verdicts, out, more in rows
    ]
    return _figure(title, caption, element("ul", *items, class_="bars"))


def ages(steps: Sequence[Mapping[str, Any]]) -> Element:
    """How long at least, from the youngest to the oldest, and those of which no clock tells."""
    highest = max((sum(step["verdicts"].values()) for step in steps), default=0)
    columns = []
    for step in steps:
        verdicts = step["verdicts"]
        count = sum(verdicts.values())
        columns.append(
            element(
                "li",
                element("span", count_text(count) if count else "", class_="age-count"),
                _column(verdicts, highest),
                element("span", _between(step), class_="age-name"),
                element(
                    "span",
                    f": {plural(count, 'connection')}, {described(verdicts)}",
                    class_="aloud",
                ),
                class_="unknown" if step["from_ms"] is None else None,
            )
        )
    return _figure(
        "For how long",
        "What the kernel's clocks prove, so it may be longer. Each step is several times the last.",
        element("ol", *columns, class_="ages"),
    )


def _column(verdicts: Mapping[str, int], highest: int) -> Element:
    drawn, at = [], float(_HEIGHT)
    for name, count in verdicts.items():
        height = count / max(highest, 1) * _HEIGHT
        at -= height
        drawn.append(
            element(
                "rect",
                class_=colour(name),
                x="0",
                y=_short(at),
                width="10",
                height=_short(height),
            )
        )
    return element(
        "svg",
        *drawn,
        class_="column",
        viewBox=f"0 0 10 {_HEIGHT}",
        preserveAspectRatio="none",
        aria_hidden="true",
        focusable="false",
    )


def _between(step: Mapping[str, Any]) -> str:
    """1-10 s, with a dash as printers set it; the unit is that of the lower end."""
    low, high = step["from_ms"], step["to_ms"]
    if low is None:
        return "not known"
    size, unit = next((size, unit) for size, unit in _STEPS if (low or high) >= size)
    if not low:
        return f"< {high // size} {unit}"
    if high is None:
        return f"> {low // size} {unit}"
    return f"{low // size}\u2013{high // size} {unit}"


_STEPS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def legend(verdicts: Mapping[str, int], left_out: int) -> Element:
    """What the colours mean, by family, of the verdicts that there are."""
    groups = []
    for family, title in FAMILIES.items():
        inside = [name for name in verdicts if words(name).family == family]
        if inside:
            marks = [
                element(
                    "span",
                    swatch(name),
                    f"{words(name).title} ",
                    element("b", count_text(verdicts[name])),
                    class_="mark",
                )
                for name in inside
            ]
            groups.append(element("li", element("span", title, class_="dim family"), *marks))
    if left_out:
        mark = element(
            "span",
            _square("v-left-out"),
            "not described ",
            element("b", count_text(left_out)),
            class_="mark",
        )
        groups.append(element("li", element("span", "Truncated", class_="dim family"), mark))
    return element("ul", *groups, class_="legend", aria_label="Verdicts and their colours")


def swatch(verdict: str) -> Element:
    return _square(colour(verdict))


def _square(kind: str) -> Element:
    square = element("rect", class_=kind, width="10", height="10", rx="2")
    return element(
        "svg", square, class_="swatch", viewBox="0 0 10 10", aria_hidden="true", focusable="false"
    )


def _figure(title: str, caption: str, drawn: Element) -> Element:
    return element(
        "figure",
        element("figcaption", element("h2", title), element("p", caption, class_="dim")),
        drawn,
        class_="panel",
    )


def tick() -> Element:
    """For a page on which all is well."""
    return element(
        "svg",
        element("circle", cx="60", cy="60", r="54", class_="tick-ring"),
        element("path", d="M36 62 l17 17 l33 -37", class_="tick-mark"),
        class_="tick",
        viewBox="0 0 120 120",
        aria_hidden="true",
        focusable="false",
    )
