# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with stuck connections, and runs of the playbook stuck_report on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.integration.conftest import StartProcess
from tests.integration.controller import python_inside, run_playbook
from tests.support import sample_results
from tests.support.topologies.networks import ip
from tests.support.topologies.topology import Lab, Pair

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
        """Run the playbook. name: file name of the page."""
        path = self.folder / name
        output, status = self.run(stuck_report_dest=f"./{name}", **variables)
        assert path.exists(), output
        return Report(path, json.loads(path.with_suffix(".json").read_text()), output, status)

    def run(self, **variables: Any) -> tuple[str, int]:
        """Run the playbook by its full name. Returns its output and exit status."""
        variables = {**VARIABLES, **variables}
        done = run_playbook(
            "stuck_report",
            self.inventory,
            variables,
            variables={"ANSIBLE_FORKS": "4"},
            folder=self.folder,
        )
        return done.stdout, done.returncode

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
