# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run destroy() on the fake kernel and read its outcomes and requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.model import DestroyOptions, Report
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.selector.parse import parse_selector
from tests.support.fake_kernel import FakeNamespace, FakeSocket
from tests.support.fake_machine import FakeMachine

DESTROY = 21
ALL = {"state": "all"}
UNGUARDED = {"listeners": False, "unconnected": False, "shared_port": False, "kernel": False}


def run(
    machine: FakeMachine,
    match: Any = None,
    *,
    namespaces: Sequence[Namespace] | None = None,
    protect: Any = None,
    **options: Any,
) -> Report:
    selector = parse_selector(ALL if match is None else match, names=machine.host, role="destroy")
    found = DestroyOptions(machine.guard(protect), **options)
    return destroy(machine.host, selector, namespaces or [machine.namespace], found)


def outcomes_of(report: Report) -> dict[int, str]:
    """Outcome by cookie."""
    return {result.socket.cookie: result.outcome for result in report.results}


def requested_cookies(namespace: FakeNamespace) -> list[int]:
    """The cookies of all destroy requests. 0 is the probe, which destroys nothing."""
    return [
        int.from_bytes(payload[48:56], "little")
        for kind, payload in namespace.requests
        if kind == DESTROY
    ]


def both_ways(
    machine: FakeMachine,
    sock: FakeSocket,
    match: Any,
    outcome: str,
    *,
    predicted: str | None = None,
) -> Report:
    """Run in check mode, which must change nothing, then for real, with the same outcome."""
    machine.add(sock)
    forecast = run(machine, match, protect=UNGUARDED, check=True)
    assert outcomes_of(forecast) == {sock.cookie: predicted or outcome}
    assert not any(requested_cookies(machine.sockets))
    assert machine.sockets.destroyed == []
    report = run(machine, match, protect=UNGUARDED)
    assert outcomes_of(report) == {sock.cookie: outcome}
    return report


def when_destroying(namespace: FakeNamespace, action: Callable[[], None]) -> None:
    """Run the action once, just before the first destroy request is processed."""

    def hook(kind: int, _payload: bytes) -> None:
        if kind == DESTROY:
            namespace.before_request = None
            action()

    namespace.before_request = hook
