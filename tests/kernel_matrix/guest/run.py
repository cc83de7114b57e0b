# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test runner inside a guest: collects facts, runs pytest, and prints the results as JSON."""

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
from tests.kernel_matrix import guest_token  # noqa: E402

# Prefix of the console line with the results (also in machines.py).
MARK = "@results "


class Collector:
    """Pytest plugin that records the outcome of each test."""

    def __init__(self) -> None:
        self.passed = 0
        self.others: list[dict[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            # Includes non-strict xfail tests that passed.
            self.passed += 1
        elif report.failed:
            self._record(report.nodeid, "failed", _last_line(report))
        elif hasattr(report, "wasxfail"):
            self._record(report.nodeid, "expected", str(report.wasxfail).removeprefix("reason: "))
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self._record(report.nodeid, "skipped", reason.removeprefix("Skipped: "))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._record(report.nodeid, "failed", str(report.longrepr).strip().splitlines()[-1])

    def _record(self, test: str, outcome: str, reason: str) -> None:
        self.others.append({"test": test, "outcome": outcome, "reason": reason})


def _last_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return str(text).strip().splitlines()[0]


def run_tests(arguments: list[str]) -> dict[str, Any]:
    collector = Collector()
    began = time.monotonic()
    try:
        status = pytest.main(
            ["-o", "cache_dir=/tmp/pytest", "--color=no", "--tb=short", "-v", *arguments],
            [collector],
        )
    except Exception:  # noqa: BLE001 - the results must be printed
        # Pytest can raise at the end of the session, for example for resources that a failed test
        # left open. The outcomes of the tests are known nevertheless.
        traceback.print_exc()
        status = pytest.ExitCode.INTERNAL_ERROR
    return {
        "arguments": arguments,
        "status": int(status),
        "passed": collector.passed,
        "others": collector.others,
        "seconds": round(time.monotonic() - began),
    }


def report(results: dict[str, Any]) -> None:
    """Print the results on the console, with kernel messages silenced."""
    Path("/proc/sys/kernel/printk").write_text("1\n")
    sys.stdout.flush()
    print(f"\n{MARK}{json.dumps(results)}", flush=True)
    if os.isatty(1):
        # Wait until the serial line has sent everything.
        termios.tcdrain(1)


def main() -> int:
    reason = guest_token.not_a_guest()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    request = json.loads(Path("/request.json").read_text())
    results: dict[str, Any] = {"release": os.uname().release, "version": os.uname().version}
    first = guest_token.start() == 1
    if request["facts"] and first:
        from tests.kernel_matrix.guest import facts

        results["facts"] = facts.gather()
    results["tests"] = run_tests(request["tests"] if first else request["after_reboot"])
    report(results)
    if first and request["after_reboot"]:
        # Reboot immediately, as after a power cut: unwritten data is lost.
        Path("/proc/sysrq-trigger").write_text("b")
    return 0


sys.exit(main())
