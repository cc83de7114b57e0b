# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/demo: its checks pass, and it removes everything, also after a signal."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.topologies.waiting import until

ROOT = Path(__file__).resolve().parents[2]
ABORTED = os.strerror(errno.ECONNABORTED)


class Demo:
    """tools/demo as a process, with its own directory for temporary files."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self.process = subprocess.Popen(
            [ROOT / "tools" / "demo"],
            env={**os.environ, "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        # Output read by read_until.
        self.output = ""

    def read_until(self, text: str) -> None:
        """Read lines until one contains the text. Raises AssertionError if none does."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        raise AssertionError(f"no {text!r} in:\n{self.output}")

    def wait(self) -> int:
        """Wait for the exit and return the status."""
        rest, _errors = self.process.communicate(timeout=120)
        self.output += rest
        return self.process.returncode

    def descendants(self) -> list[int]:
        """PIDs of its children and their descendants."""
        children: dict[int, list[int]] = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(status.parent.name))
        found = list(children.get(self.process.pid, []))
        for pid in found:
            found += children.get(pid, [])
        return found

    def leftovers(self) -> list[str]:
        """Namespaces and temporary files of the demo that still exist."""
        names = Path("/run/netns").glob(f"lns-{self.process.pid}-*")
        return [*(path.name for path in names), *os.listdir(self.temporary)]


@pytest.fixture
def demo(tmp_path: Path, _require_namespaces: None) -> Iterator[Demo]:
    running = Demo(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
        running.process.wait(timeout=30)
    assert running.process.stdout is not None
    running.process.stdout.close()


@pytest.mark.slow
def test_demo_passes(demo: Demo) -> None:
    started = time.monotonic()
    status = demo.wait()
    seconds = time.monotonic() - started

    assert status == 0, demo.output
    assert seconds < 60
    lines = demo.output.splitlines()
    assert sum(line.startswith("   passed  ") for line in lines) == 8
    assert "FAILED" not in demo.output
    for count, part in (
        (1, "6 to db"),
        (3, "logship["),
        (2, "reports["),
        (1, "mailer["),
        (6, " destroyed  "),
        (1, f"3 x ECONNABORTED ({ABORTED}), reconnected to spare"),
        (1, f"2 x ECONNABORTED ({ABORTED}), reconnected to spare"),
        (1, f"1 x ECONNABORTED ({ABORTED}), closed its own end"),
        (1, "6 connections make no progress because "),
        (1, "No connection is stuck on this host."),
        (1, "changed=0"),
        (2, "failed=0"),
    ):
        assert demo.output.count(part) == count, part
    # The lines of the report are wrapped.
    assert " ".join(demo.output.split()).count("last received") == 1
    assert "WARNING" not in demo.output
    assert "DEPRECAT" not in demo.output
    assert max(map(len, demo.output.splitlines())) <= 100
    assert demo.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "1. "),
        (signal.SIGTERM, "TASK ["),
        (signal.SIGHUP, "logs     hangs"),
    ],
)
def test_demo_cleans_up_after_signal(demo: Demo, number: int, moment: str) -> None:
    demo.read_until(moment)
    started = demo.descendants()
    os.kill(demo.process.pid, number)

    assert demo.wait() == 128 + number, demo.output
    assert signal.Signals(number).name in demo.output.splitlines()[-1]
    assert "Traceback" not in demo.output
    assert demo.leftovers() == []
    until(
        lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()],
        "the exit of all processes of the demo",
    )
