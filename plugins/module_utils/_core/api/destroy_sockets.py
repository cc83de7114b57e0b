# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Destroy sockets and report the outcome of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..destroy.command import destroy as execute
from ..destroy.model import DestroyOptions, Report
from ..errors import Failure, ResultWarning
from ..guard.limits import parse_max_sockets
from ..guard.options import Guard, parse_guard
from ..host.host import Host
from ..query import record
from ..selector.parse import Selector, parse_selector
from ..values import parse_rate
from . import results
from .namespaces import namespaces_named, unlisted_warnings
from .options import DEFAULT_LIMIT, checks_options
from .selector_warnings import selector_warnings
from .task import printable_dict


@dataclass(frozen=True)
class DestroyResult:
    """The result of destroy.

    Entries of the lists are records with ``outcome``, ``engine``, ``reason`` and
    ``reason_detail``.

    Attributes:
        changed: whether at least one socket was destroyed or disconnected; in check mode, would be.
        matched: how many sockets match.
        outcomes: how often each outcome occurred.
        engine: the engine that was requested.
        destroyed: sockets that were destroyed or disconnected.
        protected: sockets that the guard protected, and those that closed on their own.
        survivors: sockets that should have been destroyed and still exist.
        truncated: whether a list was cut at ``limit``.
        diff: ``before`` and ``after`` as text, one socket in a line; None unless requested.
        warnings: protocols that the kernel cannot list, and disconnected sockets on shared ports.
        failures: why sockets were not destroyed; empty on success.
    """

    changed: bool
    matched: int
    outcomes: dict[str, int]
    engine: str
    destroyed: list[dict[str, Any]]
    protected: list[dict[str, Any]]
    survivors: list[dict[str, Any]]
    truncated: bool
    diff: dict[str, str] | None = None
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    @printable_dict
    def to_dict(self) -> dict[str, Any]:
        """Return the result of the module socket_destroy."""
        result: dict[str, Any] = {
            "changed": self.changed,
            "matched": self.matched,
            "outcomes": self.outcomes,
            "engine": self.engine,
            "destroyed": self.destroyed,
            "protected": self.protected,
            "survivors": self.survivors,
            "truncated": self.truncated,
        }
        if self.diff is not None:
            result["diff"] = self.diff
        return result


@checks_options
def destroy(
    match: Mapping[str, Any],
    *,
    namespaces: Sequence[str] = ("current",),
    protect: Mapping[str, Any] | None = None,
    max_sockets: int | str | None = None,
    pace: int | str | None = None,
    engine: str = "netlink",
    limit: int = DEFAULT_LIMIT,
    check: bool = False,
    diff: bool = False,
    host: Host | None = None,
) -> DestroyResult:
    """Destroy the sockets that match a selector and that the guard does not protect.

    Example::

        result = api.destroy({"remote": "198.51.100.7", "state": "established"}, max_sockets=50)
        if result.failures:
            print(result.outcomes)

    Args:
        match: a selector with a key beyond protocol and family, or with ``state`` written out.
        namespaces: network namespaces: ``current``, a name, ``pid:N``, a path, or ``all``.
        protect: switches of the guard, such as ``{"loopback": False}``, and ``selectors``. The
            files in /etc/linuxnet-sockets/protect.d/ always apply.
        max_sockets: a number, or a share such as ``25%`` of the unprotected sockets. Where more
            match, nothing is destroyed.
        pace: the highest rate, such as ``100/s``; None for as fast as possible.
        engine: ``netlink``, ``bpf``, ``pidfd``, or ``auto``.
        limit: the longest length of each list of the result.
        check: report the expected outcomes and change nothing.
        diff: fill ``diff``.
        host: the machine to work on; the default is this one.

    Returns:
        DestroyResult: the outcome of each socket, confirmed by a second dump.

    Raises:
        InputError: an option or a part of the selector is wrong.
        ProtectFileError: a protection file cannot be read or parsed.
        EngineUnavailable: the engine does not work on this kernel.
        NamespaceNotFound, NamespaceDenied: a namespace does not exist or cannot be entered.
        HandlerMissing: the kernel cannot list a protocol that the selector names.
        NetlinkError, NetlinkTimeout, DumpInterrupted, MalformedMessage: the kernel did not answer
            as it should, and nothing was destroyed yet.
    """
    host = host or Host()
    selector = parse_selector(match, names=host, role="destroy")
    options = parse_options(
        host, protect=protect, max_sockets=max_sockets, pace=pace, engine=engine, check=check
    )
    resolved = namespaces_named(host, namespaces)
    of_selectors = selector_warnings(host, resolved, [selector, *guard_selectors(options.guard)])
    report = execute(host, selector, resolved, options)
    return _result(report, limit, engine, diff=diff, of_selectors=of_selectors)


def parse_options(
    host: Host,
    *,
    protect: object,
    max_sockets: object,
    pace: object,
    engine: str,
    check: bool,
) -> DestroyOptions:
    """How to destroy, from options as users write them. Raises InputError and ProtectFileError."""
    return DestroyOptions(
        guard=parse_guard(protect, names=host, files=host.protect_directory),
        max_sockets=None if max_sockets is None else parse_max_sockets(max_sockets),
        rate=None if pace is None else parse_rate(pace, ("pace",)),
        engine=engine,
        check=check,
        extensions=record.extensions(()),
    )


def guard_selectors(guard: Guard) -> list[Selector]:
    """The selectors of protected sockets."""
    return [selector for _place, selector in guard.selectors]


def _result(
    report: Report, limit: int, engine: str, *, diff: bool, of_selectors: Sequence[ResultWarning]
) -> DestroyResult:
    listed = results.lists(report.results, limit)
    if report.exceeded is not None:
        failures: tuple[Failure, ...] = (results.too_many(report.exceeded),)
    else:
        failures = results.not_destroyed(report.counts, report.matched)
    return DestroyResult(
        changed=report.changed,
        matched=report.matched,
        outcomes=report.counts,
        engine=engine,
        destroyed=listed["destroyed"],
        protected=listed["protected"],
        survivors=listed["survivors"],
        truncated=sum(map(len, listed.values())) < report.matched,
        diff=results.diff(report.results, limit) if diff else None,
        warnings=(
            *of_selectors,
            *unlisted_warnings(report.unlisted),
            *results.owners_unreadable(report.results),
            *results.shared_port_warnings(report.results),
        ),
        failures=failures,
    )
