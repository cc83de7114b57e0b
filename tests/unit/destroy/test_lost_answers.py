# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lost answers and errors: a new dump decides the outcome."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from linuxnet_sockets.destroy.engines.base import Declined
from linuxnet_sockets.destroy.engines.sock_destroy import NetlinkEngine
from linuxnet_sockets.errors import (
    DumpInterrupted,
    NetlinkError,
)
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.netlink.connection import Connection
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.support.destroy_calls import (
    DESTROY,
    UNGUARDED,
    outcomes_of,
    run,
    when_destroying,
)
from tests.support.fake_kernel import FakeNetlinkSocket, FakeSocket, faults
from tests.support.fake_kernel.model import MPTCP
from tests.support.fake_machine import FakeMachine, connection


@pytest.mark.parametrize("fault", [faults.overrun(), faults.lost()], ids=["overrun", "time-out"])
def test_lost_answers_change_no_outcome(machine: FakeMachine, fault: faults.Fault) -> None:
    gone = machine.add(connection())
    stays = machine.add(connection(local_port=2, immortal=True))
    when_destroying(machine.sockets, lambda: machine.sockets.faults.append(fault))
    report = run(machine)
    assert outcomes_of(report) == {gone.cookie: "destroyed", stays.cookie: "survived"}


def test_socket_without_a_request_is_not_reported_destroyed(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer for the first is lost, and the second closes on its own."""
    monkeypatch.setattr("linuxnet_sockets.destroy.engines.sock_destroy._CHUNK", 1)
    first, second = machine.add(connection(local_port=1)), machine.add(connection(local_port=2))

    def meanwhile() -> None:
        machine.sockets.faults.append(faults.lost())
        machine.sockets.remove(second)

    when_destroying(machine.sockets, meanwhile)
    assert outcomes_of(run(machine)) == {first.cookie: "destroyed", second.cookie: "already_gone"}


def refuse_all_but(target: FakeSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make requests for other sockets fail."""
    work = inet_diag.destroy

    def destroy_it(where: Connection, messages: Sequence[inet_diag.DiagMessage]) -> list[int]:
        if messages[0].cookie != target.cookie:
            raise NetlinkError("destroy sockets", errno.EACCES)
        return work(where, messages)

    monkeypatch.setattr(inet_diag, "destroy", destroy_it)


def test_failed_request_keeps_earlier_results(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linuxnet_sockets.destroy.engines.sock_destroy._CHUNK", 1)
    first, *others = [machine.add(connection(local_port=port)) for port in (1, 2, 3)]
    refuse_all_but(first, monkeypatch)
    report = run(machine)
    left = dict.fromkeys((sock.cookie for sock in others), "survived")
    assert outcomes_of(report) == {first.cookie: "destroyed", **left}
    with pytest.raises(NetlinkError):
        run(machine)


def test_malformed_acknowledgement_counts_as_lost(machine: FakeMachine) -> None:
    sock = machine.add(connection())
    when_destroying(machine.sockets, lambda: machine.sockets.faults.append(faults.cut(4)))
    assert outcomes_of(run(machine)) == {sock.cookie: "destroyed"}


def test_more_refusals_than_the_receive_buffer_holds(machine: FakeMachine) -> None:
    machine.kernel.abilities.privileged = False
    machine.kernel.abilities.receive_buffer = 30_000
    for port in range(1, 300):
        machine.sockets.add(connection(local_port=port))
    report = run(machine, protect={"ssh_sessions": False, "kernel": False})
    assert set(report.counts) <= {"not_permitted", "survived"}
    assert report.matched == 299
    assert report.failed
    assert not report.changed


def test_interrupted_verification_dump_is_repeated(machine: FakeMachine) -> None:
    sock = machine.add(connection())
    machine.sockets.before_request = lambda kind, _payload: (
        machine.sockets.faults.extend([faults.none, faults.dump_interrupted])
        if kind == DESTROY
        else None
    )
    assert outcomes_of(run(machine)) == {sock.cookie: "destroyed"}


def test_failed_verification_makes_sockets_survive(machine: FakeMachine) -> None:
    protected = machine.add(connection(remote_port=4505))
    sock = machine.add(connection())
    machine.sockets.before_request = lambda kind, _payload: (
        machine.sockets.faults.extend([faults.none, *[faults.dump_interrupted] * 20])
        if kind == DESTROY
        else None
    )
    report = run(machine)
    assert outcomes_of(report) == {protected.cookie: "protected", sock.cookie: "survived"}
    assert report.failed
    assert not report.changed


def test_malformed_verification_dump_keeps_results(machine: FakeMachine) -> None:
    protected = machine.add(connection(remote_port=4505))
    sock = machine.add(connection())
    machine.sockets.before_request = lambda kind, _payload: (
        machine.sockets.faults.extend([faults.none, *[faults.cut(20)] * 20])
        if kind == DESTROY
        else None
    )
    assert outcomes_of(run(machine)) == {protected.cookie: "protected", sock.cookie: "survived"}


@pytest.mark.parametrize("check", [False, True])
def test_error_in_a_later_namespace_keeps_earlier_results(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    target = machine.add(connection())
    other = machine.kernel.namespace("other")
    left = other.add(connection())
    opened: list[int] = []

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        if namespace.name == "other" and opened and protocol == opened[0]:
            raise NetlinkError("open a netlink socket", errno.EMFILE)
        opened.extend([protocol] if namespace.name == "other" else [])
        return machine.kernel.open(namespace, protocol)

    monkeypatch.setattr(machine, "open", open_netlink)
    spaces = [machine.namespace, Namespace("other", "/run/netns/other", other.identity)]
    if check:
        with pytest.raises(NetlinkError):
            run(machine, namespaces=spaces, protect=UNGUARDED, check=True)
        return
    report = run(machine, namespaces=spaces, protect={**UNGUARDED, "ssh_sessions": False})
    assert [(result.socket.identity, result.outcome) for result in report.results] == [
        (("current", "tcp", target.cookie), "destroyed"),
        (("other", "tcp", left.cookie), "survived"),
    ]
    reason = report.results[1].reason
    assert reason is not None
    assert "EMFILE" in (reason.detail or "")
    assert other.sockets == [left]


def test_error_in_a_later_slice_keeps_earlier_results(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [machine.add(connection(local_port=port)) for port in (1, 2)]
    refuse_all_but(first, monkeypatch)
    report = run(machine, rate=1)
    assert outcomes_of(report) == {first.cookie: "destroyed", second.cookie: "survived"}
    reason = report.results[1].reason
    assert reason is not None
    assert "EACCES" in (reason.detail or "")


class Interrupted(NetlinkEngine):
    """An engine whose first dump fails."""

    name = "interrupted"

    def declines(
        self, _session: NamespaceSession, _sockets: Sequence[Socket]
    ) -> list[Declined | None]:
        raise DumpInterrupted("list mptcp sockets", 5)


def test_error_of_the_next_engine_keeps_earlier_results(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "linuxnet_sockets.destroy.engines.registry.engines_named",
        lambda _name: (NetlinkEngine(), Interrupted()),
    )
    gone = machine.add(connection())
    left = machine.add(connection(local_port=2, protocol=MPTCP))
    report = run(machine, {"protocol": ["tcp", "mptcp"], "state": "connected"})
    assert outcomes_of(report) == {gone.cookie: "destroyed", left.cookie: "unsupported_protocol"}
    (reason,) = (result.reason for result in report.results if result.socket.cookie == left.cookie)
    assert reason is not None
    assert "list mptcp sockets" in (reason.detail or "")
