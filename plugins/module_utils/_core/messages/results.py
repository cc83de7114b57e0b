# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Sentences for the warnings and failures of a result, and sockets as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import errors
from ..netlink import constants
from ..text import printable
from .errors import describe, path_text, shown, warning_text

# How many items of one kind a sentence names.
_MAX_NAMED = 10
# How many existing interfaces a warning lists.
_MAX_INTERFACES = 20

# The remedy for each outcome that fails an operation, in the order of a sentence.
ADVICE = {
    "survived": (
        "they still exist, or could not be checked again: see their reason_detail, and run it again"
    ),
    "unsupported_protocol": (
        "the kernel cannot destroy sockets of this kind: leave their protocol out, try "
        "engine: auto, or end the process that holds them"
    ),
    "kernel_without_destroy": (
        "this kernel was built without CONFIG_INET_DIAG_DESTROY, or is too old for their state: "
        "try engine: auto, or use a kernel that has it"
    ),
    "busy": "the kernel keeps them while a thread waits on them: run it again",
    "not_permitted": (
        "engine netlink needs CAP_NET_ADMIN in the user namespace that owns the network namespace, "
        "engine bpf CAP_BPF and CAP_PERFMON, engine pidfd permission to trace the processes that "
        "hold them: run with become, or as root"
    ),
}


def endpoint_text(address: str, port: object) -> str:
    """``address:port``, an IPv6 address in brackets."""
    return f"{bracketed(address)}:{port}"


