# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Find sockets: records of those that match, and counts of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import Failure, ResultWarning
from ..host.host import Host
from ..query import record
from ..query.find import find as find_in
from ..query.find import load
from ..selector.parse import parse_selector
from ..sockets.needs import Need
from ..sockets.session import NamespaceSession, for_each_namespace
from ..sockets.socket import Socket
from .namespaces import namespaces_named, unlisted_warnings
from .options import DEFAULT_LIMIT, checks_options
from .selector_warnings import selector_warnings
from .summary import VERDICT_KEYS, first, summary
from .task import printable_dict


@dataclass(frozen=True)
class FoundSockets:
    """The result of find.

    Attributes:
        sockets: records of the first ``limit`` sockets, ordered by namespace, protocol, local and
            remote end. Every record has the same keys; None means unknown or not requested.
        matched: how many sockets match.
        truncated: whether ``sockets`` was cut at ``limit``.
        summary: counts by ``state``, ``protocol`` and ``namespace``; with ``group_by`` also by
            that key, and ``other``.
        warnings: protocols that the kernel cannot list.
        failures: always empty.
    """

    sockets: list[dict[str, Any]]
    matched: int
    truncated: bool
    summary: dict[str, Any]
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    @printable_dict
    def to_dict(self) -> dict[str, Any]:
        """Return the result of the module socket_diag_info."""
        return {
            "changed": False,
            "sockets": self.sockets,
            "matched": self.matched,
            "truncated": self.truncated,
            "summary": self.summary,
        }


@checks_options
def find(
    match: Mapping[str, Any] | None = None,
    *,
    namespaces: Sequence[str] = ("current",),
    details: Collection[str] = (),
    group_by: str | None = None,
    limit: int = DEFAULT_LIMIT,
    host: Host | None = None,
) -> FoundSockets:
    """Find the sockets that match a selector.

    Example::

        found = api.find({"remote_port": 443, "state": "established"}, limit=10)
        for record in found.sockets:
            print(record["local"], record["remote"], record["user"])

    Args:
        match: a selector; without one, the sockets that plain ``ss`` shows.
        namespaces: network namespaces: ``current``, a name, ``pid:N``, a path, or ``all``.
        details: which costly keys to fill: ``info``, ``memory``, ``process``, ``verdicts``.
        group_by: a key of the records by which ``summary`` counts too.
        limit: how many records to return at most.
        host: the machine to ask; the default is this one.

    Returns:
        FoundSockets: records and counts.

    Raises:
        InputError: an option or a part of the selector is wrong.
        NamespaceNotFound, NamespaceDenied: a namespace does not exist or cannot be entered.
        HandlerMissing: the kernel cannot list a protocol that the selector names.
        NetlinkError, NetlinkTimeout, DumpInterrupted, MalformedMessage: the kernel did not answer
            as it should.
    """
    host = host or Host()
    selector = parse_selector({} if match is None else match, names=host)
    resolved = namespaces_named(host, namespaces)
    of_selectors = selector_warnings(host, resolved, [selector])
    needs = {Need.OWNERS} if "process" in details or group_by == "processes" else set()
    found: list[Socket] = []
    unlisted: set[str] = set()

    def visit(session: NamespaceSession) -> tuple[list[Socket], set[str]]:
        snapshot = session.snapshot()
        sockets = find_in(
            session,
            selector,
            extensions=record.extensions(details),
            needs=needs,
            snapshot=snapshot,
        )
        if group_by in VERDICT_KEYS:
            load(session, snapshot, record.VERDICT_NEEDS, sockets)
        elif "verdicts" in details:
            load(session, snapshot, record.VERDICT_NEEDS, first(sockets, limit))
        return sockets, session.unlisted

    for sockets, protocols in for_each_namespace(host, resolved, visit):
        found += sockets
        unlisted |= protocols
    listed = [record.record(sock, details) for sock in first(found, limit)]
    return FoundSockets(
        sockets=listed,
        matched=len(found),
        truncated=len(found) > len(listed),
        summary=summary(found, group_by),
        warnings=(*of_selectors, *unlisted_warnings(unlisted)),
    )
