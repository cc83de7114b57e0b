# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Geometry and labels of the page's charts; the template draws them as SVG.

The SVG holds no text and stretches to the available width. Names and numbers are HTML beside it,
so they keep their size on a phone and screen readers can read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...module_utils._core.api.stuck import RANK
from .sentences import count_text, plural
from .verdicts import FAMILIES, describe

# Lengths in units of the SVG's viewBox.
BAR_LENGTH = 1000
COLUMN_LENGTH = 120

_LEFT_OUT_CLASS = "v-left-out"
_UNITS_MS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


class Segment(NamedTuple):
    """One coloured part of a bar. start and length: numbers as SVG writes them."""

    css_class: str
    start: str
    length: str


class BarRow(NamedTuple):
    """A named bar. label: what is shown of the name. total: number at its end.

    note: text after it. spoken: for screen readers.
    """

    name: str
    label: str
    segments: list[Segment]
    total: int
    note: str
    spoken: str


class BarChart(NamedTuple):
    """Bars on one scale. filter_key: the filter of the table that takes their names.

    shown: how many of the rows the page shows at once.
    """

    title: str
    caption: str
    filter_key: str
    shown: int
    rows: list[BarRow]


class Bar(NamedTuple):
    """Input of bar_chart(). left_out: connections that were counted but not listed."""

    name: str
    verdicts: Mapping[str, int]
    left_out: int = 0
    note: str = ""
    label: str | None = None


class AgeColumn(NamedTuple):
    """A vertical bar of the age histogram. unknown: no clock gives an age.

    value: of the filter of the table: two bounds in milliseconds, or `unknown`. label, unit: such
    as "1-10" and "s"; unit is empty if the duration is unknown.
    """

    value: str
    label: str
    unit: str
    segments: list[Segment]
    total: int
    spoken: str
    unknown: bool


class Mark(NamedTuple):
    """A colour with its verdict and number of connections. verdict: None for those not listed."""

    css_class: str
    verdict: str | None
    title: str
    short: str
    total: int


class LegendGroup(NamedTuple):
    """Colours of one family of verdicts."""

    title: str
    marks: list[Mark]


def colour_class(verdict: str) -> str:
    """Return the CSS class that gives a verdict its colour."""
    return f"v-{verdict}" if verdict in RANK else "v-none"


def marks(verdicts: Mapping[str, int]) -> list[Mark]:
    """Return the colour, title and count of each verdict."""
    return [
        Mark(colour_class(name), name, describe(name).title, describe(name).short, count)
        for name, count in verdicts.items()
    ]


def horizontal_bar(verdicts: Mapping[str, int], whole: int, left_out: int = 0) -> list[Segment]:
    """Stack the verdicts from left to right. whole: the count that fills BAR_LENGTH."""
    parts = [(mark.css_class, mark.total) for mark in marks(verdicts)]
    segments, start = [], 0.0
    for css_class, count in (*parts, (_LEFT_OUT_CLASS, left_out)):
        if count:
            length = count / max(whole, 1) * BAR_LENGTH
            segments.append(Segment(css_class, _svg_number(start), _svg_number(length)))
            start += length
    return segments


def _vertical_bar(verdicts: Mapping[str, int], whole: int) -> list[Segment]:
    """Stack the verdicts from the bottom up. whole: the count that fills COLUMN_LENGTH."""
    segments, start = [], float(COLUMN_LENGTH)
    for mark in marks(verdicts):
        length = mark.total / max(whole, 1) * COLUMN_LENGTH
        start -= length
        segments.append(Segment(mark.css_class, _svg_number(start), _svg_number(length)))
    return segments


def _svg_number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def bar_chart(
    title: str, caption: str, filter_key: str, bars: Iterable[Bar], shown: int = 10
) -> BarChart:
    """Scale all bars to the longest one."""
    totals = [(entry, sum(entry.verdicts.values()) + entry.left_out) for entry in bars]
    longest = max((total for _entry, total in totals), default=0)
    rows = [
        BarRow(
            entry.name,
            entry.name if entry.label is None else entry.label,
            horizontal_bar(entry.verdicts, longest, entry.left_out),
            total,
            entry.note,
            _spoken(entry.verdicts, entry.left_out),
        )
        for entry, total in totals
    ]
    return BarChart(title, caption, filter_key, shown, rows)


def age_columns(steps: Sequence[Mapping[str, Any]]) -> list[AgeColumn]:
    """Return the histogram of ages; steps: `ages` of the document."""
    totals = [sum(step["verdicts"].values()) for step in steps]
    highest = max(totals, default=0)
    return [
        AgeColumn(
            _age_value(step["from_ms"], step["to_ms"]),
            *_age_label(step["from_ms"], step["to_ms"]),
            _vertical_bar(step["verdicts"], highest),
            total,
            f"{plural(total, 'connection')}, {_spoken(step['verdicts'])}",
            step["from_ms"] is None,
        )
        for step, total in zip(steps, totals)
    ]


def _age_value(low: int | None, high: int | None) -> str:
    return "unknown" if low is None else f"{low}-{'' if high is None else high}"


def _age_label(low: int | None, high: int | None) -> tuple[str, str]:
    """Return a label such as "1-10" and the unit of the lower bound."""
    if low is None:
        return "unknown", ""
    size, unit = next((size, unit) for size, unit in _UNITS_MS if (low or high or 0) >= size)
    if high is None:
        return f"> {low // size}", unit
    return (f"{low // size}\u2013{high // size}" if low else f"< {high // size}"), unit


def legend(verdicts: Mapping[str, int], left_out: int) -> list[LegendGroup]:
    """Group the colours of the present verdicts by family."""
    groups = []
    for family, title in FAMILIES.items():
        inside = {
            name: count for name, count in verdicts.items() if describe(name).family == family
        }
        if inside:
            groups.append(LegendGroup(title, marks(inside)))
    if left_out:
        groups.append(
            LegendGroup("Truncated", [Mark(_LEFT_OUT_CLASS, None, "not listed", "", left_out)])
        )
    return groups


def _spoken(verdicts: Mapping[str, int], left_out: int = 0) -> str:
    parts = [f"{count_text(mark.total)} {mark.title}" for mark in marks(verdicts)]
    if left_out:
        parts.append(f"{count_text(left_out)} not listed")
    return ", ".join(parts) or "none"
