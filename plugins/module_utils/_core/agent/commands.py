# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the commands of socket-agent but run. Each gives an exit status."""

from __future__ import annotations

import json
import os
import socket
from typing import Any, NamedTuple, TextIO

from .. import outcomes
from ..host import Host
from ..policy import engine
from ..policy.document import Policy
from ..policy.enforce import Pass, run_pass
from ..policy.engine import Engine
from ..policy.look import missing_interfaces
from ..record import record
from ..words import describe, warning_text
from . import control
from .deadline import Deadline, read_clocks
from .loop import EVENTS, STATUS
from .source import Refusal, read_policy
from .status import is_healthy
from .telling import told_of

WELL, NOT_WELL, NOT_RUNNING = 0, 1, 3


class Places(NamedTuple):
    """The agent's directories."""

    state: str
    runtime: str


def check(host: Host, file: str, out: TextIO, *, as_json: bool) -> int:
    read = read_policy(file, host)
    if isinstance(read, Refusal):
        _print(out, {"valid": False, "errors": list(read.reasons)}, as_json, list(read.reasons))
        return NOT_WELL
    warnings = [warning_text(each) for each in read.warnings]
    lines = [f"valid: {len(read.rules)} rules, mode {read.mode}, digest {read.digest}"]
    lines += [f"warning: {each}" for each in warnings]
    told = {"valid": True, "digest": read.digest, "mode": read.mode, "warnings": warnings}
    _print(out, told, as_json, lines)
    return WELL


def plan(host: Host, file: str, out: TextIO, *, as_json: bool) -> int:
    """Holds count for nothing here: what violates now is what would be destroyed in the end."""
    read = read_policy(file, host)
    if isinstance(read, Refusal):
        _print(out, {"valid": False, "errors": list(read.reasons)}, as_json, list(read.reasons))
        return NOT_WELL
    at_once = read.without_holds()
    one = run_pass(host, at_once, Engine(at_once), check=True)
    _print(out, _planned(read, one), as_json, _plan_lines(read, one))
    blind = one.unseen or any(look.failed for look in one.judgements)
    return NOT_WELL if blind else WELL


def _planned(policy: Policy, one: Pass) -> dict[str, Any]:
    excess = one.decision.excess
    return {
        "digest": policy.digest,
        "mode": policy.mode,
        "rules": [
            {
                "name": rule.name,
                "action": rule.action,
                "hold_ms": rule.hold_ms,
                "sockets": [
                    {
                        "status": finding.status,
                        "evidence": list(finding.violation.evidence),
                        "spared_by": None
                        if finding.violation.spared is None
                        else finding.violation.spared.rule,
                        "record": record(finding.violation.subject, ("process",)),
                    }
                    for finding in one.decision.findings
                    if finding.violation.rule.name == rule.name
                ],
            }
            for rule in policy.rules
        ],
        "over_limit": None if excess is None else {"due": excess.due, **_limits(policy)},
        "outcomes": _outcomes(one),
        "unseen": [{"namespace": each.label, "error": describe(each.error)} for each in one.unseen],
    }


def _limits(policy: Policy) -> dict[str, Any]:
    limits = policy.limits
    return {
        "max_sockets": limits.max_sockets,
        "per_ms": limits.per_ms,
        "on_excess": limits.on_excess,
    }


def _outcomes(one: Pass) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in one.done:
        counts[each.result.outcome] = counts.get(each.result.outcome, 0) + 1
    return counts


def _plan_lines(policy: Policy, one: Pass) -> list[str]:
    lines: list[str] = []
    missing = missing_interfaces(one.judgements)
    forecast = {each.violation.identity: each.result.outcome for each in one.done}
    for rule in policy.rules:
        found = [each for each in one.decision.findings if each.violation.rule.name == rule.name]
        words = "1 socket" if len(found) == 1 else f"{len(found)} sockets"
        after = (
            f", after {rule.hold_ms / 1000:g} s"
            if rule.hold_ms and rule.action == "destroy"
            else ""
        )
        holds = [look.conditions.get(rule.name) for look in one.judgements]
        idle = _NOT_NOW if holds and not any(holds) else ""
        lacks = f"; no interface {', '.join(missing[rule.name])}" if rule.name in missing else ""
        lines.append(f"{rule.name}: {words} ({rule.action}{after}){idle}{lacks}")
        for finding in found:
            told = told_of(finding.violation, finding.status)
            owner = f" {told['comm']}[{told['pid']}]" if told["comm"] else ""
            because = f" ({told['because']})" if told["because"] else ""
            spared = finding.violation.spared
            why = f" by {spared.rule}" if spared is not None else ""
            where = "" if told["namespace"] == "current" else f" in {told['namespace']}"
            fate = _STATUS_WORDS.get(finding.status, finding.status)
            expected = forecast.get(finding.violation.identity)
            if finding.status == engine.DESTROY and expected not in (None, *outcomes.CHANGING):
                fate = f"cannot be destroyed ({expected})"
            lines.append(
                f"  {fate}{why}: {told['protocol']} "
                f"{told['state']} {told['local']} -> {told['remote']}{owner}{where}{because}"
            )
    excess = one.decision.excess
    if excess is not None:
        lines.append(
            f"over the limit: {excess.due} to destroy, at most {policy.limits.max_sockets} in "
            f"{policy.limits.per_ms / 1000:g} s ({policy.limits.on_excess})"
        )
    lines += [f"namespace {each.label}: {describe(each.error)}" for each in one.unseen]
    for look in one.judgements:
        lines += [f"{name}: cannot be judged: {describe(x)}" for name, x in look.failed.items()]
    if policy.mode == "report":
        lines.append("mode report: the agent destroys none of them")
    return lines


