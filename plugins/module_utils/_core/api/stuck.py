# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Stuck connections of one host, classified by their leading verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import Failure, InputError, ResultWarning
from ..host.host import Host
from ..selector.parse import parse_selector
from ..verdicts.stranded import STRANDED
from ..verdicts.stuck import STUCK
from .find_sockets import find
from .options import DEFAULT_LIMIT, checks_options
from .task import printable_dict

# In order of precedence: a connection with several verdicts counts under the first. A cause comes
# before its consequences, and a certain verdict before an uncertain one.
PRECEDENCE = (
    "address_gone",
    "unroutable",
    "no_carrier",
    "zero_window",
    "retransmitting",
    "syn_sent",
    "close_wait",
    "fin_wait",
    "orphaned",
    "superseded",
    "rerouted",
    "silent",
)

RANK = {name: number for number, name in enumerate(PRECEDENCE)}
# Connections with only these verdicts may be healthy.
UNCERTAIN = frozenset({"rerouted", "silent"})
NO_VERDICT = "none"

_DETAILS = ("verdicts", "process", "info")


@dataclass(frozen=True)
class StuckConnection:
    """A connection that makes no progress, or may make none.

    Attributes:
        leading: its first verdict in order of precedence; ``none`` if it has none.
        certain: whether it certainly makes no progress.
        for_ms: proven minimum duration of the leading verdict in milliseconds; None if unknown.
        verdicts: all verdicts in order of precedence: ``verdict``, ``for_ms``, ``evidence``.
        record: the record of the socket, with processes and ``tcp_info``.
    """

    leading: str
    certain: bool
    for_ms: int | None
    verdicts: list[dict[str, Any]]
    record: dict[str, Any]


@dataclass(frozen=True)
class StuckReport:
    """The result of stuck_report.

    Attributes:
        connections: certain ones first, then the longest.
        matched: how many connections there are.
        truncated: whether ``connections`` was cut at ``limit``.
        certain: how many of ``connections`` certainly make no progress.
        verdicts: how many of ``connections`` have which leading verdict, in order of precedence.
        warnings: protocols that the kernel cannot list.
        failures: always empty.
    """

    connections: list[StuckConnection]
    matched: int
    truncated: bool
    certain: int
    verdicts: dict[str, int]
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    @printable_dict
    def to_dict(self) -> dict[str, Any]:
        """Return the report as mappings and lists."""
        return {
            "connections": [asdict(connection) for connection in self.connections],
            "matched": self.matched,
            "truncated": self.truncated,
            "certain": self.certain,
            "verdicts": self.verdicts,
        }


@checks_options
def stuck_report(
    match: Mapping[str, Any] | None = None,
    *,
    stuck: Sequence[Any] = tuple(STUCK),
    stranded: Sequence[str] = tuple(STRANDED),
    superseded_ports: Sequence[Any] = (),
    silent_for: int | str = "30s",
    namespaces: Sequence[str] = ("current",),
    limit: int = DEFAULT_LIMIT,
    host: Host | None = None,
) -> StuckReport:
    """Report the connections that are stuck, or whose network is gone. It changes nothing.

    Example::

        for connection in api.stuck_report().connections:
            print(connection.leading, connection.for_ms, connection.record["remote"])

    Args:
        match: a selector that the connections must match too.
        stuck: values of the selector key ``stuck`` to report.
        stranded: values of the selector key ``stranded`` to report.
        superseded_ports: local ports of services whose superseded connections to report.
        silent_for: how long a superseded connection must be silent, such as ``30s``; a bare number
            is seconds.
        namespaces: network namespaces: ``current``, a name, ``pid:N``, a path, or ``all``.
        limit: how many connections to describe at most.
        host: the machine to ask; the default is this one.

    Returns:
        StuckReport: the connections, classified.

    Raises:
        InputError: an option or a part of the selector is wrong.
        NamespaceNotFound, NamespaceDenied: a namespace does not exist or cannot be entered.
        NetlinkError, NetlinkTimeout, DumpInterrupted, MalformedMessage: the kernel did not answer
            as it should.
    """
    host = host or Host()
    selector = _selector(match, stuck, stranded, superseded_ports, silent_for, host)
    found = find(selector, namespaces=namespaces, details=_DETAILS, limit=limit, host=host)
    connections = sorted(map(_connection, found.sockets), key=_worst_first)
    return StuckReport(
        connections=connections,
        matched=found.matched,
        truncated=found.truncated,
        certain=sum(connection.certain for connection in connections),
        verdicts=count_by_leading([connection.leading for connection in connections]),
        warnings=found.warnings,
    )


