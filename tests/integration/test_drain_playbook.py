# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook linuxnet.sockets.drain on three hosts, which are namespaces."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.integration.conftest import StartProcess
from tests.integration.controller import BIN, ROOT, environment, python_inside
from tests.integration.socket_process import SocketProcess
from tests.support.topologies.topology import Lab, Pair
from tests.support.topologies.waiting import until

PORT, PORT6 = 8080, 8081
CHECKER = "192.0.2.9"  # source of the health checks of a load balancer
RESET, END_OF_FILE = "ECONNRESET", "closed"
# The play that changes hosts.
FIRST_CHANGE = yaml.safe_load((ROOT / "playbooks" / "drain.yml").read_text())[1]["name"]
HOOK_FAILURE = "The balancer rejected the request."  # message of the failing hook

FINISHED = re.compile(
    r"^drain: \[(\w+)\] 0 ended on their own, 0 destroyed, 3 left \(3 established\), done in "
)
PROGRESS = re.compile(r"^drain: \[(\w+)\] (\d+) left \((.+?)\).* s of grace left$")


class Host(NamedTuple):
    """A host of the inventory: its server, and the clients on the peer."""

    server: SocketProcess
    clients: SocketProcess

    def connect(self, count: int, *, source: str | None = None) -> list[dict[str, Any]]:
        options = {} if source is None else {"source": (source, 0)}
        return self.clients.connect(Pair.server4, PORT, count, **options)

    def states(self, connections: list[dict[str, Any]]) -> list[str]:
        return self.clients.state(*numbers(connections))


def numbers(connections: list[dict[str, Any]]) -> list[int]:
    return [connection["number"] for connection in connections]


def ports(connections: list[dict[str, Any]]) -> list[int]:
    return [connection["port"] for connection in connections]


