# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo for real: it ends well and says so, and nothing of it stays, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.topologies.waiting import until

ROOT = Path(__file__).resolve().parents[2]


class Demo:
    """tools/demo as it runs, with its own place for temporary files."""

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
        # Read as far as read_until has got.
        self.output = ""

    def read_until(self, text: str) -> None:
        """Read lines until one has the text in it. Raises AssertionError at the end of output."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        raise AssertionError(f"no {text!r} in:\n{self.output}")

    def end(self) -> int:
        rest, _nothing = self.process.communicate(timeout=120)
        self.output += rest
        return self.process.returncode

    def descendants(self) -> list[int]:
        """The processes that it started, and those that they started."""
        children: dict[int, list[int]] = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(words[1]), []).append(int(status.parent.name))
        found = list(children.get(self.process.pid, []))
        for pid in found:
            found += children.get(pid, [])
        return found

    def left_behind(self) -> list[str]:
        names = Path("/run/netns").glob(f"lns-{self.process.pid}-*")
        return [*(path.name for path in names), *os.listdir(self.temporary)]


@pytest.fixture
def demo(tmp_path: Path, _possible: None) -> Iterator[Demo]:
    running = Demo(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
        running.process.wait(timeout=30)
    assert running.process.stdout is not None
    running.process.stdout.close()


@pytest.mark.slow
def test_the_demo_goes_as_it_tells(demo: Demo) -> None:
    started = time.monotonic()
    status = demo.end()
    seconds = time.monotonic() - started

    assert status == 0, demo.output
    assert seconds < 60
    promises = [line.split()[0] for line in demo.output.partition("verdict")[2].splitlines()[2:10]]
    assert promises == ["yes"] * 8
    assert "Everything went as told" in demo.output
    for counted, said in (
        (1, "6 to db"),
        (3, "logship["),
        (2, "reports["),
        (1, "mailer["),
        (6, " destroyed  "),
        (1, "3 x ECONNABORTED (Software caused connection abort), so it connected to spare"),
        (1, "2 x ECONNABORTED (Software caused connection abort), so it connected to spare"),
        (1, "1 x ECONNABORTED (Software caused connection abort), so it closed its end"),
        (1, "6 connections make no progress because "),
        (1, "No connection is stuck on this host."),
        (1, "changed=0"),
        (2, "failed=0"),
    ):
        assert demo.output.count(said) == counted, said
    # The report wraps its lines.
    assert " ".join(demo.output.split()).count("last received") == 1
    assert "WARNING" not in demo.output
    assert "DEPRECAT" not in demo.output
    assert max(map(len, demo.output.splitlines())) <= 100
    assert demo.left_behind() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "A shop"),
        (signal.SIGTERM, "TASK [Look for"),
        (signal.SIGHUP, "hangs: it reads no more"),
    ],
)
def test_a_signal_ends_it_and_nothing_stays(demo: Demo, number: int, moment: str) -> None:
    demo.read_until(moment)
    started = demo.descendants()
    os.kill(demo.process.pid, number)

    assert demo.end() == 128 + number, demo.output
    assert f"ended by {signal.Signals(number).name}; everything is taken down" in demo.output
    assert "Traceback" not in demo.output
    assert demo.left_behind() == []
    until(
        lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()],
        "all processes of the demo end",
    )
