# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo: a story with real connections, told while it happens, and judged at the end."""

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
from demo.scene import HEALTHY, STUCK, Connection, Scene, address4, address6
from tests.support.topologies.topology import Lab, missing

WAIT_SECONDS = 7
SPARE = (address4("spare"), address6("spare"))
_INDENT = "   "
_DEEPER = "     "
_COOKIE = re.compile(r"\bsk:([0-9a-f]+)")

SCENE = f"""\
Seven small hosts, each a network namespace of its own that will be thrown away. One of them,
web, runs the five programs of a shop. They hold 15 TCP connections to the other hosts:

  checkout  6 to db       {address4("db")}    questions and answers all the time
  sessions  3 to cache    {address4("cache")}    a pool: open, in order, and idle
  logship   3 to logs     {address4("logs")}    a stream of log lines
  reports   2 to replica  {address6("replica")}  questions and answers, over IPv6
  mailer    1 to mail     {address4("mail")}    waits for the next mail
"""
MISHAPS = """\
  logs     hangs: it reads no more, so the log lines pile up on web
  replica  vanishes: its address is gone, and no answer comes, not even a reset
  mail     hangs up, and mailer forgets to do so too
"""


class Teller:
    """Tells the story. Where people watch it on a terminal, with a little emphasis."""

    def __init__(self) -> None:
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._chapter = 0

    def chapter(self, title: str) -> None:
        self._chapter += 1
        title = f"{self._chapter}. {title}"
        self._print(f"\n\x1b[1m{title}\x1b[0m\n" if self.colour else f"\n{title}\n")

    def say(self, text: str = "", indent: str = _INDENT) -> None:
        self._print(textwrap.indent(text.rstrip(), indent))

    def wait(self, seconds: int, why: str) -> None:
        self._print(f"{_INDENT}{why} ", end="")
        for _second in range(seconds):
            time.sleep(1)
            self._print(".", end="")
        self._print()

    @staticmethod
    def _print(text: str = "", end: str = "\n") -> None:
        print(text, end=end, flush=True)


class Verdict:
    """What was promised, and whether it was so."""

    def __init__(self) -> None:
        self._checks: list[tuple[str, bool]] = []

    def check(self, promise: str, kept: bool) -> None:
        self._checks.append((promise, kept))

    @property
    def good(self) -> bool:
        return all(kept for _promise, kept in self._checks)

    def lines(self) -> str:
        return "\n".join(
            f"{'yes' if kept else 'NO ':3}  {promise}" for promise, kept in self._checks
        )


def cookies(connections: Sequence[Connection]) -> set[str]:
    return {each.cookie for each in connections}


def of(connections: Sequence[Connection], apps: Sequence[str]) -> list[Connection]:
    return [each for each in connections if each.app in apps]


def kernel_knows(scene: Scene) -> set[str]:
    """The cookies of all TCP connections on web, by a witness that is not ours: ss."""
    return set(_COOKIE.findall(scene.web.output("ss", "--tcp", "-H", "-n", "-e")))


def tell_what_programs_said(teller: Teller, connections: Sequence[Connection]) -> None:
    for app in STUCK:
        mine = of(connections, [app])
        said = sorted({text for each in mine for text in each.said})
        moved = mine[0].remote[0] in SPARE
        then = "so it connected to spare" if moved else "so it closed its end at last"
        heard = f"{len(mine)} x {'; '.join(said)}, {then}" if said else "noticed nothing"
        teller.say(f"{app:8}  {heard}", _DEEPER)


