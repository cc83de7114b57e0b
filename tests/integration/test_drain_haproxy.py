# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipes of the drain guide behind a real HAProxy, at layer 4 and at layer 7.

HAProxy connects to two web servers and checks their health five times a second.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.integration.controller import ROOT, python_inside, run_playbook
from tests.support.topologies.topology import Lab
from tests.support.topologies.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")

WEB = {"web1": "192.0.2.2", "web2": "198.51.100.2"}
BALANCERS = {"web1": "192.0.2.1", "web2": "198.51.100.1"}


# For a balancer that goes on with its checks.
KEEPS_CHECKS = {"drain_pre_tasks": "drain.yml", "drain_post_tasks": []}


class Backend(NamedTuple):
    """A backend of HAProxy, with the ports of its frontend, of the web servers and of checks."""

    name: str
    mode: str
    frontend: int
    port: int
    check: int


LAYER_4 = Backend("layer4", "tcp", 4000, 8040, 8040)
LAYER_7 = Backend("layer7", "http", 7000, 8070, 8070)
LAYER_4_OWN = Backend("layer4-own-check", "tcp", 4001, 8041, 8141)
LAYER_7_OWN = Backend("layer7-own-check", "http", 7001, 8071, 8171)
BACKENDS = (LAYER_4, LAYER_7, LAYER_4_OWN, LAYER_7_OWN)


def configuration(admin: Path) -> str:
    parts = [
        f"global\n  stats socket {admin} level admin",
        "defaults\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s",
    ]
    for name, mode, frontend, port, check in BACKENDS:
        servers = "\n".join(
            f"  server {web} {address}:{port} check port {check} inter 200ms fall 20"
            for web, address in WEB.items()
        )
        parts += [
            f"frontend to-{name}\n  mode {mode}\n  bind :{frontend}\n  default_backend {name}",
            f"backend {name}\n  mode {mode}\n  option httpchk GET /\n{servers}",
        ]
    return "\n".join(parts) + "\n"