_NOT_NOW = "; its condition does not hold now"

_STATUS_WORDS = {
    engine.DESTROY: "would be destroyed",
    engine.LIMIT: "over the limit",
    engine.PROTECTED: "protected",
    engine.REPORTED: "reported",
    engine.WITHHELD: "would be destroyed, but for the mode",
    engine.OTHER_RULE: "an earlier rule names it",
}


def status(runtime: str, out: TextIO, *, as_json: bool) -> int:
    try:
        with open(os.path.join(runtime, STATUS), encoding="utf-8") as file:
            told = json.load(file)
    except FileNotFoundError:
        told = None
    if not _reaches(runtime):
        _print(out, {"running": False, "last": told}, as_json, ["not running"])
        return NOT_RUNNING
    if told is None:
        _print(out, {"running": True, "last": None}, as_json, ["running, and has not looked yet"])
        return NOT_WELL
    healthy = is_healthy(told)
    _print(out, {"running": True, "healthy": healthy, **told}, as_json, _status_lines(told))
    return WELL if healthy else NOT_WELL


def _status_lines(told: dict[str, Any]) -> list[str]:
    policy = told["policy"]
    lines = [
        "no policy in force: nothing is destroyed"
        if policy is None
        else f"policy {policy['digest'][:12]} of {policy['file']}, mode {policy['mode']}"
    ]
    lines.append("enforcing" if told["enforcing"] else f"destroys nothing: {told['held_back']}")
    if told["pause"] is not None:
        lines.append(
            f"paused: {told['pause']['reason'] or 'no reason given'}{_left(told['pause'])}"
        )
    if told["trial"] is not None:
        lines.append(f"on trial, to be confirmed{_left(told['trial'])}")
    if told["limit"] is not None:
        lines.append(f"over the limit: {told['limit']['due']} sockets to destroy")
    for each in (told["refused"] or {"errors": []})["errors"]:
        lines.append(f"refused policy: {each}")
    for rule in told["rules"]:
        counts = ", ".join(f"{count} {name}" for name, count in rule["outcomes"].items())
        missing = rule["missing_interfaces"]
        lines.append(
            f"  {rule['name']}: {rule['violations']} violate it now"
            + (f"; since the start {counts}" if counts else "")
            + (f"; no interface {', '.join(missing)}" if missing else "")
        )
    for each in told["last_look"]["failed"] if told["last_look"] else ():
        rule = f", rule {each['rule']}" if each["rule"] else ""
        lines.append(f"namespace {each['namespace']}{rule}: {each['error']}")
    lines += [each["error"] for each in told["errors"]]
    return lines


def _left(told: dict[str, Any]) -> str:
    left = told["left_s"]
    if left is None:
        return ""
    return f", {left:.0f} s left" if left > 0 else ", the time is over"


def pause(places: Places, out: TextIO, *, reason: str, for_s: float | None) -> int:
    until = None if for_s is None else Deadline.after(read_clocks("/proc"), for_s)
    control.write_pause(places.state, reason, until)
    _poke(places, out, "paused")
    return WELL


def resume(places: Places, out: TextIO) -> int:
    _poke(places, out, "resumed" if control.end_pause(places.state) else "was not paused")
    return WELL


def confirm(places: Places, out: TextIO, *, digest: str | None) -> int:
    waiting = control.read_confirmation(places.state)
    if waiting is not None and digest is not None and not waiting.awaited_for(digest):
        out.write(f"not confirmed: the policy on trial is {waiting.digest}, not {digest}\n")
        return NOT_WELL
    _poke(places, out, "confirmed" if control.confirm(places.state) else "nothing was on trial")
    return WELL


def trial(host: Host, places: Places, file: str, out: TextIO, *, within_s: float) -> int:
    read = read_policy(file, host)
    if isinstance(read, Refusal):
        out.write("".join(f"{reason}\n" for reason in read.reasons))
        return NOT_WELL
    until = Deadline.after(read_clocks(host.proc), within_s)
    control.await_confirmation(places.state, read.digest, until)
    _poke(places, out, f"on trial: {read.digest}")
    return WELL


def _poke(places: Places, out: TextIO, text: str) -> None:
    """Let the agent see at once what changed; it would by itself a little later."""
    running = "" if _reaches(places.runtime) else " (no agent runs)"
    out.write(f"{text}{running}\n")


def _reaches(runtime: str) -> bool:
    """Connecting wakes an agent; nobody but a running one takes it. Raises PermissionError for who
    may not ask, and so cannot know."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(2)
        try:
            knock.connect(os.path.join(runtime, EVENTS))
        except PermissionError:
            raise
        except OSError:
            return False
    return True


def _print(out: TextIO, told: Any, as_json: bool, lines: list[str]) -> None:
    out.write(json.dumps(told, indent=1) + "\n" if as_json else "".join(f"{x}\n" for x in lines))
