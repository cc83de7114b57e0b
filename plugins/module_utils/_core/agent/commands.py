# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The commands of socket-agent except run. Each returns an exit status."""

from __future__ import annotations

import grp
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TextIO

from ..api.policy import plan_parsed
from ..errors import AgentUnreachable
from ..host.host import Host
from ..messages import listed_text, warning_text
from ..messages.policy import plan_lines
from . import controls
from .clocks import Deadline, read_clocks
from .paths import EVENTS, STATUS
from .policy_file import Rejected, load_policy
from .status import at_read_time, is_healthy, status_lines

SUCCESS, FAILURE, NOT_RUNNING = 0, 1, 3


class Directories(NamedTuple):
    """The agent's directories."""

    state: str
    runtime: str


def check(host: Host, file: str, out: TextIO, *, as_json: bool) -> int:
    """Check a policy and print its errors and warnings."""
    policy = load_policy(file, host)
    if isinstance(policy, Rejected):
        return _print_rejected(out, policy, as_json=as_json)
    warnings = [warning_text(warning) for warning in policy.warnings]
    rules = _count_text(policy.rules, "rule")
    lines = [f"valid: {rules}, mode {policy.mode}, digest {policy.digest}"]
    lines += [f"warning: {text}" for text in warnings]
    result = {"valid": True, "digest": policy.digest, "mode": policy.mode, "warnings": warnings}
    _print(out, result, as_json, lines)
    return SUCCESS


def _print_rejected(out: TextIO, rejected: Rejected, *, as_json: bool) -> int:
    """Print the errors of a file, each on a line. A single error names the file itself."""
    errors, file = list(rejected.errors), rejected.file
    lines = [*errors]
    if len(errors) > 1 or file not in errors[0]:
        lines = [f"{file} is rejected: {listed_text(errors)}"]
    if file.endswith((".yml", ".yaml")):
        lines.append(_YAML)
    _print(out, {"valid": False, "errors": errors}, as_json, lines)
    return FAILURE


_YAML = (
    "socket-agent reads policies in JSON. On the controller you can use YAML with the agent role, "
    "the socket_policy module and the policy_check filter of linuxnet.sockets."
)


def _count_text(things: Sized, name: str) -> str:
    return f"1 {name}" if len(things) == 1 else f"{len(things)} {name}s"


def plan(host: Host, file: str, out: TextIO, *, as_json: bool) -> int:
    """Print which sockets a policy would destroy now, without holds; destroy none."""
    policy = load_policy(file, host)
    if isinstance(policy, Rejected):
        return _print_rejected(out, policy, as_json=as_json)
    result = plan_parsed(host, policy)
    content = result.to_dict()
    _print(out, content, as_json, plan_lines(content))
    return FAILURE if result.failures else SUCCESS


def status(runtime: str, out: TextIO, *, as_json: bool) -> int:
    """Print the status of the running agent."""
    try:
        with open(os.path.join(runtime, STATUS), encoding="utf-8") as file:
            content: dict[str, Any] | None = json.load(file)
    except FileNotFoundError:
        content = None
    if not _notify_agent(runtime):
        lines = [f"not running: no agent listens on {os.path.join(runtime, EVENTS)}"]
        if content is not None and content["last_pass"] is not None:
            lines.append(f"last pass of the previous agent: {content['last_pass']['at']}")
        _print(out, {"running": False, "last": content}, as_json, lines)
        return NOT_RUNNING
    if content is None:
        _print(out, {"running": True, "last": None}, as_json, ["running, no pass completed yet"])
        return FAILURE
    current = at_read_time(content, time.monotonic(), read_clocks("/proc"))
    healthy = is_healthy(current)
    result = {"running": True, "healthy": healthy, **current}
    _print(out, result, as_json, status_lines(current))
    return SUCCESS if healthy else FAILURE


def pause(directories: Directories, out: TextIO, *, reason: str, for_s: float | None) -> int:
    """Pause the agent. for_s: the duration in seconds; None: until resume."""
    until = None if for_s is None else Deadline.after(read_clocks("/proc"), for_s)
    with _agent_errors("pause the agent", directories.state):
        controls.write_pause(directories.state, reason, until)
    _print_and_notify(directories, out, "paused")
    return SUCCESS


def resume(directories: Directories, out: TextIO) -> int:
    """End the pause."""
    with _agent_errors("resume the agent", directories.state):
        ended = controls.remove_pause(directories.state)
    _print_and_notify(directories, out, "resumed" if ended else "was not paused")
    return SUCCESS


def confirm(directories: Directories, out: TextIO, *, digest: str | None) -> int:
    """Confirm the policy on trial. digest: fail if another policy is on trial."""
    on_trial = controls.read_trial(directories.state)
    if on_trial is not None and digest is not None and not on_trial.covers(digest):
        out.write(f"not confirmed: the policy on trial is {on_trial.digest}, not {digest}\n")
        return FAILURE
    with _agent_errors("confirm the policy", directories.state):
        confirmed = controls.confirm(directories.state)
    _print_and_notify(directories, out, "confirmed" if confirmed else "no policy is on trial")
    return SUCCESS


def trial(host: Host, directories: Directories, file: str, out: TextIO, *, within_s: float) -> int:
    """Put a policy on trial for within_s seconds."""
    policy = load_policy(file, host)
    if isinstance(policy, Rejected):
        return _print_rejected(out, policy, as_json=False)
    until = Deadline.after(read_clocks(host.proc), within_s)
    with _agent_errors("put the policy on trial", directories.state):
        controls.start_trial(directories.state, policy.digest, until)
    _print_and_notify(directories, out, f"on trial: {policy.digest}")
    return SUCCESS


def _print_and_notify(directories: Directories, out: TextIO, text: str) -> None:
    """Notify the agent of a change. Without that, it finds the change within ten seconds."""
    running = "" if _notify_agent(directories.runtime) else " (no agent is running)"
    out.write(f"{text}{running}\n")


def _notify_agent(runtime: str) -> bool:
    """Connect to the agent, which makes it check its files; return whether one is running.

    Raises AgentUnreachable if the user may not connect.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(os.path.join(runtime, EVENTS))
        except PermissionError as error:
            raise _unreachable("connect to the agent", runtime, error) from error
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
        raise _unreachable(operation, directory, error) from error


def _unreachable(operation: str, directory: str, error: OSError) -> AgentUnreachable:
    group = None
    with suppress(OSError, KeyError):
        gid = os.stat(directory).st_gid
        group = grp.getgrgid(gid).gr_name if gid else None
    return AgentUnreachable(operation, directory, error.errno or 0, group)


def _print(out: TextIO, result: Mapping[str, Any], as_json: bool, lines: list[str]) -> None:
    if as_json:
        out.write(json.dumps(result, indent=1) + "\n")
    else:
        out.write("".join(f"{line}\n" for line in lines))
