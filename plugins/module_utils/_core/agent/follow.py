# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The command events: prints the event stream until a signal or the end of the agent."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..errors import AgentRefused, AgentUnreachable
from ..messages import describe
from ..messages.events import event_text
from ..text import printable
from . import requests
from .commands import FAILURE, NOT_RUNNING, SUCCESS
from .event_reader import EventReader
from .paths import SOCKET

# Without an agent, the time between two attempts to connect doubles up to the second value.
_BACKOFF_S = (0.5, 30.0)


def events(runtime: str, out: TextIO, err: TextIO, *, pretty: bool, reconnect: bool) -> int:
    """Print each event of the running agent, until SIGINT or SIGTERM.

    pretty: a line of text instead of JSON. reconnect: wait for an agent if none runs, and follow
    the next one if it stops. Returns the exit status. Raises AgentUnreachable if the user may not
    connect.
    """
    follower = _Follower(runtime, out, err, pretty=pretty)
    try:
        with _sigterm_as_sigint():
            return follower.follow_all() if reconnect else follower.follow_one()
    except KeyboardInterrupt:
        return SUCCESS
    except BrokenPipeError:
        # Python flushes the standard output again at exit.
        _discard(out)
        return SUCCESS


class _Follower:
    def __init__(self, runtime: str, out: TextIO, err: TextIO, *, pretty: bool) -> None:
        self._runtime = runtime
        self._out = out
        self._err = err
        self._pretty = pretty
        self._backoff_s, self._max_backoff_s = _BACKOFF_S

    def follow_one(self) -> int:
        try:
            self._follow()
        except AgentUnreachable as error:
            if not _is_absent(error):
                raise
            self._notify(self._problem(error))
            return NOT_RUNNING
        if requests.is_running(self._runtime):
            self._notify("The agent disconnected this reader: it was too slow.")
            return FAILURE
        self._notify("The agent stopped.")
        return NOT_RUNNING

    def follow_all(self) -> int:
        said = ""
        while True:
            try:
                self._follow()
                problem = "The agent stopped, or disconnected this reader."
            except AgentUnreachable as error:
                if error.errno in (errno.EACCES, errno.EPERM):
                    raise
                problem = self._problem(error)
            except AgentRefused as error:
                problem = describe(error)
            if problem != said:
                self._notify(f"{problem} Connecting again; the events until then are lost.")
                said = problem
            time.sleep(self._backoff_s)
            self._backoff_s = min(2 * self._backoff_s, self._max_backoff_s)

    def _follow(self) -> None:
        """Print events until the agent closes the connection."""
        with EventReader(self._runtime) as reader:
            poller = select.poll()
            poller.register(reader, select.POLLIN)
            _watch_errors(poller, self._out)
            while True:
                ready = poller.poll()
                if any(descriptor != reader.fileno() for descriptor, _events in ready):
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                found = reader.read()
                if found is None:
                    return
                if found:
                    self._backoff_s = _BACKOFF_S[0]
                self._out.write("".join(f"{self._line(event)}\n" for event in found))
                self._out.flush()

    def _line(self, event: dict[str, Any]) -> str:
        if self._pretty:
            return event_text(event)
        # The escapes of JSON leave only printable ASCII.
        return json.dumps(event, separators=(",", ":"))

    def _problem(self, error: AgentUnreachable) -> str:
        if _is_absent(error):
            return f"No agent listens on {os.path.join(self._runtime, SOCKET)}."
        return describe(error)

    def _notify(self, text: str) -> None:
        self._err.write(f"socket-agent: {printable(text)}\n")
        self._err.flush()


def _is_absent(error: AgentUnreachable) -> bool:
    return error.errno in (errno.ENOENT, errno.ECONNREFUSED)


def _watch_errors(poller: select.poll, out: TextIO) -> None:
    """Let the poller report when nobody reads the output any more."""
    try:
        poller.register(out.fileno(), 0)
    except (OSError, ValueError):
        # Not a file.
        return


@contextmanager
def _sigterm_as_sigint() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM too, also during a write that blocks."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _discard(out: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, out.fileno())
    finally:
        os.close(nowhere)
