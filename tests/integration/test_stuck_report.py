# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook linuxnet.sockets.stuck_report on several hosts, and its page in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from plugins.plugin_utils._report.page import render_page
from plugins.plugin_utils._report.verdicts import describe
from tests.integration.browser import Browser, Page
from tests.integration.conftest import StartProcess
from tests.integration.controller import BIN, environment
from tests.integration.report_site import HOST, REMOVED_ADDRESS, Report, Site
from tests.support import sample_results
from tests.support.topologies.topology import Lab, Pair
from tests.support.topologies.waiting import until


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
def shown(browser: Browser, report: Report) -> Page:
    """The page, with each connection in a row of its own."""
    page = browser.open(report.path)
    page.set_hash("group=0")
    return page


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


def test_output_shows_the_steps_that_matter(site: Site) -> None:
    report = site.report("steps.html", stuck_report_hosts="web-10,web-2")
    assert re.findall(r"^TASK \[(.*)\] \*+$", report.output, re.MULTILINE) == [
        "Check the variables",
        "Find stuck connections",
        "Count all connections",
        "Write the page and the JSON document",
        "Show the summary and the paths",
        "Fail if the host could not be queried",
    ]
    assert report.status == 0, report.output


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"stuck_report_stukc": []}, "did you mean stuck_report_stuck?"),
        ({"stuck_report_elephant": 1}, "known variables: stuck_report_become, "),
        ({"stuck_report_hosts": "web-3"}, "stuck_report_hosts (web-3) matches no host"),
        ({"stuck_report_previous": "none.json"}, "stuck_report_previous: none.json: no such file"),
    ],
)
def test_mistyped_variables_are_rejected(
    site: Site, variables: dict[str, Any], message: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        site.report("rejected.html", **variables)
    assert message in " ".join(str(caught.value).split())
    assert "Find stuck connections" not in str(caught.value)
    assert site.report(
        "allowed.html",
        stuck_report_hosts="web-10",
        stuck_report_elephant=1,
        stuck_report_other_variables=["stuck_report_elephant"],
    ).path.exists()


def test_page_shows_headline_hosts_and_evidence(report: Report, shown: Page) -> None:
    shown.resize(1280)

    assert shown.texts("h1") == [report.document["headline"]]
    assert shown.texts(".remarks li") == report.document["remarks"]
    assert ["gone" in remark for remark in report.document["remarks"]] == [True]
    assert len(shown.texts("tbody tr")) == 9
    assert shown.texts(".bars.host bdi") == [HOST, "web-2"]
    assert "Connection refused" in shown.texts(".missing li")[0]
    assert shown.texts(".missing li b") == ["gone"]
    for count, verdict in ((3, "zero_window"), (2, "close_wait")):
        legend = " ".join(shown.texts(".mark")).split()
        expected = f"{describe(verdict).title} {count} {describe(verdict).short}"
        assert expected in " ".join(legend)
    assert shown.texts(".healthy li") == ["web-10 4"]
    shown.evaluate("document.querySelectorAll('tr.row .open').forEach(button => button.click())")
    # Each verdict has evidence in words and numbers.
    assert len(shown.texts(".verdict")) >= 9
    assert all(len(text.split()) >= 4 for text in shown.texts(".verdict"))
    evidence = " ".join(" ".join(shown.texts(".verdict")).split())
    for number in (
        "peer window 0",
        "unsent ",
        "retransmits ",
        f"address {REMOVED_ADDRESS}",
        "lookup ",
    ):
        assert number in evidence, number
    shown.evaluate("document.querySelectorAll('tr.row .open').forEach(button => button.click())")
    assert shown.texts(".verdict") == []


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
    programs = [text for text in shown.texts("tbody td:nth-child(6) > bdi") if "<i>" in text]
    assert len(programs) == 5
    assert programs[0].startswith("\"><i>\\u202e&'</[")
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
            "[...document.querySelectorAll('#bar input, #bar select, #bar button')]"
            ".filter(element => element.checkVisibility()"
            " && element.getBoundingClientRect().height < 36).length"
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
    assert len(static.texts("tbody tr.row")) == 9
    # Three groups of equal connections have a row of their own.
    assert len(static.texts("tbody tr.group")) == 3
    for selector in ("#bar", ".tools", "#pages", "thead button", "a[data-filter]"):
        assert static.texts(selector) == [], selector
    # The browser opens <details> without a script.
    static.evaluate("document.querySelector('tbody details').open = true")
    assert any("cookie" in text for text in static.texts("tbody details .numbers"))


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


def test_next_step_destroys_just_these_connections(site: Site, shown: Page, tmp_path: Path) -> None:
    """Runs the texts that the page offers, as somebody who copies them does."""

    def run(host: str, remote: str) -> list[dict[str, Any]]:
        """Run the task for the group with this host and remote; return its destroyed sockets."""
        shown.set_hash(f"host={quote(host)}&find={quote(remote)}")
        shown.click("tr.group .open")
        shown.choose("tr.detail .choices button", "Destroy: Ansible")
        text = shown.texts("tr.detail pre")[0]
        loaded = yaml.safe_load(text)
        # A name that is no pattern gets a task without a play.
        play = loaded[0] if host == "web-2" else {"hosts": "all", "tasks": loaded}
        assert play["hosts"] in ("web-2", "all")
        result_file = tmp_path / "result.json"
        play["become"] = False
        play["gather_facts"] = False
        play["tasks"][0]["register"] = "done"
        play["tasks"].append(
            {
                "ansible.builtin.copy": {
                    "content": "{{ done | to_json }}",
                    "dest": str(result_file),
                    "mode": "0600",
                },
                "delegate_to": "localhost",
            }
        )
        playbook = tmp_path / "next.yml"
        playbook.write_text(yaml.safe_dump([play], sort_keys=False))
        inventory = yaml.safe_load(site.inventory.read_text())
        members = inventory["all"]["hosts"]
        inventory["all"]["hosts"] = {"web-2": members["web-2"], "other": members[HOST]}
        if host == "web-2":
            del inventory["all"]["hosts"]["other"]
        else:
            del inventory["all"]["hosts"]["web-2"]
        (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory))
        subprocess.run(
            [str(BIN / "ansible-playbook"), str(playbook), "-i", str(tmp_path / "inventory.yml")],
            env=environment({}),
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )
        shown.set_hash("group=0")
        return json.loads(result_file.read_text())["destroyed"]

    for host, verdict, remote in (
        ("web-2", "address_gone", Pair.server4),
        (HOST, "zero_window", "zero_window"),
    ):
        destroyed = {entry["cookie"] for entry in run(host, remote)}
        expected = site.hosts[host].cookies[verdict]
        assert len(destroyed) == 2
        assert destroyed <= expected
    # The third connection with a zero window has another peer, and so do the others.
    left = site.report("left.html", stuck_report_hosts="all:!gone")
    assert {len(cookies) for cookies in left.leading(HOST).values()} == {1, 2}
    assert "address_gone" not in left.leading("web-2")


def test_comparison_with_the_earlier_report(site: Site, report: Report) -> None:
    """Runs last: other tests need the connections that end here."""
    again = site.report("again.html", stuck_report_previous=str(report.path.with_suffix(".json")))
    compared = again.document["comparison"]

    # The test before destroyed four connections.
    assert (compared["new"], compared["still"], compared["gone"]) == (0, 5, 4)
    assert compared["sentence"] in " ".join(again.output.split())
    assert {finding["first_time"] for finding in again.document["findings"]} == {
        sample_results.TIME
    }
    assert "4 connections of the report of" in again.path.read_text()


@pytest.mark.parametrize("text", ["{", "{}", None])
def test_bad_earlier_report_is_refused_before_hosts_are_asked(site: Site, text: str | None) -> None:
    earlier = site.folder / "earlier.json"
    earlier.unlink(missing_ok=True)
    if text is not None:
        earlier.write_text(text)
    output, status = site.run(stuck_report_previous=str(earlier), stuck_report_dest="./bad.html")

    assert status != 0
    assert not (site.folder / "bad.html").exists()
    assert "TASK [Find stuck connections]" not in output
    expected = str(earlier) if text is None else "expected the JSON document of an earlier report"
    assert expected in " ".join(output.split())
