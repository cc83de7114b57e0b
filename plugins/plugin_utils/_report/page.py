# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The report as one self-contained HTML page, rendered from page.html.j2.

The page loads nothing. Its content security policy allows only the embedded style and script,
identified by their hashes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import posixpath
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .._formatting import size_text
from . import charts, connections
from .document import VERSION, ReportError
from .finding import sanitize
from .sentences import age_text, count_text, join_names, plural, time_text
from .verdicts import VERDICTS, describe

MAX_CARDS = 100
_MAX_BARS = 20
_MAX_OPEN_HEALTHY = 24
_MAX_TEXT = 10_000

_FOLDER = Path(__file__).parent
_ICON_COLOURS = {"good": "12805c", "maybe": "6b7280", "gap": "b3541e", "bad": "b3261e"}
_HOST_STATUS = {"unreachable": "unreachable", "failed": "failed", "no_result": "no result"}


def render_page(report: Mapping[str, Any], *, json_path: str | None = None) -> str:
    """Render the page. The same report gives the same bytes.

    report: result of build_report(). json_path: path of the same report as JSON; the page links to
    a file of this name in its own directory. Raises ReportError.
    """
    if not isinstance(report, Mapping) or report.get("version") != VERSION:
        raise ReportError(f"expected a report of version {VERSION} from the stuck_report filter")
    totals = report["totals"]
    findings = report["findings"][: connections.MAX_ROWS]
    state = _state(totals)
    style, script = (
        _FOLDER.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "script.js")
    )
    template = _environment().get_template("page.html.j2")
    json_name = posixpath.basename(json_path) if json_path else None
    return template.render(
        report=report,
        state=state,
        icon_colour=_ICON_COLOURS[state],
        # Both are files of the collection, and their hashes cover each byte.
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        tiles=_tiles(totals),
        bar_length=charts.BAR_LENGTH,
        column_length=charts.COLUMN_LENGTH,
        legend=charts.legend(totals["verdicts"], totals["left_out"]),
        host_chart=_host_chart(report["hosts"]) if totals["answered"] > 1 else None,
        age_columns=charts.age_columns(report["ages"]),
        rankings=_rankings(report),
        hosts=_hosts(report["hosts"]),
        host_status=_HOST_STATUS,
        verdict_choices=[(name, describe(name).title) for name in totals["verdicts"]],
        host_choices=[(name, name) for name in sorted({entry["host"] for entry in findings})],
        table_caption=connections.caption(totals, len(findings)),
        rows=map(connections.make_row, findings),
        glossary=_glossary(totals["verdicts"]),
        json_name=json_name,
        json_url=urllib.parse.quote(json_name or ""),
    )


@functools.lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(_FOLDER),
        trim_blocks=True,
        lstrip_blocks=True,
        # Escaping makes text harmless to the browser; this also shows invisible characters.
        finalize=lambda value: value if isinstance(value, Markup) else sanitize(value, _MAX_TEXT),
    )
    environment.filters.update(number=count_text, count=plural, time=time_text)
    return environment


def _csp_hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _state(totals: Mapping[str, Any]) -> str:
    """Return the state that colours the page: good, maybe, gap (a host is missing) or bad."""
    if totals["certain"]:
        return "bad"
    if totals["answered"] < totals["hosts"] or not totals["hosts"]:
        return "gap"
    return "maybe" if totals["found"] else "good"


class _Tile(NamedTuple):
    """A number at the top of the page. note: text below it."""

    title: str
    value: str
    note: str | None


def _tiles(totals: Mapping[str, Any]) -> list[_Tile]:
    missing = totals["hosts"] - totals["answered"]
    total = totals["connections"]
    uncertain = totals["found"] - totals["certain"]
    tiles = [
        _Tile(
            "stuck",
            count_text(totals["certain"]),
            None if total is None else f"of {plural(total, 'TCP connection')}",
        ),
        _Tile(
            "hosts affected",
            f"{count_text(totals['affected'])} of {count_text(totals['hosts'])}",
            f"{count_text(missing)} did not answer" if missing else "all answered",
        ),
    ]
    if totals["longest_ms"] is not None:
        tiles.append(
            _Tile("longest", f"≥ {age_text(totals['longest_ms'])}", "proven by kernel clocks")
        )
    if totals["found"]:
        tiles.append(
            _Tile("queued", size_text(totals["waiting_bytes"]), "unsent or unacknowledged")
        )
    if uncertain and totals["certain"]:
        tiles.append(_Tile("possibly stuck", count_text(uncertain), "may be healthy"))
    return tiles


