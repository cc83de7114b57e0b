# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run destroy() with the pidfd engine and read its outcomes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.engines import registry
from linuxnet_sockets.destroy.engines.pidfd import PidfdEngine
from linuxnet_sockets.destroy.model import DestroyOptions, Report
from linuxnet_sockets.guard.options import Guard
from linuxnet_sockets.host import namespaces, pidfd
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.pidfd import BorrowedFd, Descriptor
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.support.topologies.topology import LabNamespace

needs_pidfd = pytest.mark.skipif(
    not pidfd.available(), reason="this kernel has no pidfd_getfd (Linux 5.6)"
)

UNGUARDED = Guard(
    control_connection=False,
    ssh_sessions=False,
    ssh_forwards=False,
    loopback=False,
    listeners=False,
    unconnected=False,
    shared_port=False,
    kernel=False,
)


def run(where: LabNamespace, match: Any, *, engine: str = "pidfd", **options: Any) -> Report:
    host = Host()
    selector = parse_selector(match, names=host, role="destroy")
    destroy_options = DestroyOptions(UNGUARDED, engine=engine, **options)
    return destroy(host, selector, namespaces.resolve([where.name]), destroy_options)


def outcomes_of(report: Report) -> dict[int, str]:
    return {result.socket.cookie: result.outcome for result in report.results}


def check_then_run(
    where: LabNamespace, match: Any, outcome: str, *, engine: str = "pidfd"
) -> Report:
    """Run in check mode, which must change nothing, then run. Both give the same outcome."""
    with NamespaceSession(Host(), *namespaces.resolve([where.name])) as session:
        before = _connections(session)
        predicted = run(where, match, engine=engine, check=True)
        assert _connections(session) == before
    report = run(where, match, engine=engine)
    assert outcomes_of(report) == outcomes_of(predicted)
    assert [result.engine for result in report.results] == [
        result.engine for result in predicted.results
    ]
    assert set(report.counts) == {outcome}
    return report


def _connections(session: NamespaceSession) -> set[tuple[int, int, int]]:
    return {
        (sock.cookie, sock.state, sock.dport)
        for protocol in ("tcp", "udp")
        for family in (socket.AF_INET, socket.AF_INET6)
        for sock in inet_diag.dump(session.diag, protocol, family)
    }


def replace_borrow(
    monkeypatch: pytest.MonkeyPatch, borrow: Callable[[Descriptor], BorrowedFd]
) -> None:
    """Make the engine borrow descriptors with this function."""
    monkeypatch.setattr(registry, "engines_named", lambda _name: (PidfdEngine(borrow),))
