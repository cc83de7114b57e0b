# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo: break real connections, run a playbook that destroys them, and check the result."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from demo import runner
from demo.interrupts import Interrupted, Interrupts
from demo.shop import HEALTHY, STUCK, Connection, Shop, address4, address6
from tests.support.topologies.topology import Lab, unavailable_reason

WAIT_SECONDS = 7
SPARE = (address4("spare"), address6("spare"))
# Of a process that ends because it lacks something, as for automake and tools/in-userns.
EXIT_SKIPPED = 77
_INDENT = "   "
_DEEPER = "     "
_COOKIE = re.compile(r"\bsk:([0-9a-f]+)")

INTRODUCTION = f"""\
This demo creates seven hosts, each in a network namespace, and removes them at the end. The host
web runs the five programs of a shop. They have 15 TCP connections to the other hosts:

  checkout  6 to db       {address4("db")}    sends queries all the time
  sessions  3 to cache    {address4("cache")}    a pool of healthy, idle connections
  logship   3 to logs     {address4("logs")}    sends log lines all the time
  reports   2 to replica  {address6("replica")}  sends queries all the time, over IPv6
  mailer    1 to mail     {address4("mail")}    waits for the next mail
"""
FAILURES = """\
  logs     hangs: the server stops reading, so log lines queue up on web
  replica  disappears: its address is removed, and web gets no answer, not even a reset
  mail     closes its connection, but mailer does not close its own end
"""


class Printer:
    """Print the steps of the demo, with bold headings on a terminal."""

    def __init__(self) -> None:
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._step = 0

    def heading(self, title: str) -> None:
        self._step += 1
        title = f"{self._step}. {title}"
        self._print(f"\n\x1b[1m{title}\x1b[0m\n" if self.colour else f"\n{title}\n")

    def text(self, text: str = "", indent: str = _INDENT) -> None:
        self._print(textwrap.indent(text.rstrip(), indent))

    def wait(self, seconds: int, reason: str) -> None:
        """Wait, and print a dot per second."""
        self._print(f"{_INDENT}{reason} ", end="")
        for _second in range(seconds):
            time.sleep(1)
            self._print(".", end="")
        self._print()

    @staticmethod
    def _print(text: str = "", end: str = "\n") -> None:
        print(text, end=end, flush=True)


class Checks:
    """Statements about the result, and whether each is true."""

    def __init__(self) -> None:
        self._results: list[tuple[str, bool]] = []

    def add(self, statement: str, passed: bool) -> None:
        self._results.append((statement, passed))

    @property
    def passed(self) -> bool:
        return all(passed for _statement, passed in self._results)

    def lines(self) -> str:
        return "\n".join(
            f"{'passed' if passed else 'FAILED'}  {statement}"
            for statement, passed in self._results
        )


def cookies(connections: Sequence[Connection]) -> set[str]:
    return {connection.cookie for connection in connections}


def of_programs(connections: Sequence[Connection], names: Sequence[str]) -> list[Connection]:
    return [connection for connection in connections if connection.program in names]


def cookies_in_ss(shop: Shop) -> set[str]:
    """The cookies of all TCP connections on web, as ss shows them. No code of ours is involved."""
    return set(_COOKIE.findall(shop.web.output("ss", "--tcp", "-H", "-n", "-e")))


def print_errors(printer: Printer, connections: Sequence[Connection]) -> None:
    """Print which errors the programs with stuck connections got, and what they did."""
    for name in STUCK:
        own = of_programs(connections, [name])
        errors = sorted({error for connection in own for error in connection.errors})
        reaction = "reconnected to spare" if own[0].remote[0] in SPARE else "closed its own end"
        text = f"{len(own)} x {'; '.join(errors)}, {reaction}" if errors else "no errors"
        printer.text(f"{name:8}  {text}", _DEEPER)


