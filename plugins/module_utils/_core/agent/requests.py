# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Requests to the agent, and its status, as values: for the commands and for other faces."""

from __future__ import annotations

import errno
import grp
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from ..errors import AgentRefused, AgentUnreachable, OtherPolicyOnTrial
from ..host.files import parse_json
from ..host.trusted_files import ROOT, read_private
from ..text import printable
from . import client, controls, protocol
from .clocks import Deadline, read_clocks
from .paths import RUNTIME_DIRECTORY, SOCKET, STATE_DIRECTORY, STATUS
from .status import at_read_time, is_healthy

# A healthy agent answers between two passes. Root does not depend on the answer, see _request.
_ANSWER_TIMEOUT_S = 30.0
_ROOT_TIMEOUT_S = 5.0
_STATUS_TIMEOUT_S = 2.0
_MAX_STATUS_BYTES = 16 * 1024 * 1024
# Without an agent, root writes the files itself.
_ABSENT = frozenset({errno.ENOENT, errno.ECONNREFUSED})


class Directories(NamedTuple):
    """The agent's directories."""

    state: str = STATE_DIRECTORY
    runtime: str = RUNTIME_DIRECTORY


class Answer(NamedTuple):
    """The answer to a request.

    done: False if there was nothing to do. running: whether an agent runs.
    """

    done: bool
    running: bool


def status(runtime: str) -> dict[str, Any]:
    """The status of the agent, as `socket-agent status --json` prints it.

    ``running`` says whether an agent runs. Once it has completed a pass, there are ``healthy`` and
    the keys of status.json; before, ``last`` is None. If no agent runs, ``last`` is the status of
    the previous agent, or None. An agent that does not answer in time is running, and its
    status.json shows how old its last pass is. Raises AgentUnreachable if the user may not connect,
    and OSError.
    """
    try:
        answer = _send(runtime, "read the status", _STATUS_TIMEOUT_S, request=protocol.STATUS)
        running, content = True, answer.get("status")
    except AgentUnreachable as error:
        if error.errno not in (errno.ETIMEDOUT, errno.ECONNRESET, *_ABSENT):
            raise
        running, content = error.errno not in _ABSENT, _status_file(runtime)
    if content is None or not running:
        return {"running": running, "last": content}
    current = at_read_time(content, time.monotonic(), read_clocks("/proc"))
    return {"running": True, "healthy": is_healthy(current), **current}


def _status_file(runtime: str) -> dict[str, Any] | None:
    """The content of status.json; None if there is none, or one that no agent wrote.

    Raises OSError and UntrustedPath.
    """
    try:
        owners = ROOT | {os.stat(runtime).st_uid}
        found = parse_json(read_private(os.path.join(runtime, STATUS), owners, _MAX_STATUS_BYTES))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def pause(directories: Directories, *, reason: str, for_s: float | None) -> Answer:
    """Pause the agent. for_s: the duration in seconds; None: until resume.

    Raises AgentUnreachable and AgentRefused, as the other requests, and InputError for a reason
    that is too long.
    """
    reason = protocol.parse_reason(printable(reason))

    def write() -> bool:
        until = None if for_s is None else Deadline.after(read_clocks("/proc"), for_s)
        controls.write_pause(directories.state, reason, until)
        return True

    return _request(
        directories, "pause the agent", write, request=protocol.PAUSE, reason=reason, for_s=for_s
    )


def resume(directories: Directories) -> Answer:
    """End the pause. done: whether the agent was paused."""
    return _request(
        directories,
        "resume the agent",
        lambda: controls.remove_pause(directories.state),
        request=protocol.RESUME,
    )


def confirm(directories: Directories, *, digest: str | None) -> Answer:
    """Confirm the policy on trial. done: whether a policy was on trial.

    digest: of the policy to confirm. Raises OtherPolicyOnTrial if another one is on trial.
    """
    if digest is not None:
        protocol.parse_digest(digest)
    return _request(
        directories,
        "confirm the policy",
        lambda: controls.confirm(directories.state, digest),
        request=protocol.CONFIRM,
        digest=digest,
    )


def start_trial(directories: Directories, digest: str, within_s: float) -> Answer:
    """Put the policy with this digest on trial for within_s seconds. For root only."""

    def write() -> bool:
        until = Deadline.after(read_clocks("/proc"), within_s)
        controls.start_trial(directories.state, digest, until)
        return True

    return _request(
        directories,
        "put the policy on trial",
        write,
        request=protocol.TRIAL,
        digest=digest,
        within_s=within_s,
    )


def is_running(runtime: str) -> bool:
    """Return whether an agent is running.

    Raises AgentUnreachable if the user may not connect.
    """
    try:
        client.connect(os.path.join(runtime, SOCKET), _STATUS_TIMEOUT_S).close()
    except PermissionError as error:
        raise unreachable("connect to the agent", runtime, error) from error
    except OSError as error:
        return error.errno not in _ABSENT
    return True


def _request(
    directories: Directories, operation: str, write: Callable[[], bool], **request: Any
) -> Answer:
    """Send a request to the agent. write: changes the files in its place.

    A user who may write to the state directory, as root, changes the file itself if no agent runs,
    or if it does not answer in time. The agent reads the files before each pass, so that even a
    busy agent destroys nothing after that.
    """
    direct = os.access(directories.state, os.W_OK | os.X_OK, effective_ids=True)
    timeout_s = _ROOT_TIMEOUT_S if direct else _ANSWER_TIMEOUT_S
    try:
        answer = _send(directories.runtime, operation, timeout_s, **request)
        return Answer(done=bool(answer.get("done")), running=True)
    except AgentUnreachable as error:
        running = error.errno not in _ABSENT
        if running and (not direct or error.errno != errno.ETIMEDOUT):
            raise
    with _agent_errors(operation, directories.state):
        return Answer(write(), running)


def _send(runtime: str, operation: str, timeout_s: float, **request: Any) -> Mapping[str, Any]:
    """Send a request and return the answer. Raises the typed error of a refusal."""
    path = os.path.join(runtime, SOCKET)
    try:
        answer = client.ask(path, request, timeout_s)
    except OSError as error:
        raise unreachable(operation, runtime, error) from error
    return unpack(answer, operation, runtime)


def unpack(answer: Mapping[str, Any], operation: str, runtime: str) -> Mapping[str, Any]:
    """The content of an answer. Raises the typed error of a refusal."""
    content = answer.get("answer")
    if isinstance(content, dict):
        return content
    refusal = answer.get("error")
    fields: dict[str, Any] = refusal if isinstance(refusal, dict) else {}
    name = str(fields.get("name", ""))
    if name == protocol.NOT_PERMITTED:
        raise unreachable(operation, runtime, OSError(errno.EPERM, ""))
    if name == protocol.FAILED and isinstance(fields.get("errno"), int):
        raise unreachable(operation, runtime, OSError(fields["errno"], ""))
    if name == protocol.OTHER_POLICY:
        raise OtherPolicyOnTrial(str(fields.get("on_trial")), str(fields.get("given")))
    raise AgentRefused(operation, name, str(fields.get("message", "")))


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