def _host_chart(hosts: Sequence[Mapping[str, Any]]) -> charts.BarChart:
    affected = sorted((host for host in hosts if host["found"]), key=lambda host: -host["found"])
    caption = "Each connection counts once, under its leading verdict."
    rest = [host["name"] for host in affected[_MAX_BARS:]]
    if rest:
        caption += f" {plural(len(rest), 'more host')}: {join_names(rest, 4)}."
    bars = (
        charts.Bar(host["name"], host["verdicts"], host["found"] - host["listed"])
        for host in affected[:_MAX_BARS]
    )
    return charts.bar_chart("By host", caption, bars)


def _rankings(report: Mapping[str, Any]) -> list[charts.BarChart]:
    several = report["totals"]["answered"] > 1

    def bars(entries: Iterable[Mapping[str, Any]]) -> Iterable[charts.Bar]:
        for entry in entries:
            note = f"on {plural(entry['hosts'], 'host')}" if several else ""
            yield charts.Bar(entry["name"], entry["verdicts"], note=note)

    return [
        charts.bar_chart(title, caption, bars(report[key]))
        for key, title, caption in (
            ("peers", "Top peers", "Remote addresses with the most connections."),
            ("programs", "Top programs", "systemd units or commands with the most connections."),
        )
        if report[key]
    ]


class _Card(NamedTuple):
    """A host with findings. left_out: connections that were counted but not listed."""

    host: Mapping[str, Any]
    summary: str
    segments: list[charts.Segment]
    marks: list[charts.Mark]
    left_out: int


class _Hosts(NamedTuple):
    """Cards, and hosts without findings.

    missing, affected: at most MAX_CARDS in total. more: number of cards beyond that.
    healthy_open: whether the page shows the healthy hosts at once.
    """

    missing: list[Mapping[str, Any]]
    affected: list[_Card]
    more: int
    healthy: list[Mapping[str, Any]]
    healthy_open: bool


def _hosts(hosts: Sequence[Mapping[str, Any]]) -> _Hosts:
    missing = [host for host in hosts if host["status"] != "answered"]
    affected = sorted(
        (host for host in hosts if host["found"]),
        key=lambda host: (-host["certain"], -host["found"]),
    )
    healthy = [host for host in hosts if host["status"] == "answered" and not host["found"]]
    count = len(missing) + len(affected)
    return _Hosts(
        missing[:MAX_CARDS],
        [_card(host) for host in affected[: max(0, MAX_CARDS - len(missing))]],
        max(0, count - MAX_CARDS),
        healthy,
        not count or len(healthy) <= _MAX_OPEN_HEALTHY,
    )


def _card(host: Mapping[str, Any]) -> _Card:
    left_out = host["found"] - host["listed"]
    facts = []
    if host["connections"] is not None:
        facts.append(f"of {plural(host['connections'], 'TCP connection')}")
    if host["longest_ms"] is not None:
        facts.append(f"longest at least {age_text(host['longest_ms'])}")
    return _Card(
        host,
        ", ".join(facts),
        charts.horizontal_bar(host["verdicts"], host["found"], left_out),
        charts.marks(host["verdicts"]),
        left_out,
    )


def _glossary(verdicts: Mapping[str, int]) -> dict[str, list[dict[str, str]]]:
    """Explain the verdicts that occur and, separately, those that do not."""

    def explain(names: Iterable[str]) -> list[dict[str, str]]:
        return [
            {"verdict": name, "css_class": charts.colour_class(name), **describe(name)._asdict()}
            for name in names
        ]

    return {
        "present": explain(verdicts),
        "absent": explain(name for name in VERDICTS if name not in verdicts),
    }
