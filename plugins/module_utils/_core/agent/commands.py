# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the commands of socket-agent but run. Each gives an exit status."""

from __future__ import annotations

import grp
import json
import os
import socket
import time
from collections.abc import Iterator, Sized
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TextIO

from ..api.policy import plan_parsed
from ..errors import AgentUnreachable
from ..host.host import Host
from ..messages import listed_text, warning_text
from ..messages.policy import plan_lines
from . import controls
from .clocks import Deadline, read_clocks
from .daemon import EVENTS, STATUS
from .policy_file import Refusal, read_policy
from .status import as_of, is_healthy
from .status_words import status_lines

WELL, NOT_WELL, NOT_RUNNING = 0, 1, 3


class Places(NamedTuple):
    """The agent's directories."""

    state: str
    runtime: str


def check(host: Host, file: str, out: TextIO, *, as_json: bool) -> int:
    read = read_policy(file, host)
    if isinstance(read, Refusal):
        return _refused(out, read, as_json=as_json)
    warnings = [warning_text(each) for each in read.warnings]
    lines = [f"valid: {_counted(read.rules, 'rule')}, mode {read.mode}, digest {read.digest}"]
    lines += [f"warning: {each}" for each in warnings]
    told = {"valid": True, "digest": read.digest, "mode": read.mode, "warnings": warnings}
    _print(out, told, as_json, lines)
    return WELL


def _refused(out: TextIO, refusal: Refusal, *, as_json: bool) -> int:
    """Each reason is a line, below what they are about; one alone says that itself."""
    reasons, file = list(refusal.reasons), refusal.file
    lines = [*reasons]
    if len(reasons) > 1 or file not in reasons[0]:
        lines = [f"{file} is refused: {listed_text(reasons)}"]
    if file.endswith((".yml", ".yaml")):
        lines.append(_YAML)
    _print(out, {"valid": False, "errors": reasons}, as_json, lines)
    return NOT_WELL


_YAML = (
    "Here policies are JSON. One in YAML is read on the controller: by the role agent, the module "
    "socket_policy and the filter policy_check of linuxnet.sockets."
)


def _counted(things: Sized, name: str) -> str:
    return f"1 {name}" if len(things) == 1 else f"{len(things)} {name}s"


def plan(host: Host, file: str, out: TextIO, *, as_json: bool) -> int:
    """Holds count for nothing here: what violates now is what would be destroyed in the end."""
    read = read_policy(file, host)
    if isinstance(read, Refusal):
        return _refused(out, read, as_json=as_json)
    planned = plan_parsed(host, read)
    told = planned.to_dict()
    _print(out, told, as_json, plan_lines(told))
    return NOT_WELL if planned.failures else WELL


def status(runtime: str, out: TextIO, *, as_json: bool) -> int:
    try:
        with open(os.path.join(runtime, STATUS), encoding="utf-8") as file:
            told = json.load(file)
    except FileNotFoundError:
        told = None
    if not _reaches(runtime):
        lines = [f"not running: nobody listens in {runtime}"]
        if told is not None and told["last_pass"] is not None:
            lines.append(
                f"what is told there is old: the last look was at {told['last_pass']['at']}"
            )
        _print(out, {"running": False, "last": told}, as_json, lines)
        return NOT_RUNNING
    if told is None:
        _print(out, {"running": True, "last": None}, as_json, ["running, and has not looked yet"])
        return NOT_WELL
    told = as_of(told, time.monotonic(), read_clocks("/proc"))
    healthy = is_healthy(told)
    _print(out, {"running": True, "healthy": healthy, **told}, as_json, status_lines(told))
    return WELL if healthy else NOT_WELL


def pause(places: Places, out: TextIO, *, reason: str, for_s: float | None) -> int:
    until = None if for_s is None else Deadline.after(read_clocks("/proc"), for_s)
    with _telling("pause the agent", places.state):
        controls.write_pause(places.state, reason, until)
    _poke(places, out, "paused")
    return WELL


def resume(places: Places, out: TextIO) -> int:
    with _telling("resume the agent", places.state):
        ended = controls.end_pause(places.state)
    _poke(places, out, "resumed" if ended else "was not paused")
    return WELL


def confirm(places: Places, out: TextIO, *, digest: str | None) -> int:
    waiting = controls.read_confirmation(places.state)
    if waiting is not None and digest is not None and not waiting.awaited_for(digest):
        out.write(f"not confirmed: the policy on trial is {waiting.digest}, not {digest}\n")
        return NOT_WELL
    with _telling("confirm the policy", places.state):
        confirmed = controls.confirm(places.state)
    _poke(places, out, "confirmed" if confirmed else "nothing was on trial")
    return WELL


def trial(host: Host, places: Places, file: str, out: TextIO, *, within_s: float) -> int:
    read = read_policy(file, host)
    if isinstance(read, Refusal):
        return _refused(out, read, as_json=False)
    until = Deadline.after(read_clocks(host.proc), within_s)
    with _telling("put the policy on trial", places.state):
        controls.await_confirmation(places.state, read.digest, until)
    _poke(places, out, f"on trial: {read.digest}")
    return WELL


def _poke(places: Places, out: TextIO, text: str) -> None:
    """Let the agent see at once what changed; it would by itself a little later."""
    running = "" if _reaches(places.runtime) else " (no agent runs)"
    out.write(f"{text}{running}\n")


def _reaches(runtime: str) -> bool:
    """Connecting wakes an agent; nobody but a running one takes it. Raises AgentUnreachable for who
    may not ask, and so cannot know."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(2)
        try:
            knock.connect(os.path.join(runtime, EVENTS))
        except PermissionError as error:
            raise _out_of_reach("ask the agent", runtime, error) from error
        except BlockingIOError:
            # Too many wait already: it is busy, or rests.
            return True
        except OSError:
            return False
    return True


@contextmanager
def _telling(operation: str, directory: str) -> Iterator[None]:
    """What is done in a directory of the agent's: who may not is told who may."""
    try:
        yield
    except OSError as error:
        raise _out_of_reach(operation, directory, error) from error


def _out_of_reach(operation: str, directory: str, error: OSError) -> AgentUnreachable:
    group = None
    with suppress(OSError, KeyError):
        number = os.stat(directory).st_gid
        group = grp.getgrgid(number).gr_name if number else None
    return AgentUnreachable(operation, directory, error.errno or 0, group)


def _print(out: TextIO, told: Any, as_json: bool, lines: list[str]) -> None:
    out.write(json.dumps(told, indent=1) + "\n" if as_json else "".join(f"{x}\n" for x in lines))
