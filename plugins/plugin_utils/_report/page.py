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
from .compare import fully_checked
from .document import VERSION, ReportError, natural
from .finding import sanitize
from .groups import folded_suffixes, group_equal, short_names
from .sentences import age_text, count_text, plural, time_text
from .table_data import count_all_verdicts, table_data
from .verdicts import VERDICTS, describe

# Files that the page embeds, in this order.
STYLES = ("style.css", "table.css", "print.css")
SCRIPTS = ("search.js", "steps.js", "export.js", "compare.js", "table.js")
MAX_BARS = 100
MAX_GONE = 200
_SHOWN_HOSTS = 12
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
    # Lists of Ansible may return another object at each access.
    all_findings = list(report["findings"])
    findings = all_findings[: connections.MAX_ROWS]
    groups = group_equal(findings)
    host_names = [host["name"] for host in report["hosts"]]
    suffixes = folded_suffixes(host_names)
    short = short_names(host_names, suffixes)
    occurring = count_all_verdicts(all_findings)
    state = _state(totals)
    style, script, start = _read(STYLES), _read(SCRIPTS), _read(["start.js"])
    template = _environment().get_template("page.html.j2")
    json_name = posixpath.basename(json_path) if json_path else None
    return template.render(
        report=report,
        state=state,
        icon_colour=_ICON_COLOURS[state],
        # All are files of the collection, and their hashes cover each byte.
        style=Markup(style),
        script=Markup(script),
        start=Markup(start),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        start_hash=_csp_hash(start),
        tiles=_tiles(totals, report["comparison"]),
        bar_length=charts.BAR_LENGTH,
        column_length=charts.COLUMN_LENGTH,
        legend=charts.legend(totals["verdicts"], totals["left_out"]),
        host_chart=_host_chart(report["hosts"], short) if totals["answered"] > 1 else None,
        age_columns=charts.age_columns(report["ages"]),
        rankings=_rankings(report),
        hosts=_hosts(report["hosts"]),
        host_status=_HOST_STATUS,
        suffixes=suffixes,
        short=short,
        verdict_choices=[
            (name, f"{describe(name).title} ({count_text(count)})")
            for name, count in occurring.items()
        ],
        host_choices=[
            (name, short[name])
            for name in sorted({entry["host"] for entry in findings}, key=natural)
        ],
        table_caption=connections.caption(totals, len(findings)),
        groups=map(connections.make_group, groups),
        data={
            **table_data(groups, all_findings),
            "version": VERSION,
            "selection": report["selection"],
            "checked_hosts": sorted(fully_checked(report["hosts"])),
        },
        # Without all connections, the script cannot say which ones are gone.
        comparable=len(findings) == len(all_findings),
        gone=[connections.make_row(finding) for finding in report["gone"][:MAX_GONE]],
        glossary=_glossary(occurring),
        json_name=json_name,
        json_url=urllib.parse.quote(json_name or ""),
    )


def _read(names: Iterable[str]) -> str:
    return "\n".join(_FOLDER.joinpath(name).read_text(encoding="utf-8") for name in names)


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


def _tiles(totals: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> list[_Tile]:
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
            _Tile(
                "queued",
                size_text(totals["waiting_bytes"]),
                "unsent or unacknowledged",
            )
        )
    if uncertain and totals["certain"]:
        tiles.append(_Tile("possibly stuck", count_text(uncertain), "may be healthy"))
    if comparison:
        tiles.append(
            _Tile(
                "new",
                count_text(comparison["new"]),
                f"{count_text(comparison['still'])} still there, "
                f"{count_text(comparison['gone'])} gone",
            )
        )
    return tiles


def _host_chart(hosts: Sequence[Mapping[str, Any]], short: Mapping[str, str]) -> charts.BarChart:
    affected = sorted((host for host in hosts if host["found"]), key=lambda host: -host["found"])
    caption = "Each connection counts once, under its first verdict."
    rest = affected[MAX_BARS:]
    if rest:
        caption += f" {plural(len(rest), 'more host')} in the JSON document."
    bars = (
        charts.Bar(
            host["name"],
            host["verdicts"],
            host["found"] - host["listed"],
            _host_note(host),
            short[host["name"]],
        )
        for host in affected[:MAX_BARS]
    )
    return charts.bar_chart("By host", caption, "host", bars, _SHOWN_HOSTS)


def _host_note(host: Mapping[str, Any]) -> str:
    """Return the number of open connections and the longest duration."""
    facts = []
    if host["connections"] is not None:
        facts.append(f"of {count_text(host['connections'])}")
    if host["longest_ms"] is not None:
        facts.append(f"≥ {age_text(host['longest_ms'])}")
    return ", ".join(facts)


def _rankings(report: Mapping[str, Any]) -> list[charts.BarChart]:
    several = report["totals"]["answered"] > 1

    def bars(entries: Iterable[Mapping[str, Any]]) -> Iterable[charts.Bar]:
        for entry in entries:
            note = f"on {plural(entry['hosts'], 'host')}" if several else ""
            yield charts.Bar(entry["name"], entry["verdicts"], note=note)

    return [
        charts.bar_chart(title, caption, filter_key, bars(report[key]))
        for key, filter_key, title, caption in (
            ("peers", "peer", "Top peers", "Remote addresses with the most connections."),
            (
                "programs",
                "program",
                "Top programs",
                "systemd units or commands with the most connections.",
            ),
        )
        if report[key]
    ]


class _Hosts(NamedTuple):
    """Hosts that the charts do not show. healthy_open: whether the page lists them at once."""

    missing: list[Mapping[str, Any]]
    healthy: list[Mapping[str, Any]]
    healthy_open: bool


def _hosts(hosts: Sequence[Mapping[str, Any]]) -> _Hosts:
    healthy = [host for host in hosts if host["status"] == "answered" and not host["found"]]
    return _Hosts(
        [host for host in hosts if host["status"] != "answered"],
        healthy,
        len(healthy) <= _MAX_OPEN_HEALTHY,
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
