# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the work of socket_destroy."""

from __future__ import annotations

from .._core.destroy.command import destroy
from .._core.destroy.model import DestroyOptions, Report
from .._core.guard.limits import parse_max_sockets
from .._core.guard.options import parse_guard
from .._core.host.host import Host
from .._core.host.namespaces import Namespace, resolve
from .._core.query import record
from .._core.selector.parse import Selector, parse_selector
from .._core.values import parse_rate
from .info import checked_limit, unlisted_warnings
from .outcomes import diff, failure, lists
from .run import Answer, Request


def work(request: Request, host: Host) -> Answer:
    """Destroy what matches and is not protected, and say what became of each socket."""
    limit = checked_limit(request.options["limit"])
    selector = selector_of(request, host)
    report = destroy(host, selector, namespaces_of(request, host), options_of(request, host))
    return Answer(
        result_of(report, limit, request),
        failure=failure(report),
        warnings=unlisted_warnings(report.unlisted),
    )


def selector_of(request: Request, host: Host) -> Selector:
    return parse_selector(request.options["match"], names=host, role="destroy")


def namespaces_of(request: Request, host: Host) -> list[Namespace]:
    names = request.options["namespaces"]
    return resolve(names, proc=host.proc, directories=host.netns_directories)


def options_of(request: Request, host: Host) -> DestroyOptions:
    options = request.options
    max_sockets, pace = options["max_sockets"], options["pace"]
    return DestroyOptions(
        guard=parse_guard(options["protect"], names=host, files=host.protect_directory),
        max_sockets=None if max_sockets is None else parse_max_sockets(max_sockets),
        rate=None if pace is None else parse_rate(pace, ("pace",)),
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
