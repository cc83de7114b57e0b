# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""socketctl on a made-up machine: its output, its errors and its exit status."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from linuxnet_sockets.socketctl.main import run
from tests.support.drain_timeline import Timeline
from tests.support.fake_kernel import FakeRoute


class Screen(io.StringIO):
    """Output that is a terminal."""

    def isatty(self) -> bool:
        return True


class Keyboard(io.StringIO):
    """Input that is a terminal. before: is called before an answer is read."""

    def __init__(self, typed: str, before: Callable[[], object] | None = None) -> None:
        super().__init__(typed)
        self.before = before

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1) -> str:  # type: ignore[override]
        if self.before is not None:
            self.before()
        return super().readline(-1 if size is None else size)


class Output(NamedTuple):
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The objects of --ndjson."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs commands on a machine."""

    def __init__(self, machine: Timeline) -> None:
        self.machine = machine

    def __call__(
        self,
        *words: str,
        typed: str | None = None,
        before: Callable[[], object] | None = None,
        stdin: bytes = b"",
    ) -> Output:
        """Run a command. typed: the input on a terminal; None: without a terminal."""
        terminal = typed is not None
        out = Screen() if terminal else io.StringIO()
        err = Screen() if terminal else io.StringIO()
        keys = Keyboard(typed, before) if typed is not None else io.TextIOWrapper(io.BytesIO(stdin))
        status = run(words, out=out, err=err, stdin=keys, host=self.machine.host)
        return Output(status, out.getvalue(), err.getvalue())


@pytest.fixture
def machine(tmp_path: Path) -> Timeline:
    """A machine with a default route, whose clock advances only while a drain waits."""
    machine = Timeline(tmp_path)
    own = machine.proc / "thread-self" / "ns"
    own.mkdir(parents=True)
    (own / "net").write_text("")
    machine.sockets.routes.append(FakeRoute("0.0.0.0/0", ((2, "192.0.2.126"),)))
    return machine


@pytest.fixture
def socketctl(machine: Timeline, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Shell(machine)