def bracketed(address: str) -> str:
    """An address for use before a port: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address else address


def socket_text(record: Mapping[str, Any], *, connected: bool = True) -> str:
    """One socket in one line, from its record.

    connected: show its state and its remote end too; False for a socket that lost them.
    """
    words = [record["protocol"]]
    if connected:
        words.append(record["state"])
    words.append(endpoint_text(record["local"], record["local_port"]))
    if connected and _has_remote(record):
        words += ["->", endpoint_text(record["remote"], record["remote_port"])]
    if record["uid"] is not None:
        words.append(f"user {record['user'] or record['uid']}")
    words += [f"namespace {record['namespace']}", f"sk:{record['cookie']}"]
    return printable(" ".join(words))


def connection_text(record: Mapping[str, Any]) -> str:
    """The protocol, state, both ends and owner of a socket, from its record."""
    held = record["processes"]
    owner = f" {held[0]['comm']}[{held[0]['pid']}]" if held else ""
    namespace = "" if record["namespace"] == "current" else f" in {record['namespace']}"
    return printable(
        f"{record['protocol']} {record['state']} "
        f"{endpoint_text(record['local'], record['local_port'])} -> "
        f"{endpoint_text(record['remote'], record['remote_port'])}{owner}{namespace}"
    )


def _has_remote(record: Mapping[str, Any]) -> bool:
    """Socket.has_remote for a record."""
    if record["protocol"] in constants.STREAMS:
        return bool(record["remote_port"])
    return bool(record["state"] != constants.STATE_NAMES[constants.CLOSED])


def budget_text(excess: errors.BudgetExcess) -> str:
    """Describe an exceeded destroy budget."""
    whose = "" if excess.rule is None else f" by {rule_and_user_text(excess)}"
    return (
        f"budget exceeded{whose}: {excess.due} sockets to destroy, at most {excess.max_sockets} in "
        f"{excess.per_ms / 1000:g} s"
    )


def exceeded_lines(budget: Mapping[str, Any] | None) -> list[str]:
    """Describe an exceeded budget, one line for each rule and user. budget: of a plan or status."""
    if budget is None:
        return []
    lines = []
    for each in budget["exceeded"]:
        allowed = budget["total" if each["rule"] is None else "max_sockets"]
        excess = errors.BudgetExcess(
            each["due"], allowed, budget["per_ms"], each["rule"], each["uid"], each["user"]
        )
        lines.append(f"{budget_text(excess)} ({budget['on_excess']})")
    return lines


def rule_and_user_text(excess: errors.BudgetExcess) -> str:
    """Name the rule and the user of sockets: ``rule NAME, user alice (uid 1000)``."""
    if excess.uid is None:
        return f"rule {excess.rule}, sockets without an owner"
    name = f"uid {excess.uid}" if excess.user is None else f"{excess.user} (uid {excess.uid})"
    return f"rule {excess.rule}, user {name}"


def unknown_interfaces_text(interfaces: Sequence[tuple[str, str]], existing: Sequence[str]) -> str:
    """Describe interfaces that no namespace has, given as (interface, rule)."""
    names = _some([f"'{interface}' (rule {rule})" for interface, rule in interfaces], ", ")
    listed = ", ".join(existing[:_MAX_INTERFACES]) or "none"
    more = len(existing) - _MAX_INTERFACES
    return printable(
        f"unknown interface {names}: conditions on missing interfaces never match. "
        f"Existing: {listed}{f' and {more} more' if more > 0 else ''}"
    )


def gone_interfaces_text(names: Sequence[str], rule: str) -> str:
    """Describe interfaces of a rule that existed before."""
    several = len(names) > 1
    return (
        f"interface{'s' if several else ''} {', '.join(names)} (rule {rule}) no longer "
        f"exist{'' if several else 's'}: until {'they return' if several else 'it returns'}, "
        "conditions on it are unknown"
    )


def not_evaluated_text(namespace: str, rule: str | None, error: str) -> str:
    """Describe a failed evaluation. rule: None for all rules of the namespace."""
    return printable(f"not evaluated: {place_text(namespace, rule)}: {error}")


def place_text(namespace: str, rule: str | None) -> str:
    """A namespace, or one rule in it."""
    return f"namespace {namespace}" if rule is None else f"rule {rule} in namespace {namespace}"


def _unlisted(warning: errors.ProtocolUnlisted) -> str:
    protocol = warning.protocol
    return (
        f"This kernel cannot list {protocol} sockets, so the result has none: it has no socket "
        f"diag handler for them. To list them, load the module {constants.DIAG_MODULES[protocol]}."
    )


def _owners(warning: errors.OwnersUnreadable) -> str:
    if warning.sockets == 1:
        what, them = "1 socket is", "it, and it might be an SSH session"
    else:
        what, them = f"{warning.sockets} sockets are", "them, and they might be SSH sessions"
    return (
        f"{what} protected because this user cannot read which processes hold {them}: "
        "run with become, or as root."
    )


def _shared_ports(warning: errors.PortsShared) -> str:
    return (
        f"{_number(warning.sockets, 'UDP socket')} with a port that other sockets share: "
        "disconnecting leaves it bound to the port, so it receives datagrams of other clients. "
        "Restart the program that holds it. Its entry in destroyed has the reason shared_port."
    )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _absent(warning: errors.Absent) -> str:
    return (
        f"{path_text(warning.path)}: {shown(warning.value)}: {warning.problem}, so it matches "
        f"nothing. {_upper(warning.remedy)}."
    )


def _interfaces(warning: errors.InterfacesMissing) -> str:
    return _sentence(unknown_interfaces_text(warning.interfaces, warning.existing))


def _packet_marks(warning: errors.PacketMarks) -> str:
    namespaces = _some(warning.namespaces, ", ")
    return (
        f"Whether connections are rerouted is unknown in namespace {namespaces}: "
        "routing rules match marks, and the packet filter may set marks on packets (an nftables "
        "chain of type route on the hook output, or rules of iptables-legacy in OUTPUT of mangle)."
    )


def _untracked(warning: errors.ViolationsUntracked) -> str:
    return (
        f"{warning.violations} violations were skipped: there are too many to track at once. "
        "Run it again, or narrow the rules."
    )


def _reported_budget(warning: errors.OverBudget) -> str:
    return (
        f"{_budgets(warning)} Mode report destroys nothing in any case. In mode enforce the task "
        "would fail."
    )


def _not_destroyed(failure: errors.SocketsNotDestroyed) -> str:
    found = {name: failure.outcomes[name] for name in ADVICE if failure.outcomes.get(name)}
    parts = [f"{count} {name} ({ADVICE[name]})" for name, count in found.items()]
    return (
        f"{sum(found.values())} of the {failure.matched} selected sockets could not be destroyed: "
        f"{'; '.join(parts)}. They are listed in survivors."
    )


def _too_many(failure: errors.TooManySockets) -> str:
    allowed = str(failure.number)
    if failure.share is not None:
        allowed = f"{failure.share:.0%} of the {failure.population} unprotected ones"
    return (
        f"{failure.selected} sockets would be destroyed, but max_sockets allows {allowed}: "
        f"{_destroyed(failure.destroyed)}. They are listed in survivors. If you mean all of them, "
        "raise max_sockets; if not, narrow the selector."
    )


def _destroyed(before: int) -> str:
    """Describe how many sockets an operation destroyed before it was refused."""
    return f"{before} had been destroyed before, and no more" if before else "none was destroyed"


def _new_connections(failure: errors.NewConnections) -> str:
    lines = [socket_text(record) for record in failure.examples]
    more = failure.connections - len(lines)
    return (
        f"{failure.connections} connections began to match during the drain, and arrivals is fail: "
        f"{'; '.join(lines)}{f'; and {more} more' if more else ''}. Of those before them, "
        f"{_destroyed(failure.destroyed)}. The others are listed in remaining. Keep new "
        "connections out first, or use arrivals: include or ignore."
    )


def _over_budget(failure: errors.OverBudget) -> str:
    total = any(excess.rule is None for excess in failure.exceeded)
    if failure.on_excess == "pace":
        what = f"{failure.destroyed} were attempted, the oldest violations first. The others"
    else:
        what = "None was destroyed. They" if total else "None of these was destroyed. They"
    return (
        f"{_budgets(failure)} {what} are listed in survivors. If you mean all of them, raise "
        "limits.max_sockets; if not, narrow the rules."
    )


def _budgets(over: errors.OverBudget) -> str:
    return _some([_sentence(budget_text(excess)) for excess in over.exceeded], " ")


def _incomplete(failure: errors.EvaluationIncomplete) -> str:
    items = [
        _upper(not_evaluated_text(item.namespace, item.rule, describe(item.error)))
        for item in failure.not_evaluated
    ]
    return _some(items, " ")


def _upper(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}"


def _sentence(phrase: str) -> str:
    return f"{_upper(phrase)}."


def _some(items: Sequence[str], separator: str) -> str:
    """The first _MAX_NAMED items, and how many more there are."""
    more = [f"and {len(items) - _MAX_NAMED} more"] if len(items) > _MAX_NAMED else []
    return separator.join([*items[:_MAX_NAMED], *more])


_WARNINGS: dict[type, Callable[[Any], str]] = {
    errors.ProtocolUnlisted: _unlisted,
    errors.OwnersUnreadable: _owners,
    errors.PortsShared: _shared_ports,
    errors.Absent: _absent,
    errors.InterfacesMissing: _interfaces,
    errors.PacketMarks: _packet_marks,
    errors.ViolationsUntracked: _untracked,
    errors.OverBudget: _reported_budget,
    errors.PolicyWarning: warning_text,
}
_FAILURES: dict[type, Callable[[Any], str]] = {
    errors.SocketsNotDestroyed: _not_destroyed,
    errors.TooManySockets: _too_many,
    errors.NewConnections: _new_connections,
    errors.OverBudget: _over_budget,
    errors.EvaluationIncomplete: _incomplete,
}


def describe_warning(warning: errors.ResultWarning) -> str:
    """Describe a warning: the problem and the remedy."""
    return printable(_WARNINGS[type(warning)](warning))


def describe_failure(failure: errors.Failure) -> str:
    """Describe a failure: the problem, the sockets destroyed despite it, and the remedy."""
    return printable(_FAILURES[type(failure)](failure))
