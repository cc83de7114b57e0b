# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Requests to the agent, and its status, as values: for the commands and for other faces."""

from __future__ import annotations

import grp
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from ..errors import AgentUnreachable, OtherPolicyOnTrial
from . import controls
from .clocks import Deadline, read_clocks
from .paths import EVENTS, RUNTIME_DIRECTORY, STATE_DIRECTORY, STATUS
from .status import at_read_time, is_healthy


class Directories(NamedTuple):
    """The agent's directories."""

    state: str = STATE_DIRECTORY
    runtime: str = RUNTIME_DIRECTORY


class Answer(NamedTuple):
    """The answer to a request.

    done: False if there was nothing to do. running: whether an agent was notified. Without that,
    an agent finds the change within ten seconds.
    """

    done: bool
    running: bool


def status(runtime: str) -> dict[str, Any]:
    """The status of the agent, as `socket-agent status --json` prints it.

    ``running`` says whether an agent runs. Once it has completed a pass, there are ``healthy`` and
    the keys of status.json; before, ``last`` is None. If no agent runs, ``last`` is the status of
    the previous agent, or None. Raises AgentUnreachable if the user may not connect, and OSError.
    """
    try:
        with open(os.path.join(runtime, STATUS), encoding="utf-8") as file:
            content: dict[str, Any] | None = json.load(file)
    except FileNotFoundError:
        content = None
    running = is_running(runtime)
    if content is None or not running:
        return {"running": running, "last": content}
    current = at_read_time(content, time.monotonic(), read_clocks("/proc"))
    return {"running": True, "healthy": is_healthy(current), **current}


def pause(directories: Directories, *, reason: str, for_s: float | None) -> Answer:
    """Pause the agent. for_s: the duration in seconds; None: until resume.

    Raises AgentUnreachable, as the other requests.
    """
    until = None if for_s is None else Deadline.after(read_clocks("/proc"), for_s)
    with _agent_errors("pause the agent", directories.state):
        controls.write_pause(directories.state, reason, until)
    return Answer(done=True, running=is_running(directories.runtime))


def resume(directories: Directories) -> Answer:
    """End the pause. done: whether the agent was paused."""
    with _agent_errors("resume the agent", directories.state):
        ended = controls.remove_pause(directories.state)
    return Answer(ended, is_running(directories.runtime))


def confirm(directories: Directories, *, digest: str | None) -> Answer:
    """Confirm the policy on trial. done: whether a policy was on trial.

    digest: of the policy to confirm. Raises OtherPolicyOnTrial if another one is on trial.
    """
    on_trial = controls.read_trial(directories.state)
    if on_trial is not None and digest is not None and not on_trial.covers(digest):
        raise OtherPolicyOnTrial(on_trial.digest, digest)
    with _agent_errors("confirm the policy", directories.state):
        confirmed = controls.confirm(directories.state)
    return Answer(confirmed, is_running(directories.runtime))


def start_trial(directories: Directories, digest: str, until: Deadline) -> Answer:
    """Put the policy with this digest on trial."""
    with _agent_errors("put the policy on trial", directories.state):
        controls.start_trial(directories.state, digest, until)
    return Answer(done=True, running=is_running(directories.runtime))


def is_running(runtime: str) -> bool:
    """Connect to the agent, which makes it check its files; return whether one is running.

    Raises AgentUnreachable if the user may not connect.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(os.path.join(runtime, EVENTS))
        except PermissionError as error:
            raise unreachable("connect to the agent", runtime, error) from error
        except BlockingIOError:
            # The listen queue is full: the agent is busy, or in its cooldown.
            return True
        except OSError:
            return False
    return True


@contextmanager
def _agent_errors(operation: str, directory: str) -> Iterator[None]:
    """Turn OSError into AgentUnreachable, which names the group with access."""
    try:
        yield
    except OSError as error:
        raise unreachable(operation, directory, error) from error


def unreachable(operation: str, directory: str, error: OSError) -> AgentUnreachable:
    """Return the error for a failed operation, which names the group with access."""
    group = None
    with suppress(OSError, KeyError):
        gid = os.stat(directory).st_gid
        group = grp.getgrgid(gid).gr_name if gid else None
    return AgentUnreachable(operation, directory, error.errno or 0, group)