def _selector(
    match: Mapping[str, Any] | None,
    stuck: Sequence[Any],
    stranded: Sequence[Any],
    superseded_ports: Sequence[Any],
    silent_for: object,
    host: Host,
) -> Mapping[str, Any]:
    """The selector of the connections to report.

    Each part is also parsed on its own, so that the path of an InputError is that of the option.
    """
    verdicts: list[Mapping[str, Any]] = []
    if stuck:
        verdicts.append({"stuck": list(stuck)})
    if stranded:
        verdicts.append({"stranded": list(stranded)})
    for verdict in verdicts:
        parse_selector(verdict, names=host, path=())
    if superseded_ports:
        ports = list(superseded_ports)
        superseded = {"superseded": {"silent_for": silent_for}, "local_port": ports}
        try:
            parse_selector(superseded, names=host, path=())
        except InputError as error:
            key, *rest = error.path
            path = ("superseded_ports", *rest) if key == "local_port" else ("silent_for",)
            raise InputError(path, error.value, error.problem, error.allowed) from None
        verdicts.append(superseded)
    if not verdicts:
        raise InputError(
            ("stuck",), [], "nothing to report", "one of stuck, stranded and superseded_ports"
        )
    if match is not None:
        parse_selector(match, names=host)
    # As in find, an empty selector at the top selects all.
    if not match:
        return {"any": verdicts}
    return {"all": [{"any": verdicts}, match]}


def is_certain(verdict: str) -> bool:
    """Whether a connection with this verdict certainly makes no progress."""
    return verdict in RANK and verdict not in UNCERTAIN


def by_precedence(verdicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Verdicts in order of precedence; unknown ones last, by name."""
    return sorted(verdicts, key=lambda entry: rank(entry["verdict"]))


def leading_verdict(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The name of the first of these verdicts, which are in order of precedence."""
    return str(verdicts[0]["verdict"]) if verdicts else NO_VERDICT


def proven_ms(verdicts: Sequence[Mapping[str, Any]]) -> int | None:
    """The first known duration among verdicts that are as certain as the first one."""
    for entry in verdicts:
        same = is_certain(entry["verdict"]) == is_certain(verdicts[0]["verdict"])
        if entry["for_ms"] is not None and same:
            return int(entry["for_ms"])
    return None


def count_by_leading(names: Sequence[str]) -> dict[str, int]:
    """How often each leading verdict occurs, in order of precedence."""
    counts = Counter(names)
    return {name: counts[name] for name in sorted(counts, key=rank)}


def superseded_verdict(found: Mapping[str, Any]) -> dict[str, Any]:
    """The record's `superseded` as a verdict.

    Its evidence describes the other connection as `other_...`. It is not called newer: the kernel
    does not record the age of a connection.
    """
    by = found.get("by")
    evidence = (
        {f"other_{key}": value for key, value in by.items()} if isinstance(by, Mapping) else {}
    )
    return {"verdict": "superseded", "for_ms": found.get("silent_ms"), "evidence": evidence}


def _connection(record: dict[str, Any]) -> StuckConnection:
    found = [*(record["stuck"] or ()), *(record["stranded"] or ())]
    if record["superseded"]:
        found.append(superseded_verdict(record["superseded"]))
    verdicts = by_precedence(found)
    name = leading_verdict(verdicts)
    return StuckConnection(name, is_certain(name), proven_ms(verdicts), verdicts, record)


def _worst_first(connection: StuckConnection) -> tuple[Any, ...]:
    return not connection.certain, -(connection.for_ms or 0), rank(connection.leading)


def rank(name: str) -> tuple[int, str]:
    """Sort key: the order of precedence, unknown verdicts last and by name."""
    return RANK.get(name, len(RANK)), name
