# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook linuxnet.sockets.stuck_report on several hosts, and its page in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from plugins.plugin_utils._report.document import document
from plugins.plugin_utils._report.page import page
from tests.integration.browser import Browser, Page
from tests.integration.conftest import StartActor
from tests.integration.controller import BIN, environment, python_inside
from tests.support.topologies.networks import ip
from tests.support.topologies.topology import Lab, Pair
from tests.support.topologies.waiting import until
from tests.unit.plugins.report import answers as made_up

PORT = 8080
# Names that must stay names.
HOST = "<img src=x onerror=alert(1)>"
PROGRAM = "\"><i>\u202e&'</"
# An address that is taken from the host.
TAKEN = "192.0.2.77"
# What takes the defaults minutes takes the test a moment.
SOON = [
    {"verdict": ["zero_window", "retransmitting", "syn_sent"], "for": "500ms"},
    {"verdict": "close_wait", "for": "200ms"},
]
VARIABLES: dict[str, Any] = {
    "stuck_report_become": False,
    "stuck_report_time": made_up.TIME,
    "stuck_report_stuck": SOON,
}


class Host(NamedTuple):
    """A host of the inventory, and the cookies of its connections by verdict; "": in order."""

    pair: Pair
    cookies: dict[str, set[str]]


class Site:
    """Three hosts, each with a peer of its own, and one that nobody reaches."""

    def __init__(self, lab: Lab, start_actor: StartActor, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory.yml"
        self.hosts: dict[str, Host] = {}
        self._start_actor = start_actor
        members: dict[str, Any] = {
            "gone": {
                "ansible_connection": "ssh",
                "ansible_host": "127.0.0.1",
                # Nothing listens on it.
                "ansible_port": 1,
                "ansible_ssh_common_args": "-o ConnectTimeout=5",
            }
        }
        for number, (name, make) in enumerate(
            {HOST: self._slow_peers, "web-2": self._lost_network, "web-10": self._in_order}.items()
        ):
            pair = Pair(lab)
            self.hosts[name] = Host(pair, make(pair))
            members[name] = {
                "ansible_python_interpreter": python_inside(
                    pair.client, folder / f"python-{number}"
                )
            }
        everybody = {
            "ansible_connection": "local",
            "ansible_remote_tmp": str(folder / "remote"),
        }
        self.inventory.write_text(yaml.safe_dump({"all": {"hosts": members, "vars": everybody}}))

    def _slow_peers(self, pair: Pair) -> dict[str, set[str]]:
        """Peers that read no more, and a program that does not close."""
        server, client = self._start_actor(pair.server), self._start_actor(pair.client)
        client.become(name=PROGRAM)
        for address in (pair.server4, pair.server6):
            server.listen(address, PORT)
        full = [*client.connect(pair.server4, PORT, 2), *client.connect(pair.server6, PORT, 1)]
        left = client.connect(pair.server4, PORT, 2)
        calm = client.connect(pair.server4, PORT, 2)
        for each in full:
            client.fill(each["number"])
        server.finish(PORT, *(each["port"] for each in left))
        return {"zero_window": names(full), "close_wait": names(left), "": names(calm)}

    def _lost_network(self, pair: Pair) -> dict[str, set[str]]:
        """A peer that does not answer, one that is not there, and an address that goes."""
        server, client = self._start_actor(pair.server), self._start_actor(pair.client)
        client.become(name="orders")
        pair.client.address(pair.client_device, f"{TAKEN}/24")
        server.listen("0.0.0.0", PORT)
        server.listen(pair.server6, PORT)
        stranded = client.connect(pair.server4, PORT, 2, source=(TAKEN, 0))
        lost = client.connect(pair.server6, PORT, 1)
        unanswered = client.connect(pair.silent, PORT, 1, wait=False)
        calm = client.connect(pair.server4, PORT, 1)
        pair.lose(pair.server6)
        client.fill(lost[0]["number"])
        ip(pair.client, f"address del {TAKEN}/24 dev {pair.client_device}")
        return {
            "address_gone": names(stranded),
            "retransmitting": names(lost),
            "syn_sent": names(unanswered),
            "": names(calm),
        }

    def _in_order(self, pair: Pair) -> dict[str, set[str]]:
        server, client = self._start_actor(pair.server), self._start_actor(pair.client)
        server.listen(pair.server4, PORT)
        return {"": names(client.connect(pair.server4, PORT, 4))}

    def report(self, name: str, **variables: Any) -> Report:
        """Run the playbook by its full name; name: of the page, in the folder."""
        path = self.folder / name
        given = {**VARIABLES, "stuck_report_dest": f"./{name}", **variables}
        command = [str(BIN / "ansible-playbook"), "linuxnet.sockets.stuck_report"]
        done = subprocess.run(
            [*command, "-i", str(self.inventory), "-e", json.dumps(given)],
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
        told = json.loads(path.with_suffix(".json").read_text())
        return Report(path, told, done.stdout, done.returncode)

    def look(self, host: str) -> str:
        """What ss shows on a host."""
        return self.hosts[host].pair.client.output("ss", "--tcp", "-H", "-n", "-i", "-e")


class Report(NamedTuple):
    path: Path
    told: dict[str, Any]
    output: str
    status: int

    def leading(self, host: str) -> dict[str, set[str]]:
        """The cookies that were found on a host, by leading verdict."""
        found: dict[str, set[str]] = {}
        for entry in self.told["findings"]:
            if entry["host"] == host:
                found.setdefault(entry["leading"], set()).add(entry["cookie"])
        return found


def names(made: list[dict[str, Any]]) -> set[str]:
    return {each["cookie"] for each in made}


@pytest.fixture(scope="module")
def site(lab: Lab, start_actor: StartActor, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(lab, start_actor, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def report(site: Site) -> Report:
    """Of all hosts, made as soon as the kernel's timers prove what is asked for."""
    for host, count, pattern in (
        (HOST, 3, r"timer:\(persist[^\n]*\n[^\n]*backoff:[2-9]"),
        ("web-2", 1, r"ESTAB[^\n]*timer:\(on[^\n]*\n[^\n]*backoff:[2-9]"),
        ("web-2", 1, r"SYN-SENT[^\n]*\n[^\n]*backoff:[1-9]"),
    ):
        until(
            lambda host=host, count=count, pattern=pattern: (
                len(re.findall(pattern, site.look(host))) == count
            ),
            f"{count} x {pattern} on {host}",
            seconds=20,
        )
    return site.report("all.html")


@pytest.fixture(scope="module")
def browser(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser in a namespace without any network."""
    nowhere = lab.namespace("browser")
    with Browser(tmp_path_factory.mktemp("browser") / "profile", nowhere.command) as browser:
        yield browser


@pytest.fixture(scope="module")
def shown(browser: Browser, report: Report) -> Page:
    return browser.open(report.path)


def test_every_stuck_connection_is_found_with_its_verdict_and_no_other(
    site: Site, report: Report
) -> None:
    for name, host in site.hosts.items():
        wanted = {verdict: cookies for verdict, cookies in host.cookies.items() if verdict}
        assert report.leading(name) == wanted, name
    for entry in report.told["findings"]:
        leading = entry["verdicts"][0]
        assert leading["evidence"], entry
        assert (entry["for_ms"] is None) == (leading["verdict"] == "address_gone")
        assert entry["processes"]


def test_hosts_that_failed_are_said_and_fail_the_play_after_the_report(report: Report) -> None:
    hosts = {host["name"]: host for host in report.told["hosts"]}

    assert list(hosts) == [HOST, "gone", "web-2", "web-10"]
    assert hosts["gone"]["status"] == "unreachable"
    assert "Connection refused" in hosts["gone"]["message"]
    assert (hosts["web-10"]["status"], hosts["web-10"]["found"]) == ("looked", 0)
    assert hosts["web-10"]["connections"] == 4
    assert report.told["headline"].startswith("9 connections on 2 of the 3 hosts that answered")
    assert report.status == 2
    assert report.told["headline"] in " ".join(report.output.split())
    recap = report.output.rpartition("PLAY RECAP")[2]
    assert recap.count("failed=1") == 1
    assert recap.count("changed=0") == 4


def test_the_page_says_it_all(report: Report, shown: Page) -> None:
    shown.resize(1280)

    assert shown.texts("h1") == [report.told["headline"]]
    assert shown.texts(".remarks li") == ["1 host could not be reached: gone."]
    assert len(shown.texts("tbody tr")) == 9
    cards = dict(zip(shown.texts(".card h3 bdi"), shown.texts(".card"), strict=True))
    assert list(cards) == ["gone", HOST, "web-2"]
    assert "Connection refused" in cards["gone"]
    assert "3 peer reads no more" in " ".join(cards[HOST].split())
    assert "2 application does not close" in " ".join(cards[HOST].split())
    assert shown.texts(".well li") == ["web-10 4"]
    # Evidence in words and numbers, on each.
    assert all(len(each.split()) >= 4 for each in shown.texts(".verdict"))
    evidence = " ".join(shown.texts(".verdict"))
    for words in ("peer window 0", "unsent ", "retransmits ", f"address {TAKEN}", "lookup "):
        assert words in evidence, words


def test_pictures_are_drawn_to_scale(report: Report, shown: Page) -> None:
    widths = shown.evaluate(
        "Object.fromEntries([...document.querySelectorAll('figure .bars')[0].children].map(row =>"
        " [row.querySelector('bdi').textContent, [...row.querySelectorAll('rect')].reduce("
        " (sum, each) => sum + each.getBoundingClientRect().width, 0)]))"
    )
    found = {host["name"]: host["found"] for host in report.told["hosts"] if host["found"]}

    assert widths.keys() == found.keys()
    assert widths["web-2"] / widths[HOST] == pytest.approx(found["web-2"] / found[HOST], abs=0.02)
    heights = shown.evaluate(
        "[...document.querySelectorAll('.ages li')].map(each => [...each.querySelectorAll('rect')]"
        ".reduce((sum, each) => sum + each.getBoundingClientRect().height, 0))"
    )
    counts = [sum(step["verdicts"].values()) for step in report.told["ages"]]
    assert [height > 1 for height in heights] == [count > 0 for count in counts]
    # Fills are colours, not the black of what no rule speaks of.
    fills = shown.evaluate(
        "[...document.querySelectorAll('rect')].map(each => getComputedStyle(each).fill)"
    )
    assert "rgb(0, 0, 0)" not in fills


def test_names_stay_names(shown: Page) -> None:
    assert shown.evaluate("document.querySelectorAll('img, i, td script').length") == 0
    programs = [each for each in shown.texts("tbody td:nth-child(5) > bdi") if "<i>" in each]
    assert len(programs) == 5
    assert programs[0].startswith("\"><i>\\u{202e}&'</[")
    assert shown.evaluate("getComputedStyle(document.querySelector('bdi')).unicodeBidi") == (
        "isolate"
    )


def test_it_asks_for_nothing_and_complains_of_nothing(report: Report, shown: Page) -> None:
    assert shown.requests == [report.path.as_uri()]
    assert shown.complaints == []
    assert shown.evaluate("performance.getEntriesByType('resource').length") == 0


def test_its_policy_is_in_force(browser: Browser, report: Report, tmp_path: Path) -> None:
    """What somebody managed to write into it would not run."""
    broken = tmp_path / "broken.html"
    html = report.path.read_text()
    broken.write_text(html.replace("<h1>", '<script>document.title = "owned"</script><h1>'))
    opened = browser.open(broken)

    assert opened.evaluate("document.title") != "owned"
    assert len(opened.complaints) == 1


def test_it_filters(shown: Page) -> None:
    rows = "tbody tr"
    assert len(shown.texts(rows)) == 9
    shown.fill("#verdict", "zero_window")
    assert len(shown.texts(rows)) == 3
    assert shown.texts("#count") == ["3 of 9 shown"]
    shown.fill("#find", f"[{Pair.server6}]")
    assert len(shown.texts(rows)) == 1
    shown.click("#controls [type=reset]")
    until(lambda: len(shown.texts(rows)) == 9, "all are shown again")
    shown.click('a[data-host="web-2"]')
    assert shown.texts("tbody th") == ["web-2"] * 4
    shown.fill("#find", "no such thing")
    assert shown.texts(rows) == []
    shown.click("#controls [type=reset]")
    until(lambda: len(shown.texts(rows)) == 9, "all are shown again")


def test_it_sorts(report: Report, shown: Page) -> None:
    def column(number: int) -> list[str]:
        return shown.texts(f"tbody tr > :nth-child({number})")

    def sort(number: int) -> str:
        shown.click(f"thead th:nth-child({number}) button")
        return shown.evaluate(f"document.querySelector('thead th:nth-child({number})').ariaSort")

    assert (sort(1), column(1)) == ("ascending", [HOST] * 5 + ["web-2"] * 4)
    assert (sort(1), column(1)) == ("descending", ["web-2"] * 4 + [HOST] * 5)
    ages = [entry["for_ms"] for entry in report.told["findings"]]
    known = sorted(age for age in ages if age is not None)
    sort(3)
    numbers = shown.evaluate(
        "[...document.querySelectorAll('tbody td:nth-child(3)')].map(each => each.dataset.number)"
    )
    assert numbers == [str(age) for age in reversed(known)] + [None] * 2
    assert sort(3) == "ascending"
    assert column(3)[-2:] == ["not known"] * 2
    assert shown.evaluate("document.querySelectorAll('thead [aria-sort]').length") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(shown: Page, scheme: str) -> None:
    shown.resize(360)
    shown.prefer(prefers_color_scheme=scheme)
    try:
        assert shown.overflow() == 0
        wider = shown.evaluate(
            "[...document.querySelectorAll('body *')].filter(each => each.checkVisibility()"
            " && !each.closest('.aloud, .skip') && each.getBoundingClientRect().right > 360.5)"
            ".map(each => each.outerHTML.slice(0, 200))"
        )
        assert wider == []
        small = shown.evaluate(
            "[...document.querySelectorAll('#controls input, #controls select, #controls button')]"
            ".filter(each => each.getBoundingClientRect().height < 40).length"
        )
        assert small == 0
        dark = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(18, 20, 26)") == (scheme == "dark")
        # A table in which rows are cards is a table still.
        assert shown.evaluate("document.querySelectorAll('table[role=table] [role=cell]').length")
    finally:
        shown.prefer(prefers_color_scheme="light")
        shown.resize(1280)


def test_it_can_be_read_without_scripts(browser: Browser, report: Report) -> None:
    still = browser.open(report.path, scripts=False)

    assert still.texts("h1") == [report.told["headline"]]
    assert len(still.texts("tbody tr")) == 9
    assert still.texts("#controls") == []
    assert still.texts("thead button") == []
    # What can be opened is opened by the browser itself.
    still.evaluate("document.querySelector('tbody details').open = true")
    assert "cookie" in still.texts("tbody details .numbers")[0]


def test_a_narrower_question_and_a_limit(site: Site, report: Report) -> None:
    cut = site.report(
        "cut.html",
        stuck_report_hosts="web-2,web-10",
        stuck_report_match={"remote": Pair.server4},
        stuck_report_limit=1,
    )

    assert cut.status == 0
    assert [host["name"] for host in cut.told["hosts"]] == ["web-2", "web-10"]
    totals = cut.told["totals"]
    assert (totals["found"], totals["listed"], totals["left_out"]) == (2, 1, 1)
    assert "The lists are truncated: 1 connection of 2 is counted" in cut.told["remarks"][0]
    assert report.told["totals"]["left_out"] == 0


def test_the_same_answers_give_the_same_page(report: Report) -> None:
    assert page(report.told, json=str(report.path.with_suffix(".json"))) == (
        report.path.read_text(encoding="utf-8")
    )


def test_thousands_and_none_fit_a_phone_too(browser: Browser, tmp_path: Path) -> None:
    """Also where names are as long as they come."""
    record = made_up.record(
        made_up.verdict("zero_window", 9_500, unsent_bytes=169_370),
        made_up.verdict("address_gone", address="2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"),
        local="2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
        remote="2001:db8:aaaa:bbbb:cccc:dddd:eeee:fffe",
        user="x" * 32,
        processes=[{"pid": 4_194_304, "comm": "y" * 15, "unit": f"{'z' * 90}.service"}],
    )
    many = {f"web-{'0' * 60}-{number}": made_up.found(*[record] * 100) for number in range(50)}
    many["gone"] = {"failed": True, "msg": "w" * 200}
    for name, answers, rows in (("many", many, 1000), ("none", {"web": made_up.found()}, 0)):
        path = tmp_path / f"{name}.html"
        path.write_text(page(document(answers, time=made_up.TIME)), encoding="utf-8")
        opened = browser.open(path)
        opened.resize(360)

        assert opened.evaluate("document.querySelectorAll('tbody tr').length") == rows
        assert opened.overflow() == 0
        assert opened.complaints == []
