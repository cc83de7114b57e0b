# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene of the demo: seven small hosts on wires, and the programs that run on them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.topologies.topology import Lab, LabNamespace
from tests.support.topologies.waiting import until

ACTOR = Path(__file__).with_name("actor.py")

# The last part of each host's addresses.
HOSTS = {"web": 10, "db": 20, "cache": 30, "logs": 40, "replica": 50, "mail": 60, "spare": 70}


def address4(host: str) -> str:
    return f"192.0.2.{HOSTS[host]}"


def address6(host: str) -> str:
    return f"2001:db8::{HOSTS[host]}"


class App(NamedTuple):
    """A program on web: how it behaves, how many connections it holds, where to, then where to."""

    behaviour: str
    connections: int
    port: int
    addresses: tuple[str, ...]


APPS = {
    "checkout": App("worker", 6, 5432, (address4("db"),)),
    "sessions": App("pool", 3, 6379, (address4("cache"),)),
    "logship": App("shipper", 3, 5044, (address4("logs"), address4("spare"))),
    "reports": App("worker", 2, 5432, (address6("replica"), address6("spare"))),
    "mailer": App("forgetful", 1, 2525, (address4("mail"),)),
}
HEALTHY = ("checkout", "sessions")
STUCK = ("logship", "reports", "mailer")


class Connection(NamedTuple):
    """A connection, as the application that holds it tells.

    cookie: the kernel's name of the socket, in hexadecimal. done: answers that it got, or batches
    of log lines that it sent, on this connection. said: what went wrong so far, in its words.
    """

    app: str
    cookie: str
    remote: tuple[str, int]
    done: int
    said: tuple[str, ...]


class Program:
    """A process of actor.py in a namespace."""

    def __init__(self, where: LabNamespace, *words: str) -> None:
        self.process: subprocess.Popen[str] = where.spawn(
            sys.executable,
            "-E",
            str(ACTOR),
            *words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the demo, which takes its programs down in order.
            start_new_session=True,
        )

    def tell(self, command: str) -> Any:
        """Give a command and wait for the answer. Raises RuntimeError if the program has ended."""
        if self.process.stdin is None or self.process.stdout is None:
            raise TypeError("a program without pipes")
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{command}\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a program of the demo ended: {self.process.args!r}")
        return json.loads(line)

    def end(self) -> None:
        """It ends at the end of its input."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)


class Scene:
    """Hosts, wires and programs. They are gone when it is closed, and then the lab."""

    def __init__(self, lab: Lab) -> None:
        self.apps: dict[str, Program] = {}
        self._servers: dict[str, Program] = {}
        self.hosts = {host: lab.namespace(host) for host in HOSTS}
        self.web = self.hosts["web"]
        self._devices = {host: self._wire(lab, host) for host in HOSTS if host != "web"}

    def open(self) -> None:
        """Start the programs: servers first."""
        host_of = {address(host): host for host in HOSTS for address in (address4, address6)}
        places = dict.fromkeys(
            (address, app.port) for app in APPS.values() for address in app.addresses
        )
        for address, port in places:
            host = host_of[address]
            self._servers[address] = Program(
                self.hosts[host], f"{host}-server", "serve", address, str(port)
            )
        for server in self._servers.values():
            server.tell("report")
        for name, (behaviour, count, port, addresses) in APPS.items():
            self.apps[name] = Program(self.web, name, behaviour, str(count), str(port), *addresses)

    def close(self) -> None:
        """End the programs: clients first, so that none sees its server go."""
        for program in self.programs():
            program.end()

    def programs(self) -> list[Program]:
        """All processes: clients, then servers."""
        return [*self.apps.values(), *self._servers.values()]

    def _wire(self, lab: Lab, host: str) -> str:
        """A wire from web to the host; the device at the host's end.

        web has the same address on all its wires, and on each a route to that peer alone.
        """
        here, there = lab.wire(self.web, self.hosts[host])
        for where, device, mine, peer in (
            (self.web, here, "web", host),
            (self.hosts[host], there, host, "web"),
        ):
            for address, length, more in ((address4, 32, ()), (address6, 128, ("nodad",))):
                add = ("ip", "address", "add", address(mine), "peer", f"{address(peer)}/{length}")
                where.output(*add, "dev", device, *more)
        return there

    def connections(self, *apps: str) -> list[Connection]:
        """What the applications (default: all) tell of their connections."""
        return [
            Connection(
                entry["name"],
                entry["cookie"],
                tuple(entry["remote"]),
                entry["done"],
                tuple(entry["said"]),
            )
            for app in apps or APPS
            for entry in self.apps[app].tell("report")
        ]

    def settle(self, *apps: str) -> list[Connection]:
        """Wait until each connection of theirs has done something. Raises AssertionError."""

        def all_work() -> list[Connection]:
            found = self.connections(*apps)
            return found if all(each.done for each in found) else []

        return until(all_work, "every connection works", seconds=20)

    def break_things(self) -> None:
        """Three mishaps of which nobody tells the applications."""
        self._servers[address4("logs")].tell("hang")
        self._servers[address4("mail")].tell("hang_up")
        device = self._devices["replica"]
        self.hosts["replica"].output("ip", "address", "flush", "dev", device)
