# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside a guest: asks the kernel, runs the tests, and tells both in one line of JSON."""

from __future__ import annotations

import json
import os
import sys
import termios
import time
import traceback
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent.parent.parent
sys.path.insert(0, str(PROJECT))

import pytest  # noqa: E402

import tests.conftest  # noqa: E402,F401  # pylint: disable=unused-import
from tests.kernel_matrix import ours  # noqa: E402

# Begins the line on the console that holds what was found out.
MARK = "@results "


class Collector:
    """A pytest plugin that keeps what became of each test."""

    def __init__(self) -> None:
        self.passed = 0
        self.others: list[dict[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            # Also what might have differed, and did not.
            self.passed += 1
        elif report.failed:
            self._keep(report.nodeid, "failed", _last_line(report))
        elif hasattr(report, "wasxfail"):
            self._keep(report.nodeid, "expected", str(report.wasxfail).removeprefix("reason: "))
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self._keep(report.nodeid, "skipped", reason.removeprefix("Skipped: "))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._keep(report.nodeid, "failed", str(report.longrepr).strip().splitlines()[-1])

    def _keep(self, test: str, outcome: str, reason: str) -> None:
        self.others.append({"test": test, "outcome": outcome, "reason": reason})


def _last_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return str(text).strip().splitlines()[0]


def run_tests(words: list[str]) -> dict[str, Any]:
    collector = Collector()
    began = time.monotonic()
    try:
        status = pytest.main(
            ["-o", "cache_dir=/tmp/pytest", "--color=no", "--tb=short", "-v", *words], [collector]
        )
    except Exception:  # noqa: BLE001 - the first thing to save is what was found out
        # At its very end pytest raises what nobody else could be told, such as what a test that
        # failed left open. What came of the tests is known all the same.
        traceback.print_exc()
        status = pytest.ExitCode.INTERNAL_ERROR
    return {
        "arguments": words,
        "status": int(status),
        "passed": collector.passed,
        "others": collector.others,
        "seconds": round(time.monotonic() - began),
    }


def tell(found: dict[str, Any]) -> None:
    """On the console, after the kernel was asked to keep quiet there."""
    Path("/proc/sys/kernel/printk").write_text("1\n")
    sys.stdout.flush()
    print(f"\n{MARK}{json.dumps(found)}", flush=True)
    if os.isatty(1):
        # All of it has left the machine.
        termios.tcdrain(1)


def main() -> int:
    reason = ours.not_ours()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    order = json.loads(Path("/order.json").read_text())
    found: dict[str, Any] = {"release": os.uname().release, "version": os.uname().version}
    first = ours.start() == 1
    if order["facts"] and first:
        from tests.kernel_matrix.guest import facts

        found["facts"] = facts.gather()
    found["tests"] = run_tests(order["tests"] if first else order["after_reboot"])
    tell(found)
    if first and order["after_reboot"]:
        # As if somebody pulled the plug: what is not on the disk by now is lost.
        Path("/proc/sysrq-trigger").write_text("b")
    return 0


sys.exit(main())
