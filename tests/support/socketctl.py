# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run socketctl in a network namespace, with pipes or on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.topologies.topology import LabNamespace

_CORE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_core"
_TIMEOUT_S = 60
# Variables that change the output. Without buffers, Python ignores a write that was cut short.
_CHANGING = ("NO_COLOR", "COLUMNS", "PYTHONUNBUFFERED")


class Output(NamedTuple):
    """The exit status and the output of a command. On a terminal, out has all of it."""

    status: int
    out: str
    err: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Socketctl:
    """socketctl of the checkout. where: the namespace. base: a directory for its package."""

    def __init__(self, where: LabNamespace, base: Path) -> None:
        self.where = where
        self._path = base / "socketctl-package"
        self._path.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (self._path / "linuxnet_sockets").symlink_to(_CORE)

    def command(self, words: Sequence[str], prefix: Sequence[str] = ()) -> list[str]:
        program = (sys.executable, "-B", "-m", "linuxnet_sockets.cli")
        return self.where.command(*prefix, *program, *words)

    def environ(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if name not in _CHANGING},
            "PYTHONPATH": str(self._path),
            "TERM": "xterm",
            **(environ or {}),
        }

    def __call__(self, *words: str, prefix: Sequence[str] = (), stdin: str = "") -> Output:
        """Run a command without a terminal. prefix: a command that runs it."""
        done = subprocess.run(
            self.command(words, prefix),
            env=self.environ(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return Output(done.returncode, done.stdout, done.stderr)

    def on_terminal(
        self, *words: str, columns: int = 100, environ: Mapping[str, str] | None = None
    ) -> OnTerminal:
        """Start a command on a terminal of a width."""
        return OnTerminal(self.command(words), columns, self.environ(environ))


class OnTerminal:
    """A running command whose standard streams are a terminal of its own."""

    def __init__(self, command: Sequence[str], columns: int, environ: Mapping[str, str]) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._read = b""
        try:
            self._process = subprocess.Popen(
                # setsid(1): a controlling terminal, so that Ctrl-C reaches the command.
                ["setsid", "--ctty", *command],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environ,
            )
        finally:
            os.close(slave)

    def expect(self, text: str) -> None:
        """Wait until the command has written a text."""
        deadline = time.monotonic() + _TIMEOUT_S
        while text.encode() not in self._read:
            assert time.monotonic() < deadline, f"{text!r} is not in {self._read!r}"
            assert self._more(), f"{text!r} is not in {self._read!r}"

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def finish(self) -> Output:
        """Wait for the end of the command."""
        while self._more():
            pass
        status = self._process.wait(timeout=_TIMEOUT_S)
        os.close(self._master)
        return Output(status, self._read.decode().replace("\r\n", "\n"))

    def _more(self) -> bool:
        ready, _write, _error = select.select([self._master], [], [], _TIMEOUT_S)
        assert ready, f"no output and no end: {self._read!r}"
        try:
            found = os.read(self._master, 65536)
        except OSError:
            # EIO: the other end is closed.
            return False
        self._read += found
        return bool(found)
