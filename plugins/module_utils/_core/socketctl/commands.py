# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The commands. Each takes a Session and returns an exit status.

They import the operation that they call, and no other: `socketctl list` loads no code of drains,
policies or the agent.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from .. import api
from ..errors import (
    Failure,
    OwnersUnreadable,
    PolicyErrors,
    PolicyWarning,
    ResultWarning,
    TooManySockets,
)
from ..guard.reason import OWNER_UNREADABLE
from ..host.host import Host
from ..messages import (
    describe,
    describe_failure,
    describe_warning,
    not_evaluated_text,
    rejected_text,
    warning_text,
)
from ..messages.engines import bpf_text
from ..text import printable
from . import exit_status, tables
from .parser import PROG, Parser, given_options
from .tables import Identity, identity
from .terminal import BOLD, GREEN, RED, Cell, Column, Terminal

Options = dict[str, Any]

# How many sockets a question shows.
_MAX_SHOWN = 40
_CHANGING = ("destroyed", "disconnected")
_SUPPORT_TEXTS = {
    "supported": "yes",
    "built_without": "no: the kernel was built without CONFIG_INET_DIAG_DESTROY",
    "no_destroy_handler": "no: SOCK_DESTROY does not support the protocol; try --engine auto",
    "no_cookie_check": "no: the kernel may destroy another socket than the selected one",
    "handler_missing": "no: the sockets cannot be listed",
    "protocol_missing": "no: this kernel does not have the protocol",
    "not_permitted": "no: you need CAP_NET_ADMIN over the network namespace; run it as root",
}


class UsageError(Exception):
    """A command line that cannot be carried out. Its text is a sentence."""


class Refused(Exception):
    """The user said no."""