class Site:
    """Three hosts, the inventory, the hooks and their log."""

    def __init__(self, lab: Lab, start_process: StartProcess, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory.yml"
        self.log = folder / "log"
        self.hosts: dict[str, Host] = {}
        members: dict[str, Any] = {}
        for name in ("one", "two", "three"):
            pair = Pair(lab)
            pair.client.address(pair.client_device, f"{CHECKER}/24")
            server = start_process(pair.server)
            server.listen("0.0.0.0", PORT)
            server.listen("::", PORT6, mapped=True)
            self.hosts[name] = Host(server, start_process(pair.client))
            members[name] = {
                "ansible_python_interpreter": python_inside(pair.server, folder / f"python-{name}")
            }
        # Long enough for connections to close on their own on a slow machine.
        members["one"]["drain_grace"] = "12s"
        members["two"]["drain_destroy"] = False
        members["two"]["drain_grace"] = "1s"
        shared = {
            "ansible_connection": "local",
            "ansible_remote_tmp": str(folder / "remote"),
            "drain_become": False,
            "drain_match": {"local_port": [PORT, PORT6]},
            "drain_protect": {"selectors": [{"remote": CHECKER}]},
            "drain_grace": "6s",
            "drain_pre_tasks": "before.yml",
            "drain_post_tasks": [str(folder / "after.yml")],
        }
        self.inventory.write_text(
            yaml.safe_dump({"all": {"hosts": members, "vars": shared}}, sort_keys=False)
        )
        fail = {
            "name": "Ask the balancer",
            "ansible.builtin.fail": {"msg": HOOK_FAILURE},
            "when": "inventory_hostname == 'two'",
        }
        self._hook("before.yml", "before {{ inventory_hostname }}")
        self._hook("fails.yml", "before {{ inventory_hostname }}", fail)
        self._hook("after.yml", "after {{ inventory_hostname }} {{ drain_result.ended }}")

    def _hook(self, name: str, line: str, *first: dict[str, Any]) -> None:
        """Write a hook that runs the first tasks and then logs a line."""
        command = f"echo '{line}' >> {self.log}"
        task = {"name": "Log the call", "ansible.builtin.shell": command, "changed_when": False}
        (self.folder / name).write_text(yaml.safe_dump([*first, task], sort_keys=False))

    def take_log(self) -> list[str]:
        """Return and clear the lines that the hooks logged."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture(scope="module")
def site(lab: Lab, start_process: StartProcess, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(lab, start_process, tmp_path_factory.mktemp("site"))


@pytest.fixture(autouse=True)
def _clear_log(site: Site) -> Iterator[None]:
    """Clear the log of the hooks after each test."""
    yield
    site.take_log()


class Run(NamedTuple):
    status: int
    output: str

    def recap(self, host: str) -> dict[str, str]:
        """Row of a host in the final table of the playbook, by column."""
        lines = re.findall(r"^ +- ['\"]?(.+?)['\"]?$", self.output, re.MULTILINE)
        table = [re.split(r" {2,}", line.strip()) for line in lines if "  " in line]
        starts = [index for index, row in enumerate(table) if row[:2] == ["host", "status"]]
        assert starts, self.output
        titles, *rows = table[starts[-1] :]
        (found,) = [row for row in rows if row[0] == host]
        return dict(zip(titles[1:], found[1:], strict=False))

    def counts(self, host: str) -> dict[str, int]:
        """Row of a host in the PLAY RECAP of Ansible."""
        found = re.search(rf"^{host} +: (.+)$", self.output, re.MULTILINE)
        assert found, self.output
        return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", found.group(1))}


def drain(
    site: Site,
    variables: dict[str, Any],
    *arguments: str,
    on_progress: Callable[[str], None] = lambda _host: None,
    settings: dict[str, str] | None = None,
) -> Run:
    """Run the playbook by its full name. on_progress: called at the first line of each host.

    settings: further environment variables.
    """
    extra_vars = yaml.safe_dump(variables, default_flow_style=True, width=10000).strip()
    return play(
        site,
        "linuxnet.sockets.drain",
        "-e",
        extra_vars,
        *arguments,
        on_progress=on_progress,
        settings=settings,
    )


def headings(output: str) -> list[str]:
    """The names of the tasks in the output, in order."""
    return re.findall(r"^TASK \[(.*)\] \*+$", output, re.MULTILINE)


def play(
    site: Site,
    *arguments: str,
    on_progress: Callable[[str], None] = lambda _host: None,
    settings: dict[str, str] | None = None,
) -> Run:
    command = [str(BIN / "ansible-playbook"), "-i", str(site.inventory), *arguments]
    lines = []
    seen: set[str] = set()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment({"ANSIBLE_FORKS": "3", **(settings or {})}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                found = PROGRESS.search(line)
                if found and found.group(1) not in seen:
                    seen.add(found.group(1))
                    on_progress(found.group(1))
        except BaseException:
            process.terminate()
            raise
    return Run(process.returncode, "".join(lines))


class Mixed:
    """200 connections of a host, of every kind that matters to a drain."""

    def __init__(self, host: Host) -> None:
        self.host = host
        clients = host.clients
        self.closed_by_server = host.connect(30)
        self.closed_by_server6 = clients.connect(Pair.server6, PORT6, 30)
        self.closed_by_client = host.connect(40)
        self.idle = host.connect(35)
        self.idle6 = clients.connect(Pair.server6, PORT6, 20)
        self.mapped = clients.connect(Pair.server4, PORT6, 10)
        self.not_reading = host.connect(5)
        self.close_wait = host.connect(10)
        self.checks = host.connect(20, source=CHECKER)
        self.arrived: list[dict[str, Any]] = []
        host.server.fill_accepted(PORT, *ports(self.not_reading), *ports(self.checks[:1]))
        clients.close_with_fin(*numbers(self.close_wait))

    def close_some(self) -> None:
        """Close 100 of the connections and open two new ones."""
        server, clients = self.host.server, self.host.clients
        clients.close_with_fin(*numbers(self.closed_by_client))
        server.close_accepted(PORT, *ports(self.closed_by_client), *ports(self.closed_by_server))
        server.close_accepted(PORT6, *ports(self.closed_by_server6))
        closed = [*self.closed_by_server, *self.closed_by_server6]
        until(
            lambda: set(self.host.states(closed)) == {END_OF_FILE},
            "an end of file for each client with a complete answer",
            seconds=10,
        )
        clients.close_with_fin(*numbers(closed))
        self.arrived = self.host.connect(2)


@pytest.fixture(scope="module")
def mixed(site: Site) -> Mixed:
    return Mixed(site.hosts["one"])


@pytest.fixture(scope="module")
def waiting(site: Site) -> dict[str, list[dict[str, Any]]]:
    """Connections of the hosts two and three, by host."""
    return {name: site.hosts[name].connect(3) for name in ("two", "three")}


def test_check_mode_changes_nothing(
    site: Site, mixed: Mixed, waiting: dict[str, list[dict[str, Any]]]
) -> None:
    run = drain(site, {"drain_hosts": "all", "drain_serial": "100%"}, "--check")

    assert run.status == 0, run.output
    assert "drain: [one] 180 to drain, 20 protected\n" in run.output
    recap = run.recap("one")
    assert (recap["status"], recap["destroyed"], recap["protected"]) == ("preview", "180", "20")
    assert site.take_log() == []
    for host, connections in ((site.hosts["one"], mixed.idle), *others(site, waiting)):
        assert set(host.states(connections)) == {"open"}


def others(
    site: Site, waiting: dict[str, list[dict[str, Any]]]
) -> Iterator[tuple[Host, list[dict[str, Any]]]]:
    return ((site.hosts[name], connections) for name, connections in waiting.items())


def test_drain_stops_at_failed_host(
    site: Site, mixed: Mixed, waiting: dict[str, list[dict[str, Any]]]
) -> None:
    def close_some(host: str) -> None:
        if host == "one":
            mixed.close_some()

    run = drain(site, {"drain_hosts": "one,two,three"}, on_progress=close_some)

    one = site.hosts["one"]
    assert run.status == 2, run.output
    # Of 200: 100 closed in time, 80 and the two new ones were reset, 20 are protected.
    recap = run.recap("one")
    assert int(recap.pop("lost bytes")) > 0
    assert int(recap.pop("seconds")) >= 12
    assert recap == {
        "status": "clean",
        "ended": "100",
        "destroyed": "82",
        "protected": "20",
        "arrived": "2",
        "left": "0",
    }
    for connections in (mixed.idle, mixed.idle6, mixed.mapped, mixed.arrived):
        assert set(one.states(connections)) == {RESET}
    assert set(one.states(mixed.checks)) == {"open"}
    assert "WARNING one" not in run.output

    # Host two keeps three connections (drain_destroy: false); host three is not drained.
    recap = run.recap("two")
    assert (recap["status"], recap["destroyed"], recap["left"]) == ("FAILED", "0", "3")
    assert re.search(r"two: .*\b3 connections are left \(3 established\)", run.output)
    assert run.recap("three") == {"status": "not begun"}
    for host, connections in others(site, waiting):
        assert set(host.states(connections)) == {"open"}
    assert site.take_log() == ["before one", "after one 100", "before two"]

    lines = [line for line in run.output.splitlines() if PROGRESS.search(line)]
    (first, *later) = [line for line in lines if "[one]" in line]
    assert re.search(r"\[one\] 180 left \(170 established, 10 close-wait\), \d+ s", first)
    assert re.search(r"\[one\] \d+ left .*, \d+ ended \(\+\d+\), ", later[0])
    assert run.counts("one")["failed"] == 0
    assert run.counts("two")["failed"] == 1
    assert run.counts("three")["failed"] == 0


def test_nothing_matched_is_said(site: Site) -> None:
    """A selector that matches nothing on any host may be a mistake."""
    # The module reads the number in this text, and the action plugin must not fail on it.
    limit = {"drain_limit": "500.0"}
    variables = {"drain_hosts": "one,three", "drain_match": {"local_port": 9}, **limit}
    said = "No connection match"
    run = drain(site, variables)
    assert (run.status, said in run.output) == (0, True), run.output
    assert run.recap("one")["status"] == "clean"
    site.take_log()
    run = drain(site, {**variables, "drain_fail_when_nothing": True})
    assert (run.status != 0, said in run.output) == (True, True), run.output
    assert FIRST_CHANGE not in run.output
    assert site.take_log() == []


def test_second_run_changes_nothing(site: Site, mixed: Mixed) -> None:
    run = drain(site, {"drain_hosts": "one"})

    assert run.status == 0, run.output
    assert run.counts("one")["changed"] == 0
    recap = run.recap("one")
    assert (recap["ended"], recap["destroyed"], recap["protected"]) == ("0", "0", "20")
    assert site.take_log() == ["before one", "after one 0"]
    assert set(mixed.host.states(mixed.checks)) == {"open"}
    # All that matched is protected, as where all traffic comes from a load balancer.
    assert "WARNING one: 20 of 20 matching connections are protected (by selector)" in run.output
    (port,) = ports(mixed.checks[:1])
    assert re.search(
        rf"protected, with data [^:]*\n.*PROTO.*\n[^:]*\n.*{CHECKER}:{port} ", run.output
    )


def test_output_shows_the_steps_that_matter(site: Site) -> None:
    """With the settings of Ansible: its result format is JSON."""
    connections = [site.hosts[name].connect(1) for name in ("one", "three")]
    (first, second) = (made[0]["port"] for made in connections)
    variables = {
        "drain_hosts": "one,three",
        "drain_match": {"remote_port": [first, second]},
        "drain_grace": "100ms",
    }

    run = drain(site, variables, settings={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"})

    assert run.status == 0, run.output
    steps = [
        "Take the host out of service",
        "Log the call",
        "Wait for connections to close, then destroy the rest",
        "Check that no connection is left",
        "Run the tasks for the time out of service",
        "Log the call",
        "Continue with the next batch",
    ]
    before = ["Check the variables", "Preview the drain", "Show warnings"]
    assert headings(run.output) == [*before, *steps, *steps, "Show the table of all hosts"]
    assert re.search(r'^ +"one    clean  +0  +1 ', run.output, re.MULTILINE), run.output
    assert "\\n" not in run.output
    assert site.take_log() == ["before one", "after one 0", "before three", "after three 0"]


def test_limit(site: Site) -> None:
    """--limit restricts the pattern; a pattern without hosts fails."""
    variables = {"drain_hosts": "one,three", "drain_match": {"local_port": 9}}
    limit = site.folder / "limit"
    limit.write_text("three\n")
    for arguments in (["--limit", "three"], ["--limit", f"@{limit}"]):
        run = drain(site, variables, *arguments)
        assert run.status == 0, run.output
        assert site.take_log() == ["before three", "after three 0"]
    run = drain(site, variables, "--limit", "two")
    assert run.status == 2, run.output
    assert "drain_hosts (one,three) matches no host that --limit (two) leaves" in run.output
    assert f"PLAY [{FIRST_CHANGE}]" not in run.output


def test_host_that_stops_answering_is_bounded(site: Site) -> None:
    """Its Python never ends, as a connection to a host that lost its network."""
    frozen = site.folder / "frozen"
    frozen.write_text("#!/bin/sh\nexec sleep 20\n")
    frozen.chmod(0o755)
    inventory = site.folder / "frozen.yml"
    variables = {"ansible_python_interpreter": str(frozen)}
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"two": variables}}}))
    chosen = {"drain_hosts": "two", "drain_timeout": 2}

    run = drain(site, chosen, "-i", str(inventory))

    assert run.status == 2, run.output
    assert "Timed out after 2 second" in run.output or "timed out" in run.output.lower()
    assert f"PLAY [{FIRST_CHANGE}]" not in run.output


def test_failed_pre_tasks_finish_batch(
    site: Site, waiting: dict[str, list[dict[str, Any]]]
) -> None:
    variables = {"drain_hosts": "one,two,three", "drain_serial": 2, "drain_pre_tasks": "fails.yml"}

    run = drain(site, variables)

    assert run.status == 2, run.output
    assert [run.recap(host)["status"] for host in site.hosts] == ["clean", "FAILED", "not begun"]
    assert f"two: Ask the balancer: {HOOK_FAILURE}" in run.output
    assert site.take_log() == ["before one", "after one 0"]
    for host, connections in others(site, waiting):
        assert set(host.states(connections)) == {"open"}


def test_progress_of_parallel_hosts(site: Site, waiting: dict[str, list[dict[str, Any]]]) -> None:
    """Uses the strategy free. Tasks with no_log or async print no progress."""
    options = {"match": "{{ drain_match }}", "destroy": False}
    tasks: list[dict[str, Any]] = [
        {"linuxnet.sockets.socket_drain": {**options, "grace": "2.5s"}, "register": "shown"},
        {
            "linuxnet.sockets.socket_drain": {**options, "grace": "1.1s"},
            "register": "secret",
            "no_log": True,
        },
        {
            "linuxnet.sockets.socket_drain": {**options, "grace": "200ms"},
            "register": "background",
            "async": 30,
            "poll": 1,
        },
        {
            "linuxnet.sockets.socket_drain": {**options, "resume": {"version": 1}},
            "register": "resumed",
            "ignore_errors": True,
        },
        {
            "ansible.builtin.assert": {
                "that": [
                    "resumed is failed and 'resume.boot' in resumed.msg",
                    "shown.left == 3 and shown.elapsed >= 2.5 and shown.resume == none",
                    "secret.left == 3 and secret.elapsed >= 1.1",
                    "background.left == 3 and background.elapsed >= 0.2",
                ]
            }
        },
    ]
    playbook = site.folder / "at-once.yml"
    head = {"hosts": "two,three", "strategy": "free", "gather_facts": False}
    playbook.write_text(yaml.safe_dump([{**head, "tasks": tasks}]))

    run = play(site, str(playbook))

    assert run.status == 0, run.output
    lines = [line for line in run.output.splitlines() if line.startswith("drain: ")]
    in_progress = [found.groups() for line in lines if (found := PROGRESS.search(line))]
    finished = [found.group(1) for line in lines if (found := FINISHED.search(line))]
    assert set(in_progress) == {(host, "3", "3 established") for host in waiting}
    assert sorted(finished) == sorted(waiting)
    assert len(lines) == len(in_progress) + len(finished)
    for host, connections in others(site, waiting):
        assert set(host.states(connections)) == {"open"}


def test_result_kept_after_module_failure(site: Site) -> None:
    """Two connections are destroyed at once; the third still has unsent data, so the drain waits.

    Then one host loses its Python, and the other its remote temporary directory.
    """
    removed = {"two": site.folder / "python-two", "three": site.folder / "remote"}
    made = {name: site.hosts[name].connect(3) for name in removed}
    for name, connections in made.items():
        site.hosts[name].clients.fill(connections[0]["number"])
    variables = {
        "drain_hosts": "two,three",
        "drain_serial": "100%",
        "drain_match": {
            "remote_port": [port for connections in made.values() for port in ports(connections)]
        },
        "drain_until": "sent",
        "drain_destroy": True,
        "drain_grace": "20s",
        "drain_pre_tasks": [],
        # Without pipelining, modules are files on the host.
        "ansible_pipelining": "{{ inventory_hostname == 'two' }}",
    }

    def remove(host: str) -> None:
        removed[host].rename(site.folder / f"removed-{host}")
        removed[host].touch(mode=0o600)

    try:
        run = drain(site, variables, on_progress=remove)
    finally:
        for name, path in removed.items():
            path.unlink()
            (site.folder / f"removed-{name}").rename(path)

    assert run.status == 2, run.output
    for name, connections in made.items():
        recap = run.recap(name)
        assert (recap["status"], recap["destroyed"], recap["left"]) == ("FAILED", "2", "1")
        assert site.hosts[name].states(connections) == ["open", RESET, RESET]
        site.hosts[name].clients.reset(*numbers(connections))


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "drain_hosts is not set"),
        ({"drain_hosts": "all", "drain_match": {}}, "drain_match is empty"),
        ({"drain_hosts": "all", "drain_match": {"remote": ""}}, "match.remote"),
        ({"drain_hosts": "gone"}, "drain_hosts (gone) matches no host of the inventory"),
        ({"drain_hosts": "all", "drain_protekt": {}}, "did you mean drain_protect?"),
        ({"drain_hosts": "all", "drain_pre_tasks": "gone.yml"}, "gone.yml: "),
    ],
)
def test_invalid_variables_change_nothing(
    site: Site,
    waiting: dict[str, list[dict[str, Any]]],
    variables: dict[str, Any],
    reason: str,
) -> None:
    run = drain(site, variables)

    assert run.status == 2, run.output
    assert reason in run.output
    assert f"PLAY [{FIRST_CHANGE}]" not in run.output
    assert site.take_log() == []
    for host, connections in others(site, waiting):
        assert set(host.states(connections)) == {"open"}


def test_drain_hosts_in_inventory_rejected(site: Site) -> None:
    """Inventory variables are not available in the `hosts` of a play."""
    inventory = site.folder / "hosts-variable.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": {"drain_hosts": "two"}}}))

    run = drain(site, {}, "-i", str(inventory))

    assert run.status == 2, run.output
    assert "drain_hosts is set in the inventory" in run.output
    assert f"PLAY [{FIRST_CHANGE}]" not in run.output
    assert site.take_log() == []
