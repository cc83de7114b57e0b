# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The commands of socket-agent except run and events. Each returns an exit status."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sized
from typing import Any, TextIO

from ..api.firewall import rules_of_parsed
from ..api.policy import plan_parsed
from ..errors import OtherPolicyOnTrial
from ..host.host import Host
from ..messages import describe, listed_text, warning_text
from ..messages.policy import plan_lines
from ..text import printable
from . import requests
from .paths import POLICY_FILE, SOCKET
from .policy_file import Rejected, load_policy
from .requests import Directories
from .status import status_lines

SUCCESS, FAILURE, NOT_RUNNING = 0, 1, 3
# As of `socketctl policy plan`.
VIOLATIONS = 5


def check(host: Host, file: str, out: TextIO, *, as_json: bool) -> int:
    """Check a policy and print its errors and warnings.

    The installed policy is rejected where the agent would reject it, for who may write it.
    """
    policy = load_policy(file, host, obeyed=os.path.abspath(file) == POLICY_FILE)
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
        lines = f"{printable(file)} is rejected: {listed_text(errors)}".split("\n")
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


def plan(
    host: Host, file: str, out: TextIO, *, as_json: bool, installed: bool, detailed: bool = False
) -> int:
    """Print which sockets a policy would destroy now, without holds; destroy none.

    installed: reject the file where the agent would reject it. detailed: return VIOLATIONS if the
    policy would destroy sockets.
    """
    policy = load_policy(file, host, obeyed=installed)
    if isinstance(policy, Rejected):
        return _print_rejected(out, policy, as_json=as_json)
    result = plan_parsed(host, policy)
    content = result.to_dict()
    warnings = [f"warning: {text}" for text in content["warnings"]]
    _print(out, content, as_json, [*plan_lines(content), *warnings])
    if result.failures:
        return FAILURE
    return VIOLATIONS if detailed and result.destroys else SUCCESS


def firewall(
    host: Host, file: str, out: TextIO, err: TextIO, *, as_json: bool, installed: bool
) -> int:
    """Print the nftables rule set of a policy. Raises NotExpressible if there is none.

    installed: as for plan. err: for the rules that it does not contain.
    """
    policy = load_policy(file, host, obeyed=installed)
    if isinstance(policy, Rejected):
        return _print_rejected(out, policy, as_json=as_json)
    content = rules_of_parsed(policy).to_dict()
    if as_json:
        _print(out, content, as_json, [])
        return SUCCESS
    out.write(content["text"])
    err.write("".join(f"socket-agent: left out: {text}\n" for text in content["left_out"]))
    return SUCCESS


def status(runtime: str, out: TextIO, *, as_json: bool) -> int:
    """Print the status of the running agent."""
    result = requests.status(runtime)
    if "healthy" in result:
        _print(out, result, as_json, status_lines(result))
        return SUCCESS if result["healthy"] else FAILURE
    if result["running"]:
        _print(out, result, as_json, ["running, no pass completed yet"])
        return FAILURE
    lines = [f"not running: no agent listens on {os.path.join(runtime, SOCKET)}"]
    last = result["last"]
    if last is not None and last["last_pass"] is not None:
        lines.append(f"last pass of the previous agent: {last['last_pass']['at']}")
    _print(out, result, as_json, lines)
    return NOT_RUNNING


def pause(directories: Directories, out: TextIO, *, reason: str, for_s: float | None) -> int:
    """Pause the agent. for_s: the duration in seconds; None: until resume."""
    answer = requests.pause(directories, reason=reason, for_s=for_s)
    _print_answer(out, "paused", answer)
    return SUCCESS


def resume(directories: Directories, out: TextIO) -> int:
    """End the pause."""
    answer = requests.resume(directories)
    _print_answer(out, "resumed" if answer.done else "was not paused", answer)
    return SUCCESS


def confirm(directories: Directories, out: TextIO, *, digest: str | None) -> int:
    """Confirm the policy on trial. digest: fail if another policy is on trial."""
    try:
        answer = requests.confirm(directories, digest=digest)
    except OtherPolicyOnTrial as error:
        out.write(f"{describe(error)}\n")
        return FAILURE
    _print_answer(out, "confirmed" if answer.done else "no policy is on trial", answer)
    return SUCCESS


def trial(host: Host, directories: Directories, file: str, out: TextIO, *, within_s: float) -> int:
    """Put a policy on trial for within_s seconds."""
    policy = load_policy(file, host, obeyed=False)
    if isinstance(policy, Rejected):
        return _print_rejected(out, policy, as_json=False)
    answer = requests.start_trial(directories, policy.digest, within_s)
    _print_answer(out, f"on trial: {policy.digest}", answer)
    return SUCCESS


def _print_answer(out: TextIO, text: str, answer: requests.Answer) -> None:
    running = "" if answer.running else " (no agent is running)"
    out.write(f"{printable(text)}{running}\n")


def _print(out: TextIO, result: Mapping[str, Any], as_json: bool, lines: list[str]) -> None:
    if as_json:
        out.write(json.dumps(result, indent=1) + "\n")
    else:
        out.write("".join(f"{printable(line)}\n" for line in lines))
