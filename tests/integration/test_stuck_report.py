# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook linuxnet.sockets.stuck_report on several hosts, and its page in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from plugins.plugin_utils._report.document import build_report
from plugins.plugin_utils._report.page import render_page
from plugins.plugin_utils._report.verdicts import describe
from tests.integration.browser import Browser, Page
from tests.integration.conftest import StartProcess
from tests.integration.controller import BIN, environment, python_inside
from tests.support import sample_results
from tests.support.topologies.networks import ip
from tests.support.topologies.topology import Lab, Pair
from tests.support.topologies.waiting import until

PORT = 8080
# Names with markup and a direction mark, which the page must escape.
HOST = "<img src=x onerror=alert(1)>"
PROGRAM = "\"><i>\u202e&'</"
# An address that the test removes from the host.
REMOVED_ADDRESS = "192.0.2.77"
# Short thresholds: the defaults take minutes.
SHORT_THRESHOLDS = [
    {"verdict": ["zero_window", "retransmitting", "syn_sent"], "for": "500ms"},
    {"verdict": "close_wait", "for": "200ms"},
]
VARIABLES: dict[str, Any] = {
    "stuck_report_become": False,
    "stuck_report_time": sample_results.TIME,
    "stuck_report_stuck": SHORT_THRESHOLDS,
}


class Host(NamedTuple):
    """A host of the inventory, and the cookies of its connections by verdict; "" means healthy."""

    pair: Pair
    cookies: dict[str, set[str]]


