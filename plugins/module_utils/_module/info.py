# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the work of socket_diag_info."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from .._core import record
from .._core.errors import InputError, NamespaceNotFound
from .._core.host import Host
from .._core.look import View, find
from .._core.namespaces import Namespace, resolve
from .._core.selector.parse import parse_selector
from .._core.subject import Subject
from .._core.support import MODULES
from .run import Answer, Request
from .summary import first, summary


def checked_limit(value: int) -> int:
    if value < 0:
        raise InputError(("limit",), value, "less than nothing", "a number from 0")
    return value


def unlisted_warnings(protocols: Iterable[str]) -> list[str]:
    """What to say of protocols that were meant too, but that the kernel cannot list."""
    return [
        f"This kernel cannot list {protocol} sockets, so none were looked at: it has no socket "
        f"diag handler for them. To see them, load the module {MODULES[protocol]}."
        for protocol in sorted(protocols)
    ]


def open_each(
    host: Host, namespaces: Iterable[Namespace], asked: Collection[str]
) -> Iterator[View]:
    """A view of each namespace in turn, closed before the next one.

    One that nobody asked for by name, but `all` found, may be gone by now: it is left out.
    """
    for namespace in namespaces:
        try:
            with View(host, namespace) as view:
                yield view
        except NamespaceNotFound:
            if namespace.label in asked:
                raise


def look(request: Request, host: Host) -> Answer:
    """Find the sockets that match; records for the first `limit` of them, counts of all."""
    options = request.options
    limit = checked_limit(options["limit"])
    details, group_by = options["details"], options["group_by"]
    selector = parse_selector(options["match"], names=host)
    namespaces = resolve(options["namespaces"], proc=host.proc, directories=host.netns_directories)
    owners = "process" in details or group_by == "processes"
    found: list[Subject] = []
    unlisted: set[str] = set()
    for view in open_each(host, namespaces, options["namespaces"]):
        found += find(view, selector, extensions=record.extensions(details), owners=owners)
        unlisted |= view.unlisted
    listed = [record.record(subject, details) for subject in first(found, limit)]
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
