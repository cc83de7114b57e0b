# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the work of socket_diag_info."""

from __future__ import annotations

from collections.abc import Iterable

from .._core.errors import InputError
from .._core.host.host import Host
from .._core.host.namespaces import resolve
from .._core.netlink.constants import DIAG_MODULES
from .._core.query import record
from .._core.query.find import find, load
from .._core.selector.parse import parse_selector
from .._core.sockets.session import NamespaceSession, for_each_namespace
from .._core.sockets.socket import Socket
from .run import Answer, Request
from .summary import VERDICT_KEYS, first, summary


def checked_limit(value: int) -> int:
    if value < 0:
        raise InputError(("limit",), value, "less than nothing", "a number from 0")
    return value


def unlisted_warnings(protocols: Iterable[str]) -> list[str]:
    """What to say of protocols that were meant too, but that the kernel cannot list."""
    return [
        f"This kernel cannot list {protocol} sockets, so none were looked at: it has no socket "
        f"diag handler for them. To see them, load the module {DIAG_MODULES[protocol]}."
        for protocol in sorted(protocols)
    ]


def look(request: Request, host: Host) -> Answer:
    """Find the sockets that match; records for the first `limit` of them, counts of all."""
    options = request.options
    limit = checked_limit(options["limit"])
    details, group_by = options["details"], options["group_by"]
    selector = parse_selector(options["match"], names=host)
    namespaces = resolve(options["namespaces"], proc=host.proc, directories=host.netns_directories)
    needs = {"owners"} if "process" in details or group_by == "processes" else set()
    found: list[Socket] = []
    unlisted: set[str] = set()

    def one(session: NamespaceSession) -> tuple[list[Socket], set[str]]:
        snapshot = session.snapshot()
        sockets = find(
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

    for sockets, protocols in for_each_namespace(host, namespaces, one):
        found += sockets
        unlisted |= protocols
    listed = [record.record(sock, details) for sock in first(found, limit)]
    return Answer(
        {
            "changed": False,
            "sockets": listed,
            "matched": len(found),
            "truncated": len(found) > len(listed),
            "summary": summary(found, group_by),
        },
        warnings=unlisted_warnings(unlisted),
    )