class Site:
    """Three hosts with one peer each, and one unreachable host."""

    def __init__(self, lab: Lab, start_process: StartProcess, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory.yml"
        self.hosts: dict[str, Host] = {}
        self._start_actor = start_process
        members: dict[str, Any] = {
            "gone": {
                "ansible_connection": "ssh",
                "ansible_host": "127.0.0.1",
                # No process listens on this port.
                "ansible_port": 1,
                "ansible_ssh_common_args": "-o ConnectTimeout=5",
            }
        }
        for number, (name, make) in enumerate(
            {
                HOST: self._zero_window_host,
                "web-2": self._lost_network_host,
                "web-10": self._healthy_host,
            }.items()
        ):
            pair = Pair(lab)
            self.hosts[name] = Host(pair, make(pair))
            members[name] = {
                "ansible_python_interpreter": python_inside(
                    pair.client, folder / f"python-{number}"
                )
            }
        shared = {
            "ansible_connection": "local",
            "ansible_remote_tmp": str(folder / "remote"),
        }
        self.inventory.write_text(yaml.safe_dump({"all": {"hosts": members, "vars": shared}}))

    def _zero_window_host(self, pair: Pair) -> dict[str, set[str]]:
        """Make peers with a zero window, and a program that does not close."""
        server, client = self._start_actor(pair.server), self._start_actor(pair.client)
        client.become(name=PROGRAM)
        for address in (pair.server4, pair.server6):
            server.listen(address, PORT)
        full = [*client.connect(pair.server4, PORT, 2), *client.connect(pair.server6, PORT, 1)]
        left = client.connect(pair.server4, PORT, 2)
        healthy = client.connect(pair.server4, PORT, 2)
        for connection in full:
            client.fill(connection["number"])
        server.close_accepted(PORT, *(connection["port"] for connection in left))
        return {
            "zero_window": cookies_of(full),
            "close_wait": cookies_of(left),
            "": cookies_of(healthy),
        }

    def _lost_network_host(self, pair: Pair) -> dict[str, set[str]]:
        """Make a peer that stops answering, an absent peer, and a removed local address."""
        server, client = self._start_actor(pair.server), self._start_actor(pair.client)
        client.become(name="orders")
        pair.client.address(pair.client_device, f"{REMOVED_ADDRESS}/24")
        server.listen("0.0.0.0", PORT)
        server.listen(pair.server6, PORT)
        stranded = client.connect(pair.server4, PORT, 2, source=(REMOVED_ADDRESS, 0))
        lost = client.connect(pair.server6, PORT, 1)
        unanswered = client.connect(pair.silent, PORT, 1, wait=False)
        healthy = client.connect(pair.server4, PORT, 1)
        pair.lose_packets_to(pair.server6)
        client.fill(lost[0]["number"])
        ip(pair.client, f"address del {REMOVED_ADDRESS}/24 dev {pair.client_device}")
        return {
            "address_gone": cookies_of(stranded),
            "retransmitting": cookies_of(lost),
            "syn_sent": cookies_of(unanswered),
            "": cookies_of(healthy),
        }

    def _healthy_host(self, pair: Pair) -> dict[str, set[str]]:
        server, client = self._start_actor(pair.server), self._start_actor(pair.client)
        server.listen(pair.server4, PORT)
        return {"": cookies_of(client.connect(pair.server4, PORT, 4))}

    def report(self, name: str, **variables: Any) -> Report:
        """Run the playbook by its full name. name: file name of the page."""
        path = self.folder / name
        variables = {**VARIABLES, "stuck_report_dest": f"./{name}", **variables}
        command = [str(BIN / "ansible-playbook"), "linuxnet.sockets.stuck_report"]
        done = subprocess.run(
            [*command, "-i", str(self.inventory), "-e", json.dumps(variables)],
            cwd=self.folder,
            env=environment({"ANSIBLE_FORKS": "4"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert path.exists(), done.stdout
        document = json.loads(path.with_suffix(".json").read_text())
        return Report(path, document, done.stdout, done.returncode)

    def ss(self, host: str) -> str:
        """Return the output of ss on a host."""
        return self.hosts[host].pair.client.output("ss", "--tcp", "-H", "-n", "-i", "-e")


class Report(NamedTuple):
    """Result of the playbook: the page, the JSON document, the output and the exit status."""

    path: Path
    document: dict[str, Any]
    output: str
    status: int

    def leading(self, host: str) -> dict[str, set[str]]:
        """Return the cookies of the findings on a host by leading verdict."""
        found: dict[str, set[str]] = {}
        for entry in self.document["findings"]:
            if entry["host"] == host:
                found.setdefault(entry["leading"], set()).add(entry["cookie"])
        return found


def cookies_of(connections: list[dict[str, Any]]) -> set[str]:
    return {connection["cookie"] for connection in connections}


@pytest.fixture(scope="module")
def site(lab: Lab, start_process: StartProcess, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(lab, start_process, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def report(site: Site) -> Report:
    """Report on all hosts, run as soon as the kernel's timers prove the durations."""
    for host, count, pattern in (
        (HOST, 3, r"timer:\(persist[^\n]*\n[^\n]*backoff:[2-9]"),
        ("web-2", 1, r"ESTAB[^\n]*timer:\(on[^\n]*\n[^\n]*backoff:[2-9]"),
        ("web-2", 1, r"SYN-SENT[^\n]*\n[^\n]*backoff:[1-9]"),
    ):
        until(
            lambda host=host, count=count, pattern=pattern: (
                len(re.findall(pattern, site.ss(host))) == count
            ),
            f"{count} x {pattern} on {host}",
            seconds=20,
        )
    return site.report("all.html")


@pytest.fixture(scope="module")
def browser(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start a browser in a namespace without a network."""
    isolated = lab.namespace("browser")
    with Browser(tmp_path_factory.mktemp("browser") / "profile", isolated.command) as browser:
        yield browser


@pytest.fixture(scope="module")
def shown(browser: Browser, report: Report) -> Page:
    return browser.open(report.path)


def test_finds_exactly_the_stuck_connections_with_their_verdicts(
    site: Site, report: Report
) -> None:
    for name, host in site.hosts.items():
        expected = {verdict: cookies for verdict, cookies in host.cookies.items() if verdict}
        assert report.leading(name) == expected, name
    for entry in report.document["findings"]:
        leading = entry["verdicts"][0]
        assert leading["evidence"], entry
        assert (entry["for_ms"] is None) == (leading["verdict"] == "address_gone")
        assert entry["processes"]


def test_unreachable_host_is_reported_and_fails_the_play(report: Report) -> None:
    hosts = {host["name"]: host for host in report.document["hosts"]}

    assert list(hosts) == [HOST, "gone", "web-2", "web-10"]
    assert hosts["gone"]["status"] == "unreachable"
    assert "Connection refused" in hosts["gone"]["message"]
    assert (hosts["web-10"]["status"], hosts["web-10"]["found"]) == ("answered", 0)
    assert hosts["web-10"]["connections"] == 4
    assert report.document["headline"].startswith("9 connections on 2 of the 3 hosts that answered")
    assert report.status == 2
    assert report.document["headline"] in " ".join(report.output.split())
    recap = report.output.rpartition("PLAY RECAP")[2]
    assert recap.count("failed=1") == 1
    assert recap.count("changed=0") == 4


def test_page_shows_headline_hosts_and_evidence(report: Report, shown: Page) -> None:
    shown.resize(1280)

    assert shown.texts("h1") == [report.document["headline"]]
    assert shown.texts(".remarks li") == report.document["remarks"]
    assert ["gone" in remark for remark in report.document["remarks"]] == [True]
    assert len(shown.texts("tbody tr")) == 9
    cards = dict(zip(shown.texts(".card h3 bdi"), shown.texts(".card"), strict=True))
    assert list(cards) == ["gone", HOST, "web-2"]
    assert "Connection refused" in cards["gone"]
    for count, verdict in ((3, "zero_window"), (2, "close_wait")):
        assert f"{count} {describe(verdict).title}" in " ".join(cards[HOST].split())
    assert shown.texts(".healthy li") == ["web-10 4"]
    # Each verdict has evidence in words and numbers.
    assert all(len(text.split()) >= 4 for text in shown.texts(".verdict"))
    evidence = " ".join(shown.texts(".verdict"))
    for number in (
        "peer window 0",
        "unsent ",
        "retransmits ",
        f"address {REMOVED_ADDRESS}",
        "lookup ",
    ):
        assert number in evidence, number


def test_charts_are_drawn_to_scale(report: Report, shown: Page) -> None:
    widths = shown.evaluate(
        "Object.fromEntries([...document.querySelectorAll('figure .bars')[0].children].map(row =>"
        " [row.querySelector('bdi').textContent, [...row.querySelectorAll('rect')].reduce("
        " (sum, rect) => sum + rect.getBoundingClientRect().width, 0)]))"
    )
    found = {host["name"]: host["found"] for host in report.document["hosts"] if host["found"]}

    assert widths.keys() == found.keys()
    assert widths["web-2"] / widths[HOST] == pytest.approx(found["web-2"] / found[HOST], abs=0.02)
    heights = shown.evaluate(
        "[...document.querySelectorAll('.ages li')].map(item => [...item.querySelectorAll('rect')]"
        ".reduce((sum, rect) => sum + rect.getBoundingClientRect().height, 0))"
    )
    counts = [sum(step["verdicts"].values()) for step in report.document["ages"]]
    assert [height > 1 for height in heights] == [count > 0 for count in counts]
    # Black is the fill of a rect without a style rule.
    fills = shown.evaluate(
        "[...document.querySelectorAll('rect')].map(rect => getComputedStyle(rect).fill)"
    )
    assert "rgb(0, 0, 0)" not in fills


def test_names_are_shown_as_text(shown: Page) -> None:
    assert shown.evaluate("document.querySelectorAll('img, i, td script').length") == 0
    programs = [text for text in shown.texts("tbody td:nth-child(5) > bdi") if "<i>" in text]
    assert len(programs) == 5
    assert programs[0].startswith("\"><i>\\u{202e}&'</[")
    assert shown.evaluate("getComputedStyle(document.querySelector('bdi')).unicodeBidi") == (
        "isolate"
    )


def test_page_loads_nothing_and_logs_no_errors(report: Report, shown: Page) -> None:
    assert shown.requests == [report.path.as_uri()]
    assert shown.errors == []
    assert shown.evaluate("performance.getEntriesByType('resource').length") == 0


def test_content_security_policy_blocks_injected_scripts(
    browser: Browser, report: Report, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.html"
    html = report.path.read_text()
    broken.write_text(html.replace("<h1>", '<script>document.title = "owned"</script><h1>'))
    opened = browser.open(broken)

    assert opened.evaluate("document.title") != "owned"
    assert len(opened.errors) == 1


def test_table_filters(shown: Page) -> None:
    rows = "tbody tr"
    assert len(shown.texts(rows)) == 9
    shown.fill("#verdict", "zero_window")
    assert len(shown.texts(rows)) == 3
    assert shown.texts("#count") == ["3 of 9 shown"]
    shown.fill("#find", f"[{Pair.server6}]")
    assert len(shown.texts(rows)) == 1
    shown.click("#controls [type=reset]")
    until(lambda: len(shown.texts(rows)) == 9, "all rows are shown again")
    shown.click('a[data-host="web-2"]')
    assert shown.texts("tbody th") == ["web-2"] * 4
    shown.fill("#find", "no such thing")
    assert shown.texts(rows) == []
    shown.click("#controls [type=reset]")
    until(lambda: len(shown.texts(rows)) == 9, "all rows are shown again")


def test_table_sorts(report: Report, shown: Page) -> None:
    def column(number: int) -> list[str]:
        return shown.texts(f"tbody tr > :nth-child({number})")

    def sort(number: int) -> str:
        shown.click(f"thead th:nth-child({number}) button")
        return shown.evaluate(f"document.querySelector('thead th:nth-child({number})').ariaSort")

    assert (sort(1), column(1)) == ("ascending", [HOST] * 5 + ["web-2"] * 4)
    assert (sort(1), column(1)) == ("descending", ["web-2"] * 4 + [HOST] * 5)
    ages = [entry["for_ms"] for entry in report.document["findings"]]
    known = sorted(age for age in ages if age is not None)
    sort(3)
    numbers = shown.evaluate(
        "[...document.querySelectorAll('tbody td:nth-child(3)')].map(cell => cell.dataset.number)"
    )
    assert numbers == [str(age) for age in reversed(known)] + [None] * 2
    assert sort(3) == "ascending"
    assert column(3)[-2:] == ["unknown"] * 2
    assert shown.evaluate("document.querySelectorAll('thead [aria-sort]').length") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(shown: Page, scheme: str) -> None:
    shown.resize(360)
    shown.prefer(prefers_color_scheme=scheme)
    try:
        assert shown.overflow() == 0
        wider = shown.evaluate(
            "[...document.querySelectorAll('body *')].filter(element => element.checkVisibility()"
            " && !element.closest('.visually-hidden, .skip')"
            " && element.getBoundingClientRect().right > 360.5)"
            ".map(element => element.outerHTML.slice(0, 200))"
        )
        assert wider == []
        small = shown.evaluate(
            "[...document.querySelectorAll('#controls input, #controls select, #controls button')]"
            ".filter(element => element.getBoundingClientRect().height < 40).length"
        )
        assert small == 0
        dark = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(18, 20, 26)") == (scheme == "dark")
        # On a phone each row is a card, but still a table row for screen readers.
        assert shown.evaluate("document.querySelectorAll('table[role=table] [role=cell]').length")
    finally:
        shown.prefer(prefers_color_scheme="light")
        shown.resize(1280)


def test_page_is_complete_without_scripts(browser: Browser, report: Report) -> None:
    static = browser.open(report.path, scripts=False)

    assert static.texts("h1") == [report.document["headline"]]
    assert len(static.texts("tbody tr")) == 9
    assert static.texts("#controls") == []
    assert static.texts("thead button") == []
    # The browser opens <details> without a script.
    static.evaluate("document.querySelector('tbody details').open = true")
    assert "cookie" in static.texts("tbody details .numbers")[0]


def test_match_and_limit_narrow_the_report(site: Site, report: Report) -> None:
    cut = site.report(
        "cut.html",
        stuck_report_hosts="web-2,web-10",
        stuck_report_match={"remote": Pair.server4},
        stuck_report_limit=1,
    )

    assert cut.status == 0
    assert [host["name"] for host in cut.document["hosts"]] == ["web-2", "web-10"]
    totals = cut.document["totals"]
    assert (totals["found"], totals["listed"], totals["left_out"]) == (2, 1, 1)
    assert "1 of 2 connections" in cut.document["remarks"][0]
    assert report.document["totals"]["left_out"] == 0


def test_same_document_gives_the_same_page(report: Report) -> None:
    assert render_page(report.document, json_path=str(report.path.with_suffix(".json"))) == (
        report.path.read_text(encoding="utf-8")
    )


def test_empty_and_largest_pages_fit_a_phone(browser: Browser, tmp_path: Path) -> None:
    """The largest page has the longest possible names."""
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
    for name, results, rows in (
        ("many", many, 1000),
        ("none", {"web": sample_results.info_result()}, 0),
    ):
        path = tmp_path / f"{name}.html"
        path.write_text(
            render_page(build_report(results, time=sample_results.TIME)), encoding="utf-8"
        )
        opened = browser.open(path)
        opened.resize(360)

        assert opened.evaluate("document.querySelectorAll('tbody tr').length") == rows
        assert opened.overflow() == 0
        assert opened.errors == []