def story(scene: Scene, teller: Teller, verdict: Verdict, folder: str) -> None:
    teller.say(SCENE)
    before = scene.settle()
    teller.say(f"\nAll {len(before)} work.")

    teller.chapter("Three mishaps, and nobody tells the programs")
    scene.break_things()
    teller.say(MISHAPS)
    teller.say()
    teller.wait(WAIT_SECONDS, "A few seconds pass, so that it shows who makes no progress")
    stuck, healthy = of(before, STUCK), of(before, HEALTHY)
    verdict.check(
        "before the playbook, the kernel had 15 connections on web and no program complained",
        kernel_knows(scene) == cookies(before)
        and not any(each.said for each in scene.connections()),
    )

    teller.chapter("The playbook runs on web (it is demo/playbook.yml)")
    counted = sum(each.done for each in scene.connections("checkout"))
    run = runner.play(scene.web, folder, teller.say, colour=teller.colour)
    left = kernel_knows(scene)
    told = set(re.findall(r"^\s*([0-9a-f]+)\s+destroyed\b", run.output, re.MULTILINE))
    verdict.check(
        f"it destroyed the {len(stuck)} connections that made no progress, as check mode foretold",
        # The second is what check mode would have changed.
        run.counts.get("changed") == 2
        and run.counts.get("failed") == 0
        and told == cookies(stuck)
        and not left & cookies(stuck),
    )
    verdict.check(
        f"it left the other {len(healthy)} alone: they are the same sockets still (ss says so)",
        cookies(healthy) <= left,
    )

    teller.chapter("What the programs on web say")
    after = scene.settle("logship", "reports")
    tell_what_programs_said(teller, scene.connections())
    verdict.check(
        "the programs were told: each destroyed connection failed with ECONNABORTED, once",
        all(
            len(each.said) == 1 and each.said[0].startswith("ECONNABORTED")
            for each in scene.connections(*STUCK)
        ),
    )
    verdict.check(
        f"{len(after)} of them went to a spare host by themselves, and work again",
        len(after) == 5 and all(each.remote[0] in SPARE for each in after),
    )
    busy, pool = alive(scene)
    answers = sum(each.done for each in busy) - counted
    teller.say(f"checkout  noticed nothing: {answers} answers since the playbook began", _DEEPER)
    teller.say("sessions  noticed nothing: asked just now, and all 3 connections answered", _DEEPER)
    verdict.check(
        "the busy and the idle connections that were in order noticed nothing and answer",
        answers > 0
        and all(each.done == 2 for each in pool)
        and cookies([*busy, *pool]) == cookies(healthy)
        and not any(each.said for each in (*busy, *pool)),
    )

    teller.chapter("The same playbook again")
    calm = kernel_knows(scene)
    again = runner.play(scene.web, folder, teller.say, colour=teller.colour)
    verdict.check(
        "run again, the playbook found nothing to do and changed nothing",
        again.counts.get("changed") == 0
        and again.counts.get("failed") == 0
        and "No connection is stuck on this host." in again.output
        and kernel_knows(scene) == calm,
    )


def alive(scene: Scene) -> tuple[list[Connection], list[Connection]]:
    """The connections in order, after one more answer of each of the busy and of the idle ones."""
    earlier = {each.cookie: each.done for each in scene.connections(*HEALTHY)}
    scene.apps["sessions"].tell("ask")
    deadline = time.monotonic() + 10
    while True:
        found = scene.connections(*HEALTHY)
        answered = all(each.done > earlier.get(each.cookie, 0) for each in found)
        if answered or time.monotonic() > deadline:
            return of(found, ["checkout"]), of(found, ["sessions"])
        time.sleep(0.05)


def left_behind(scene: Scene) -> list[str]:
    """Namespaces and processes of the demo that are there still."""
    programs = (program.process.pid for program in scene.programs())
    return [
        *(host.name for host in scene.hosts.values() if Path(host.path).exists()),
        *(str(pid) for pid in programs if Path(f"/proc/{pid}").exists()),
    ]


def demo(interrupts: Interrupts) -> int:
    """The whole of it; the exit status. However it ends, what was made is taken down."""
    with interrupts.held():
        reason = missing()
    if reason is not None:
        print(f"demo: {reason}", file=sys.stderr)
        return 77
    teller, verdict = Teller(), Verdict()
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="linuxnet-sockets-demo-")
    lab = Lab()
    scene = None
    try:
        teller.chapter("A shop")
        with interrupts.held():
            scene = Scene(lab)
            scene.open()
        story(scene, teller, verdict, folder)
    finally:
        with interrupts.held():
            if scene is not None:
                scene.close()
            lab.close()
            shutil.rmtree(folder, ignore_errors=True)
    verdict.check(
        "hosts, wires and programs of this demo are gone again",
        not left_behind(scene) and not Path(folder).exists(),
    )
    teller.chapter("The verdict")
    teller.say(verdict.lines())
    teller.say()
    seconds = time.monotonic() - began
    if verdict.good:
        teller.say(f"Everything went as told, in {seconds:.0f} seconds.")
        return 0
    teller.say("Something did NOT go as told: see the lines that say NO.")
    return 1


def main() -> int:
    try:
        return demo(Interrupts())
    except Interrupted as interrupted:
        print(f"\ndemo: ended by {interrupted}; everything is taken down", file=sys.stderr)
        return 128 + interrupted.number
    except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        print(f"\ndemo: it could not go on: {error}; everything is taken down", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