def run_steps(shop: Shop, printer: Printer, checks: Checks, folder: str) -> None:
    printer.text(INTRODUCTION)
    before = shop.wait_until_used()
    printer.text(f"\nAll {len(before)} connections work.")

    printer.heading("Three failures that the programs do not notice")
    shop.break_connections()
    printer.text(FAILURES)
    printer.text()
    printer.wait(WAIT_SECONDS, "Waiting until the kernel's clocks show which connections are stuck")
    stuck, healthy = of_programs(before, STUCK), of_programs(before, HEALTHY)
    checks.add(
        "before the playbook ran, web had 15 connections and no program had got an error",
        cookies_in_ss(shop) == cookies(before)
        and not any(connection.errors for connection in shop.connections()),
    )

    printer.heading("Run the playbook on web (demo/playbook.yml)")
    answers_before = sum(connection.completed for connection in shop.connections("checkout"))
    run = runner.run_playbook(shop.web, folder, printer.text, colour=printer.colour)
    remaining = cookies_in_ss(shop)
    destroyed = set(re.findall(r"^\s*([0-9a-f]+)\s+destroyed\b", run.output, re.MULTILINE))
    checks.add(
        f"the playbook destroyed the {len(stuck)} stuck connections, as check mode predicted",
        # The other changed task is the one in check mode.
        run.counts.get("changed") == 2
        and run.counts.get("failed") == 0
        and destroyed == cookies(stuck)
        and not remaining & cookies(stuck),
    )
    checks.add(
        f"ss still shows the other {len(healthy)} connections, with the same cookies",
        cookies(healthy) <= remaining,
    )

    printer.heading("What the programs on web noticed")
    reconnected = shop.wait_until_used("logship", "reports")
    print_errors(printer, shop.connections())
    checks.add(
        "the programs got ECONNABORTED, once for each destroyed connection",
        all(
            len(connection.errors) == 1 and connection.errors[0].startswith("ECONNABORTED")
            for connection in shop.connections(*STUCK)
        ),
    )
    checks.add(
        f"{len(reconnected)} connections were made again, to the spare host, and work",
        len(reconnected) == 5 and all(each.remote[0] in SPARE for each in reconnected),
    )
    busy, pool = use_healthy_connections(shop)
    answers = sum(connection.completed for connection in busy) - answers_before
    printer.text(f"checkout  no errors, {answers} answers since the playbook started", _DEEPER)
    printer.text("sessions  no errors, all 3 connections answered a query just now", _DEEPER)
    checks.add(
        "the healthy connections, busy and idle, got no errors and still work",
        answers > 0
        and all(connection.completed == 2 for connection in pool)
        and cookies([*busy, *pool]) == cookies(healthy)
        and not any(connection.errors for connection in (*busy, *pool)),
    )

    printer.heading("Run the playbook again")
    before_again = cookies_in_ss(shop)
    again = runner.run_playbook(shop.web, folder, printer.text, colour=printer.colour)
    checks.add(
        "the second run found no stuck connections and changed nothing",
        again.counts.get("changed") == 0
        and again.counts.get("failed") == 0
        and "No connection is stuck on this host." in again.output
        and cookies_in_ss(shop) == before_again,
    )


def use_healthy_connections(shop: Shop) -> tuple[list[Connection], list[Connection]]:
    """The busy and the idle healthy connections, after one more answer on each, or 10 s."""
    before = {connection.cookie: connection.completed for connection in shop.connections(*HEALTHY)}
    shop.programs["sessions"].send("query")
    deadline = time.monotonic() + 10
    while True:
        found = shop.connections(*HEALTHY)
        answered = all(each.completed > before.get(each.cookie, 0) for each in found)
        if answered or time.monotonic() > deadline:
            return of_programs(found, ["checkout"]), of_programs(found, ["sessions"])
        time.sleep(0.05)


def leftovers(shop: Shop) -> list[str]:
    """Network namespaces and processes of the demo that still exist."""
    pids = (program.process.pid for program in shop.all_programs())
    return [
        *(host.name for host in shop.hosts.values() if Path(host.path).exists()),
        *(str(pid) for pid in pids if Path(f"/proc/{pid}").exists()),
    ]


def demo(interrupts: Interrupts) -> int:
    """Run the demo and return the exit status. Everything is removed, also after an error."""
    with interrupts.deferred():
        reason = unavailable_reason()
    if reason is not None:
        print(f"demo: {reason}", file=sys.stderr)
        return EXIT_SKIPPED
    printer, checks = Printer(), Checks()
    started = time.monotonic()
    folder = tempfile.mkdtemp(prefix="linuxnet-sockets-demo-")
    lab = Lab()
    shop = None
    try:
        printer.heading("A shop with 15 connections")
        with interrupts.deferred():
            shop = Shop(lab)
            shop.start()
        run_steps(shop, printer, checks, folder)
    finally:
        with interrupts.deferred():
            if shop is not None:
                shop.stop()
            lab.close()
            shutil.rmtree(folder, ignore_errors=True)
    checks.add(
        "all hosts, links and programs of the demo are removed",
        not leftovers(shop) and not Path(folder).exists(),
    )
    printer.heading("Checks")
    printer.text(checks.lines())
    printer.text()
    seconds = time.monotonic() - started
    if checks.passed:
        printer.text(f"All checks passed, in {seconds:.0f} seconds.")
        return 0
    printer.text("Not all checks passed: see the lines that begin with FAILED.")
    return 1


def main() -> int:
    try:
        return demo(Interrupts())
    except Interrupted as interrupted:
        print(f"\ndemo: interrupted by {interrupted}, everything was removed", file=sys.stderr)
        return 128 + interrupted.number
    except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        print(f"\ndemo: failed: {error}; everything was removed", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