class Site:
    """A balancer, two web servers, and the inventory with hooks as in the drain guide."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        self.admin_path = folder / "haproxy.sock"
        self.balancer = lab.namespace("balancer")
        members: dict[str, Any] = {}
        for name, address in WEB.items():
            web = lab.namespace(name)
            lab.connect(self.balancer, web, [f"{BALANCERS[name]}/24"], [f"{address}/24"])
            program = str(ROOT / "tests" / "integration" / "http_server.py")
            ports = {str(port) for backend in BACKENDS for port in backend[3:]}
            web.spawn(sys.executable, program, name, *sorted(ports))
            members[name] = {
                "ansible_python_interpreter": python_inside(web, folder / f"python-{name}")
            }
        (folder / "haproxy.cfg").write_text(configuration(self.admin_path))
        self.balancer.spawn("haproxy", "-db", "-f", str(folder / "haproxy.cfg"))
        until(self.all_up, "all servers are up", seconds=15)
        self.inventory = folder / "inventory.yml"
        groups = {
            "web": {"hosts": members},
            "balancers": {
                "hosts": {"lb1": {"ansible_python_interpreter": sys.executable}},
            },
        }
        shared = {
            "ansible_connection": "local",
            "ansible_remote_tmp": str(folder / "remote"),
            "drain_become": False,
        }
        self.inventory.write_text(yaml.safe_dump({"all": {"children": groups, "vars": shared}}))
        for file, state in (("leave.yml", "disabled"), ("join.yml", "enabled")):
            options = {
                "state": state,
                "host": "{{ inventory_hostname }}",
                "backend": "{{ backend }}",
                "socket": str(self.admin_path),
                "wait": True,
            }
            task = {
                "name": "Tell the balancer",
                "community.general.haproxy": options,
                "delegate_to": "{{ groups.balancers[0] }}",
            }
            (folder / file).write_text(yaml.safe_dump([task]))
        # For a balancer that goes on with its checks.
        text = (
            "import socket, sys; admin = socket.socket(socket.AF_UNIX); "
            "admin.connect(sys.argv[1]); admin.sendall(sys.argv[2].encode()); admin.recv(9)"
        )
        command = "set server {{ backend }}/{{ inventory_hostname }} state drain\n"
        task = {
            "name": "Tell the balancer",
            "ansible.builtin.command": {
                "argv": [sys.executable, "-c", text, str(self.admin_path), command]
            },
            "delegate_to": "{{ groups.balancers[0] }}",
            "changed_when": True,
        }
        (folder / "drain.yml").write_text(yaml.safe_dump([task]))

    def admin(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.admin_path))
            sock.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode()

    def status(self, backend: str, server: str) -> str:
        rows = [line.split(",") for line in self.admin("show stat").splitlines()]
        (row,) = [row for row in rows[1:] if row[:2] == [backend, server]]
        return row[rows[0].index("status")]

    def all_up(self) -> bool:
        try:
            found = {self.status(backend.name, web) for backend in BACKENDS for web in WEB}
        except OSError:
            return False
        return found == {"UP"}

    def drain(self, backend: Backend, **variables: Any) -> tuple[int, str]:
        """Drain web1 and return the exit status and the output."""
        given = {
            "backend": backend.name,
            "drain_hosts": "web1",
            "drain_match": {"local_port": backend.port},
            "drain_grace": "4s",
            "drain_pre_tasks": "leave.yml",
            "drain_post_tasks": "join.yml",
            **variables,
        }
        done = run_playbook(
            "drain", self.inventory, given, variables={"ANSIBLE_LOCALHOST_WARNING": "false"}
        )
        return done.returncode, done.stdout

    def is_checked(self, backend: Backend) -> bool:
        """Whether checks reach web1: five of them in a second."""

        def accepted() -> int:
            client = self.connect(backend.check, WEB["web1"])
            try:
                return int(get(client, "/accepted")[1])
            finally:
                client.close()

        before = accepted()
        time.sleep(1)
        return accepted() - before > 2

    def connect(self, port: int, address: str = "127.0.0.1") -> http.client.HTTPConnection:
        """A connection of a client, to the balancer unless an address is given."""
        client = http.client.HTTPConnection(address, port, timeout=10)
        sock = self.balancer.run(socket.create_connection, (address, port), 10)
        client.sock = self.balancer.close_at_end(sock)
        return client


def get(client: http.client.HTTPConnection, path: str = "/") -> tuple[int, str]:
    client.request("GET", path)
    answer = client.getresponse()
    return answer.status, answer.read().decode()


class Load:
    """Clients of a layer-7 balancer that keep their connections and send requests all the time."""

    def __init__(self, site: Site, port: int, count: int = 3) -> None:
        self.failed: list[object] = []
        self.served: list[str] = []
        self._stop = threading.Event()
        clients = [site.connect(port) for _each in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(client,)) for client in clients]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: http.client.HTTPConnection) -> None:
        turn = 0
        while not self._stop.wait(0.02):
            turn += 1
            try:
                status, body = get(client, "/slow" if turn % 10 == 0 else "/")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(error)
                return
            (self.served if status == 200 else self.failed).append(body)
        client.close()


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(lab, tmp_path_factory.mktemp("site"))


def row(output: str) -> dict[str, str]:
    """The row of web1 in the table of the playbook."""
    lines = re.findall(r"^ +- ['\"]?(.+?)['\"]?$", output, re.MULTILINE)
    table = [re.split(r" {2,}", line.strip()) for line in lines if "  " in line]
    (start,) = [index for index, cells in enumerate(table) if cells[:2] == ["host", "status"]]
    (found,) = [cells for cells in table[start:] if cells[0] == "web1"]
    return dict(zip(table[start][1:], found[1:], strict=False))


def on_web1(site: Site, port: int, count: int) -> list[http.client.HTTPConnection]:
    """Idle connections of clients that a layer-4 balancer sends to web1."""
    found = []
    for _turn in range(2 * count):
        client = site.connect(port)
        if get(client)[1] == "web1":
            found.append(client)
        else:
            client.close()
    assert len(found) >= count
    return found


def is_reset(client: http.client.HTTPConnection) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return get(client)[1] != "web1"
    return True


@contextlib.contextmanager
def closes_in_drain(site: Site, client: http.client.HTTPConnection) -> Iterator[None]:
    """Close a connection some seconds after web1 went into maintenance, when the drain waits."""

    def close() -> None:
        until(lambda: site.status(LAYER_4.name, "web1").startswith("MAINT"), "MAINT", seconds=60)
        time.sleep(6)
        client.close()

    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(close)
        yield
        closed.result()


def warnings_of(output: str) -> list[str]:
    return re.findall(r"WARNING web1: .*", output)


def test_layer_4_server_in_maintenance(site: Site) -> None:
    """HAProxy stops its checks; the connections of clients stay until the drain ends them."""
    ended, *clients = on_web1(site, LAYER_4.frontend, 3)

    with closes_in_drain(site, ended):
        status, output = site.drain(LAYER_4, drain_grace="15s")

    assert status == 0, output
    found = row(output)
    assert (found["status"], found["ended"], found["destroyed"]) == ("clean", "1", "2"), output
    assert (found["protected"], found["arrived"], found["left"]) == ("0", "0", "0")
    assert all(map(is_reset, clients))
    assert warnings_of(output) == []
    until(site.all_up, "web1 is back", seconds=15)


def test_layer_7_server_in_maintenance(site: Site) -> None:
    """No request of a client fails: HAProxy ends its own idle connections."""
    with Load(site, LAYER_7.frontend) as load:
        until(lambda: "web1" in load.served, "a request on web1", seconds=10)
        status, output = site.drain(LAYER_7, drain_grace="30s")
        load.served.clear()
        until(lambda: "web1" in load.served, "a request on web1 afterwards", seconds=10)

    assert status == 0, output
    found = row(output)
    assert (found["status"], found["destroyed"], found["protected"]) == ("clean", "0", "0")
    assert (load.failed, warnings_of(output)) == ([], [])


def test_settle_longer_than_a_request(site: Site) -> None:
    """A server that works on a request looks idle. The connection ends after the answer."""
    client = site.connect(LAYER_7.port, WEB["web1"])
    client.sock.settimeout(20)

    def request() -> tuple[int, str]:
        until(lambda: site.status(LAYER_7.name, "web1") == "MAINT", "web1 is out", seconds=60)
        return get(client, "/slow/6")

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(request)
        status, output = site.drain(
            LAYER_7, drain_grace="60s", drain_until="sent", drain_settle="8s"
        )

    assert answer.result() == (200, "web1")
    assert status == 0, output
    found = row(output)
    assert (found["status"], found["destroyed"]) == ("clean", "1"), output
    assert float(found["seconds"]) < 40


def test_layer_4_checks_on_their_own_port(site: Site) -> None:
    """The state `drain` keeps the checks going; they do not match."""
    clients = on_web1(site, LAYER_4_OWN.frontend, 2)

    status, output = site.drain(LAYER_4_OWN, **KEEPS_CHECKS)

    assert site.status(LAYER_4_OWN.name, "web1").startswith("DRAIN")
    assert site.is_checked(LAYER_4_OWN)
    site.admin(f"set server {LAYER_4_OWN.name}/web1 state ready")
    assert status == 0, output
    found = row(output)
    assert (found["status"], found["destroyed"], found["protected"]) == ("clean", "2", "0")
    assert (found["arrived"], found["left"]) == ("0", "0")
    assert all(map(is_reset, clients))


def test_layer_7_checks_on_their_own_port(site: Site) -> None:
    with Load(site, LAYER_7_OWN.frontend) as load:
        until(lambda: "web1" in load.served, "a request on web1", seconds=10)
        status, output = site.drain(LAYER_7_OWN, drain_grace="30s", **KEEPS_CHECKS)
        assert site.is_checked(LAYER_7_OWN)
    site.admin(f"set server {LAYER_7_OWN.name}/web1 state ready")

    assert status == 0, output
    found = row(output)
    assert (found["status"], found["destroyed"], found["protected"]) == ("clean", "0", "0")
    assert load.failed == []


@pytest.mark.parametrize("backend", [LAYER_4, LAYER_7])
def test_protecting_a_proxy_protects_its_traffic(site: Site, backend: Backend) -> None:
    """The recap warns, because nothing was drained."""
    with Load(site, backend.frontend) as load:
        until(lambda: "web1" in load.served, "a request on web1", seconds=10)
        status, output = site.drain(
            backend,
            drain_protect={"selectors": [{"remote": BALANCERS["web1"]}]},
            drain_pre_tasks=[],
            drain_post_tasks=[],
        )

    assert status == 0, output
    assert int(row(output)["protected"]) > 0
    # Before the drain and in the recap.
    (warning,) = set(warnings_of(output))
    assert "(by selector)" in warning
    assert load.failed == []
