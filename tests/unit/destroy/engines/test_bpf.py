# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine bpf on the fake kernel."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.bpf import socket_destroy
from linuxnet_sockets.bpf.socket_destroy import Support
from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.engines import registry
from linuxnet_sockets.destroy.engines.bpf import BpfEngine
from linuxnet_sockets.destroy.engines.pidfd import PidfdEngine
from linuxnet_sockets.destroy.engines.sock_destroy import NetlinkEngine
from linuxnet_sockets.destroy.model import DestroyOptions, Report
from linuxnet_sockets.selector.parse import parse_selector
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import (
    BOUND_INACTIVE,
    CLOSE,
    FIN_WAIT1,
    FIN_WAIT2,
    LISTEN,
    MPTCP,
    SYN_RECV,
    TIME_WAIT,
    UDP,
    UDPLITE,
)
from tests.support.fake_machine import LOCAL, LOCAL6, REMOTE, REMOTE6, FakeMachine, connection

UNGUARDED = {"listeners": False, "unconnected": False, "shared_port": False, "kernel": False}


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    machine = FakeMachine(tmp_path)
    machine.bpf.support = Support(socket_destroy.SUPPORTED)
    machine.kernel.abilities.destroys = False
    return machine


def listening(state: int, **fields: int) -> FakeSocket:
    return FakeSocket(local=LOCAL, local_port=443, state=state, **fields)


def run(
    machine: FakeMachine, engine: str = "bpf", match: Any = None, *, check: bool = False
) -> Report:
    match = match or {"protocol": ["tcp", "udp", "udplite", "mptcp"], "state": "all"}
    selector = parse_selector(match, names=machine.host, role="destroy")
    options = DestroyOptions(machine.guard(UNGUARDED), engine=engine, check=check)
    return destroy(machine.host, selector, [machine.namespace], options)


def both_ways(
    machine: FakeMachine, engine: str = "bpf", match: Any = None
) -> dict[int, tuple[str, str | None, str | None]]:
    """The results by cookie, which check mode forecasts without a change."""
    before = list(machine.sockets.sockets)
    forecast = run(machine, engine, match, check=True)
    assert machine.sockets.sockets == before
    report = run(machine, engine, match)
    found = {
        result.socket.cookie: (
            result.outcome,
            result.engine,
            None if result.reason is None else result.reason.rule,
        )
        for result in report.results
    }
    assert {each.socket.cookie: each.outcome for each in forecast.results} == {
        cookie: outcome for cookie, (outcome, _engine, _reason) in found.items()
    }
    return found


def test_each_kind_of_socket(machine: FakeMachine) -> None:
    kinds = {
        "connection": connection(),
        "ipv6": connection(LOCAL6, remote=REMOTE6),
        "listener": listening(LISTEN),
        "orphan": connection(state=FIN_WAIT1, inode=0),
        "udp": connection(local_port=1, protocol=UDP, explicit_port=False),
        "udp explicit": connection(local_port=2, protocol=UDP),
        "udp unconnected": listening(CLOSE, protocol=UDP),
        "time-wait": connection(state=TIME_WAIT, inode=0),
        "closed fin-wait-2": connection(state=FIN_WAIT2, inode=0, timer=3),
        "half open": connection(state=SYN_RECV, inode=0),
        "udplite": connection(protocol=UDPLITE),
        "mptcp": connection(protocol=MPTCP),
        "subflow": connection(ulp="mptcp"),
    }
    for sock in kinds.values():
        machine.add(sock)
    found = both_ways(machine)
    not_full = ("kernel_without_destroy", None, "not_full_socket")
    assert {name: found[sock.cookie] for name, sock in kinds.items()} == {
        "connection": ("destroyed", "bpf", None),
        "ipv6": ("destroyed", "bpf", None),
        "listener": ("destroyed", "bpf", None),
        "orphan": ("destroyed", "bpf", None),
        "udp": ("destroyed", "bpf", None),
        "udp explicit": ("disconnected", "bpf", None),
        "udp unconnected": ("already_gone", None, None),
        "time-wait": not_full,
        "closed fin-wait-2": not_full,
        "half open": not_full,
        "udplite": ("unsupported_protocol", None, None),
        "mptcp": ("unsupported_protocol", None, None),
        "subflow": ("unsupported_protocol", None, None),
    }


def test_bound_socket_is_not_visited(machine: FakeMachine) -> None:
    sock = machine.add(listening(BOUND_INACTIVE))
    found = both_ways(machine, match={"state": "bound-inactive"})
    assert found == {sock.cookie: ("survived", "bpf", None)}


def test_old_kernel_makes_no_orphan_immortal(machine: FakeMachine) -> None:
    machine.release = "6.6.0"
    orphan = machine.add(connection(state=FIN_WAIT1, inode=0, wqueue=9))
    assert both_ways(machine)[orphan.cookie][0] == "kernel_defect"


def test_not_acknowledged_means_not_destroyed(machine: FakeMachine) -> None:
    """A socket that the program reports and the dump still lists survived, and vice versa."""
    immortal = machine.add(connection(immortal=True))
    refused = machine.add(connection(errno=errno.EOPNOTSUPP))
    report = run(machine)
    assert {each.socket.cookie: each.outcome for each in report.results} == {
        immortal.cookie: "survived",
        refused.cookie: "unsupported_protocol",
    }


def test_auto_uses_bpf_where_netlink_cannot(machine: FakeMachine) -> None:
    sock = machine.add(connection())
    assert both_ways(machine, "auto") == {sock.cookie: ("destroyed", "bpf", None)}


def test_auto_prefers_netlink(machine: FakeMachine) -> None:
    machine.kernel.abilities.destroys = True
    machine.bpf.support = Support(socket_destroy.KERNEL_TOO_OLD)
    sock = machine.add(connection())
    assert both_ways(machine, "auto") == {sock.cookie: ("destroyed", "netlink", None)}


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        (socket_destroy.NO_BTF, "kernel_without_destroy"),
        (socket_destroy.KERNEL_TOO_OLD, "kernel_without_destroy"),
        (socket_destroy.NO_SYSTEM_CALL, "kernel_without_destroy"),
        (socket_destroy.REJECTED, "kernel_without_destroy"),
        (socket_destroy.BTF_UNREADABLE, "kernel_without_destroy"),
        (socket_destroy.NOT_PERMITTED, "not_permitted"),
    ],
)
def test_reason_why_it_is_unavailable(
    machine: FakeMachine, verdict: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.bpf.support = Support(verdict, errno.EPERM if outcome == "not_permitted" else 0)
    sock = machine.add(connection())
    assert both_ways(machine) == {sock.cookie: (outcome, None, f"bpf_{verdict}")}
    # Without pidfd_getfd, auto reports it too, with the outcome of netlink.
    monkeypatch.setattr(registry, "available", lambda: False)
    assert both_ways(machine, "auto") == {
        sock.cookie: ("kernel_without_destroy", "netlink", f"bpf_{verdict}")
    }
    assert machine.sockets.sockets == [sock]


@pytest.mark.parametrize(
    ("number", "outcome"), [(errno.EPERM, "not_permitted"), (errno.ENOMEM, "survived")]
)
def test_kernel_refuses_after_the_probe(machine: FakeMachine, number: int, outcome: str) -> None:
    machine.bpf.refuses = number
    sock = machine.add(connection(remote=REMOTE))
    assert run(machine).counts == {outcome: 1}
    assert machine.sockets.sockets == [sock]


def test_order_of_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "available", lambda: True)
    kinds = [type(engine) for engine in registry.engines_named("auto")]
    assert kinds == [NetlinkEngine, BpfEngine, PidfdEngine]