@dataclass
class Session:
    """One run of a command.

    out: for the result. err: for questions, progress, warnings and errors.
    """

    parsed: argparse.Namespace
    out: Terminal
    err: Terminal
    stdin: TextIO
    host: Host
    warned: set[str] = field(default_factory=set)

    @property
    def for_people(self) -> bool:
        """Whether the result is text."""
        return not (self.parsed.json or self.parsed.ndjson)

    @property
    def interactive(self) -> bool:
        """Whether somebody sees a question and can answer it."""
        return self.stdin.isatty() and self.err.is_terminal

    def problem(self, text: str) -> None:
        """Write an error to standard error. Lists of errors have several lines."""
        for number, line in enumerate(f"{PROG}: {text}".split("\n")):
            self.err.line(line, "" if number else RED)

    def warn(self, warnings: Iterable[ResultWarning]) -> None:
        """Write warnings, each once."""
        for warning in warnings:
            text = describe_warning(warning)
            if text not in self.warned:
                self.warned.add(text)
                self.err.line(f"{PROG}: warning: {text}")

    def finish(
        self, failures: Sequence[Failure], protected: Iterable[Mapping[str, Any]] = ()
    ) -> int:
        """Write the failures of a result and return the exit status.

        protected: sockets that the guard protected. It protects sockets whose owner the user may
        not read: for the user this is a lack of permission.
        """
        if failures:
            self.problem(" ".join(map(describe_failure, failures)))
            return exit_status.of_failures(failures)
        unreadable = sum(entry["reason"] == OWNER_UNREADABLE for entry in protected)
        if unreadable:
            self.warn([OwnersUnreadable(unreadable)])
            return exit_status.IMPOSSIBLE
        return exit_status.SUCCESS

    def data(self, result: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> None:
        """Write a result as JSON. lines: what --ndjson writes, one in a line."""
        if self.parsed.json:
            self.out.raw(json.dumps(result, indent=1) + "\n")
        else:
            for line in lines:
                self.out.raw(json.dumps(line) + "\n")

    def confirm(self, question: str) -> None:
        """Ask, with no as the default. Raises Refused."""
        self.err.ask(f"{question} [y/N] ")
        if self.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Refused

    def require_answer(self) -> None:
        """Raise UsageError without a terminal to ask on."""
        if not self.interactive:
            raise UsageError(
                "there is no terminal to ask on: add --yes to do it without a question, or "
                "--dry-run to see what would be done"
            )

    @property
    def header(self) -> bool:
        """Whether tables have a header."""
        return not getattr(self.parsed, "no_header", False)


def list_sockets(session: Session) -> int:
    options = _given(session)
    found = api.find(**options)
    session.warn(found.warnings)
    if not session.for_people:
        content = found.to_dict()
        session.data(content, content["sockets"])
        return exit_status.SUCCESS
    group = options.get("group_by")
    if group is not None:
        tables.groups_table(session.out, found.summary, group, header=session.header)
    else:
        details = options.get("details", ())
        tables.sockets_table(session.out, found.sockets, details=details, header=session.header)
        _note_limit(session, len(found.sockets), found.matched)
    if not found.matched:
        session.err.line("No sockets match.")
    return exit_status.SUCCESS


def stuck(session: Session) -> int:
    report = api.stuck_report(**_given(session))
    session.warn(report.warnings)
    content = report.to_dict()
    connections = content["connections"]
    if not session.for_people:
        session.data(content, connections)
        return exit_status.SUCCESS
    tables.stuck_table(session.out, connections, header=session.header)
    _note_limit(session, len(connections), report.matched)
    if not connections:
        session.err.line("No connection is stuck.")
    elif report.certain < len(connections) and session.out.is_terminal:
        session.out.line("(?) may be harmless: an idle connection is silent too.")
    return exit_status.SUCCESS


def support(session: Session) -> int:
    found = api.support(**_given(session))
    content = found.to_dict()
    if not session.for_people:
        lines = (
            {"protocol": name, **each, "bpf": content["bpf"][name]}
            for name, each in content["support"].items()
        )
        session.data(content, lines)
        return exit_status.SUCCESS
    if session.header:
        session.out.line(f"Kernel {found.kernel}", BOLD)
    rows = []
    for name, each in found.protocols.items():
        listed = each.verdict not in ("handler_missing", "protocol_missing")
        text = _SUPPORT_TEXTS[each.verdict]
        if each.verdict == "handler_missing":
            text = f"{text}; try modprobe {each.module}"
        style = GREEN if text == "yes" else ""
        by_bpf = found.bpf[name].verdict == "supported"
        rows.append(
            [
                Cell(name),
                Cell("yes" if listed else "no", GREEN if listed else ""),
                Cell("yes" if by_bpf else "no", GREEN if by_bpf else ""),
                Cell(text, style),
            ]
        )
    columns = [Column("PROTOCOL"), Column("LIST"), Column("BPF"), Column("DESTROY")]
    session.out.table(columns, rows, header=session.header)
    bpf = found.bpf["tcp"]
    if bpf.verdict != "supported":
        session.err.line(f"Engine bpf is not available: {bpf_text(*bpf)}.")
    return exit_status.SUCCESS


def destroy(session: Session) -> int:
    options = _given(session)
    shown: set[Identity] | None = None
    if options.pop("check", False):
        return _destroyed(session, api.destroy(check=True, **options), forecast=True)
    confirmed = None
    if not session.parsed.yes:
        session.require_answer()
        forecast = api.destroy(check=True, **options)
        count = _changing(forecast.outcomes)
        if not count:
            return _destroyed(session, forecast, forecast=True)
        session.warn(forecast.warnings)
        _show_targets(session, forecast.to_dict())
        session.confirm(f"Destroy {_counted(count, 'socket')}?")
        confirmed = forecast.matched - forecast.outcomes.get("protected", 0)
        options["max_sockets"] = confirmed
        if not forecast.truncated:
            shown = {identity(entry) for entry in _entries(forecast.to_dict())}
    result = api.destroy(**options)
    if confirmed is not None and isinstance(next(iter(result.failures), None), TooManySockets):
        session.problem(
            f"{result.matched} sockets match now, more than the {confirmed} that you confirmed: "
            "none was destroyed. Run it again."
        )
        return exit_status.LIMIT
    return _destroyed(session, result, shown=shown)


def _destroyed(
    session: Session,
    result: Any,
    *,
    forecast: bool = False,
    shown: set[Identity] | None = None,
) -> int:
    """Write the result of a destroy. shown: the sockets that the user has seen; None: unknown."""
    session.warn(result.warnings)
    content = result.to_dict()
    entries = list(_entries(content))
    if not session.for_people:
        session.data(content, entries)
        return session.finish(result.failures, result.protected)
    news = entries
    if shown is not None:
        news = [
            entry
            for entry in entries
            if entry["outcome"] != "destroyed" or identity(entry) not in shown
        ]
    tables.outcomes_table(session.out, news, forecast=forecast)
    _note_limit(session, len(entries), result.matched)
    if shown is not None:
        late = sum(identity(entry) not in shown for entry in content["destroyed"])
        if late:
            session.out.line(f"{_counted(late, 'socket')} began to match after you had been asked.")
    session.out.line(_outcomes_line(result.matched, result.outcomes, forecast=forecast))
    return session.finish(result.failures, result.protected)


def drain(session: Session) -> int:
    from .progress import DrainProgress

    options = _given(session)
    if options.pop("check", False):
        return _drained(session, api.drain(check=True, **options), forecast=True)
    if not session.parsed.yes and options.get("destroy", True):
        session.require_answer()
        forecast = api.drain(check=True, **options)
        if not _changing(forecast.outcomes):
            return _drained(session, forecast, forecast=True)
        session.warn(forecast.warnings)
        _show_targets(session, forecast.to_dict())
        count = _counted(_changing(forecast.outcomes), "connection")
        grace_s = round(forecast.grace_left + forecast.elapsed, 1)
        session.confirm(f"Wait up to {grace_s:g} s for {count} to end, then destroy the rest?")
    progress = DrainProgress(session.err)
    try:
        result = api.drain(progress=progress, **options)
    except KeyboardInterrupt:
        progress.finish()
        if progress.state is not None:
            session.err.line(f"Interrupted: {_progress_text(progress.state)}.")
        raise
    progress.finish()
    return _drained(session, result)


def _progress_text(state: Any) -> str:
    from .progress import progress_text

    return progress_text(state)


def _drained(session: Session, result: Any, *, forecast: bool = False) -> int:
    session.warn(result.warnings)
    content = result.to_dict()
    entries = [*_entries(content), *content["remaining"]]
    if session.for_people:
        tables.outcomes_table(session.out, entries, forecast=forecast)
        for line in _drain_lines(result, forecast=forecast):
            session.out.line(line)
    else:
        session.data(content, entries)
    status = session.finish(result.failures, result.protected)
    if status == exit_status.SUCCESS and not forecast and not result.drained:
        return exit_status.FAILED
    return status


def _drain_lines(result: Any, *, forecast: bool) -> list[str]:
    if forecast:
        return [_outcomes_line(result.matched, result.outcomes, forecast=True)]
    if not result.matched:
        return ["No sockets match."]
    parts = [f"{result.ended} ended", *_outcome_parts(result.outcomes)]
    if result.left:
        parts.append(f"{result.left} left")
    counts = f"{_counted(result.matched, 'connection')}: {', '.join(parts)}"
    lines = [f"{counts}, in {result.elapsed:.1f} s."]
    lost = [
        f"{tables.size_text(count)} {name.rpartition('_')[0]}"
        for name, count in result.lost.items()
        if count
    ]
    if lost:
        lines.append(f"Bytes that were lost: {', '.join(lost)}.")
    return lines


def policy_check(session: Session) -> int:
    checked = api.check_policy(_document(session), host=session.host)
    content = checked.to_dict()
    if not session.for_people:
        lines = [{"error": text} for text in content["errors"]]
        lines += [{"warning": text} for text in content["warnings"]]
        session.data(content, lines)
        return exit_status.SUCCESS if checked.valid else exit_status.FAILED
    for warning in checked.warnings:
        if isinstance(warning, PolicyWarning):
            session.err.line(f"{PROG}: warning: {warning_text(warning)}")
    policy = checked.policy
    if policy is None:
        file = session.parsed.file
        file = "standard input" if file == "-" else printable(file)
        session.problem(f"{file}: {_counted(len(content['errors']), 'error')}")
        for text in content["errors"]:
            session.err.line(f"- {text}")
        return exit_status.FAILED
    rules = _counted(len(policy.rules), "rule")
    session.out.line(f"valid: {rules}, mode {policy.mode}, digest {policy.digest}")
    return exit_status.SUCCESS


def policy_plan(session: Session) -> int:
    from ..messages.policy import plan_lines

    plan = api.plan_policy(_document(session), host=session.host)
    content = plan.to_dict()
    session.warn(plan.warnings)
    if session.for_people:
        for line in plan_lines(content):
            session.out.line(line)
    else:
        lines = (
            {"rule": rule["name"], **entry}
            for rule in content["rules"]
            for entry in rule["sockets"]
        )
        session.data(content, lines)
    status = session.finish(plan.failures)
    if status == exit_status.SUCCESS and session.parsed.detailed_exitcode:
        return exit_status.VIOLATIONS if plan.destroys else exit_status.SUCCESS
    return status


def policy_firewall(session: Session) -> int:
    rules = api.firewall_rules(_document(session), host=session.host)
    content = rules.to_dict()
    session.warn(rules.warnings)
    if not session.for_people:
        session.data(content, [content])
        return session.finish(rules.failures)
    session.out.raw(rules.text)
    for text in content["left_out"]:
        session.problem(f"left out: {text}")
    return session.finish(rules.failures)


def policy_enforce(session: Session) -> int:
    options = _given(session)
    document = _document(session)
    if options.pop("check", False):
        result = api.enforce_policy(document, check=True, **options)
        return _enforced(session, result, forecast=True)
    if not session.parsed.yes:
        if session.parsed.file == "-":
            raise UsageError("the policy is on standard input, so add --yes or --dry-run")
        session.require_answer()
        forecast = api.enforce_policy(document, check=True, **options)
        count = _changing(forecast.outcomes)
        if not count:
            return _enforced(session, forecast, forecast=True)
        session.warn(forecast.warnings)
        tables.violations_table(session.err, forecast.violations[:_MAX_SHOWN])
        _note_more(session, len(forecast.violations[:_MAX_SHOWN]), forecast.matched)
        session.confirm(f"Destroy {_counted(count, 'socket')}?")
    return _enforced(session, api.enforce_policy(document, **options))


def _enforced(session: Session, result: Any, *, forecast: bool = False) -> int:
    session.warn(result.warnings)
    content = result.to_dict()
    if not session.for_people:
        session.data(content, content["violations"])
        return session.finish(result.failures, result.protected)
    outcomes = {identity(entry): entry["outcome"] for entry in _entries(content)}
    tables.violations_table(session.out, content["violations"], None if forecast else outcomes)
    for entry in content["not_evaluated"]:
        session.out.line(not_evaluated_text(entry["namespace"], entry["rule"], entry["error"]))
    if result.outcomes:
        total = sum(result.outcomes.values())
        session.out.line(_outcomes_line(total, result.outcomes, forecast=forecast))
    elif not result.matched:
        session.out.line("No socket violates the policy.")
    return session.finish(result.failures, result.protected)


def completion(session: Session) -> int:
    from .completion import script
    from .parser import get_parser

    session.out.raw(script(get_parser(), session.parsed.shell))
    return exit_status.SUCCESS


def rejected(session: Session, error: PolicyErrors) -> int:
    """Write the errors of a policy, each on a line of its own."""
    errors = [describe(each) for each in error.errors]
    session.problem(rejected_text(errors, effect="nothing was done on this host"))
    return exit_status.FAILED


COMMANDS = {
    "list": list_sockets,
    "stuck": stuck,
    "destroy": destroy,
    "drain": drain,
    "policy check": policy_check,
    "policy plan": policy_plan,
    "policy firewall": policy_firewall,
    "policy enforce": policy_enforce,
    "support": support,
    "completion": completion,
}


def _given(session: Session) -> Options:
    """The options of the operation, and the host. Raises InputError and UsageError."""
    parser: Parser = session.parsed.parser
    options = dict(given_options(session.parsed))
    if session.parsed.path in ("destroy", "drain") and not options["match"]:
        verb = session.parsed.path
        raise UsageError(
            f"which sockets? Select them, as in: {PROG} {verb} remote=10.0.0.7 (see "
            f"{parser.prog} --help)"
        )
    return {**options, "host": session.host}


def _document(session: Session) -> Any:
    from .policy_file import read_document

    return read_document(session.parsed.file, session.stdin)


def _entries(content: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    for name in ("destroyed", "protected", "survivors"):
        yield from content[name]


def _changing(outcomes: Mapping[str, int]) -> int:
    return sum(outcomes.get(name, 0) for name in _CHANGING)


def _show_targets(session: Session, content: Mapping[str, Any]) -> None:
    """Write the sockets that an operation would destroy, and those that it would not."""
    entries = list(_entries(content))
    tables.outcomes_table(session.err, entries[:_MAX_SHOWN], forecast=True)
    _note_more(session, len(entries[:_MAX_SHOWN]), content["matched"])


def _note_more(session: Session, shown: int, matched: int) -> None:
    if shown < matched:
        session.err.line(f"... and {matched - shown} more; --dry-run shows them.")


def _note_limit(session: Session, shown: int, matched: int) -> None:
    if shown < matched:
        session.err.line(f"{shown} of {matched} sockets; --limit {matched} shows all.")


def _outcomes_line(matched: int, outcomes: Mapping[str, int], *, forecast: bool) -> str:
    if not matched:
        return "No sockets match."
    would = " would be" if forecast else ""
    sockets = _counted(matched, "socket")
    counts = ", ".join(_outcome_parts(outcomes))
    return f"{sockets}{' (dry run)' if would else ''}: {counts}."


def _outcome_parts(outcomes: Mapping[str, int]) -> list[str]:
    return [f"{count} {name.replace('_', ' ')}" for name, count in outcomes.items()]


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
