# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shop: seven hosts in network namespaces, the links between them, and their programs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.topologies.topology import Lab, LabNamespace
from tests.support.topologies.waiting import until

PROGRAM = Path(__file__).with_name("program.py")

# The last part of the addresses of each host.
HOSTS = {"web": 10, "db": 20, "cache": 30, "logs": 40, "replica": 50, "mail": 60, "spare": 70}


def address4(host: str) -> str:
    return f"192.0.2.{HOSTS[host]}"


def address6(host: str) -> str:
    return f"2001:db8::{HOSTS[host]}"


class Client(NamedTuple):
    """A program on web.

    behaviour: as in program.py. addresses: where to connect, first and after each error.
    """

    behaviour: str
    connections: int
    port: int
    addresses: tuple[str, ...]


CLIENTS = {
    "checkout": Client("busy", 6, 5432, (address4("db"),)),
    "sessions": Client("pool", 3, 6379, (address4("cache"),)),
    "logship": Client("log_sender", 3, 5044, (address4("logs"), address4("spare"))),
    "reports": Client("busy", 2, 5432, (address6("replica"), address6("spare"))),
    "mailer": Client("no_close", 1, 2525, (address4("mail"),)),
}
HEALTHY = ("checkout", "sessions")
STUCK = ("logship", "reports", "mailer")


class Connection(NamedTuple):
    """A connection, as reported by the program that holds it.

    cookie: the socket cookie in hexadecimal. completed: answers received, or batches of log lines
    sent, on this connection. errors: all errors so far, of earlier connections too.
    """

    program: str
    cookie: str
    remote: tuple[str, int]
    completed: int
    errors: tuple[str, ...]


class Program:
    """A process of program.py in a namespace."""

    def __init__(self, where: LabNamespace, *words: str) -> None:
        self.process: subprocess.Popen[str] = where.spawn(
            sys.executable,
            "-E",
            str(PROGRAM),
            *words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C reaches only the demo, which stops its programs in order.
            start_new_session=True,
        )

    def send(self, command: str) -> Any:
        """Send a command and return the answer. Raises RuntimeError if the program has ended."""
        if self.process.stdin is None or self.process.stdout is None:
            raise TypeError("a program without pipes")
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{command}\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a program of the demo ended: {self.process.args!r}")
        return json.loads(line)

    def stop(self) -> None:
        """Close the input of the program, which makes it exit."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)


class Shop:
    """Hosts, links and programs. Stop the programs first, then close the lab."""

    def __init__(self, lab: Lab) -> None:
        self.programs: dict[str, Program] = {}
        self._servers: dict[str, Program] = {}
        self.hosts = {host: lab.namespace(host) for host in HOSTS}
        self.web = self.hosts["web"]
        self._devices = {host: self._link(lab, host) for host in HOSTS if host != "web"}

    def start(self) -> None:
        """Start the servers, then the clients."""
        host_of = {address(host): host for host in HOSTS for address in (address4, address6)}
        endpoints = dict.fromkeys(
            (address, client.port) for client in CLIENTS.values() for address in client.addresses
        )
        for address, port in endpoints:
            host = host_of[address]
            self._servers[address] = Program(
                self.hosts[host], f"{host}-server", "serve", address, str(port)
            )
        for server in self._servers.values():
            server.send("report")
        for name, (behaviour, count, port, addresses) in CLIENTS.items():
            self.programs[name] = Program(
                self.web, name, behaviour, str(count), str(port), *addresses
            )

    def stop(self) -> None:
        """Stop the clients, then the servers, so that no client gets an error."""
        for program in self.all_programs():
            program.stop()

    def all_programs(self) -> list[Program]:
        """All processes, clients first."""
        return [*self.programs.values(), *self._servers.values()]

    def _link(self, lab: Lab, host: str) -> str:
        """Link web to the host, and return the device on the host.

        web has the same address on all links, and a route to one peer on each.
        """
        here, there = lab.connect(self.web, self.hosts[host])
        for where, device, mine, peer in (
            (self.web, here, "web", host),
            (self.hosts[host], there, host, "web"),
        ):
            for address, length, more in ((address4, 32, ()), (address6, 128, ("nodad",))):
                add = ("ip", "address", "add", address(mine), "peer", f"{address(peer)}/{length}")
                where.output(*add, "dev", device, *more)
        return there

    def connections(self, *names: str) -> list[Connection]:
        """The connections of these programs. Default: of all programs on web."""
        return [
            Connection(
                entry["name"],
                entry["cookie"],
                tuple(entry["remote"]),
                entry["completed"],
                tuple(entry["errors"]),
            )
            for name in names or CLIENTS
            for entry in self.programs[name].send("report")
        ]

    def wait_until_used(self, *names: str) -> list[Connection]:
        """Wait until each connection of these programs was used. Raises AssertionError."""

        def all_used() -> list[Connection]:
            found = self.connections(*names)
            return found if all(connection.completed for connection in found) else []

        return until(all_used, "every connection works", seconds=20)

    def break_connections(self) -> None:
        """Cause three failures that the programs on web do not notice."""
        self._servers[address4("logs")].send("stop_reading")
        self._servers[address4("mail")].send("shut_down")
        device = self._devices["replica"]
        self.hosts["replica"].output("ip", "address", "flush", "dev", device)
