# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the work of socket_destroy."""

from __future__ import annotations

from .._core.destroy.executor import Order, Report, destroy
from .._core.guard.limits import parse_max_sockets
from .._core.guard.options import parse_guard
from .._core.host.host import Host
from .._core.host.namespaces import resolve
from .._core.query import record
from .._core.selector.parse import parse_selector
from .._core.values import parse_rate
from .info import checked_limit, unlisted_warnings
from .outcomes import diff, failure, lists
from .run import Answer, Request


def work(request: Request, host: Host) -> Answer:
    """Destroy what matches and is not protected, and say what became of each socket."""
    limit = checked_limit(request.options["limit"])
    order = order_of(request, host)
    report = destroy(host, order)
    return Answer(
        result_of(report, limit, request),
        failure=failure(report),
        warnings=unlisted_warnings(report.unlisted),
    )


def order_of(request: Request, host: Host) -> Order:
    options = request.options
    max_sockets, pace = options["max_sockets"], options["pace"]
    return Order(
        selector=parse_selector(options["match"], names=host, role="destroy"),
        namespaces=resolve(
            options["namespaces"], proc=host.proc, directories=host.netns_directories
        ),
        guard=parse_guard(options["protect"], names=host, files=host.protect_directory),
        max_sockets=None if max_sockets is None else parse_max_sockets(max_sockets),
        pace_per_second=None if pace is None else parse_rate(pace, ("pace",)),
        engine=options["engine"],
        check=request.check,
        extensions=record.extensions(()),
    )


def result_of(report: Report, limit: int, request: Request) -> dict[str, object]:
    listed = lists(report.results, limit)
    result: dict[str, object] = {
        "changed": report.changed,
        "matched": report.matched,
        "outcomes": report.counts,
        "engine": request.options["engine"],
        **listed,
        "truncated": sum(map(len, listed.values())) < report.matched,
    }
    if request.diff:
        result["diff"] = diff(report.results, limit)
    return result
