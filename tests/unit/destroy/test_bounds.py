# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits, namespaces, pace, and what holds of every order."""

from __future__ import annotations

import errno
import gc

import pytest

from linuxnet_sockets.destroy.outcomes import OUTCOMES
from linuxnet_sockets.errors import (
    EngineUnavailable,
    NamespaceDenied,
    NamespaceNotFound,
    NetlinkError,
    SocketsError,
)
from linuxnet_sockets.guard.limits import MaxSockets
from linuxnet_sockets.host.namespaces import Namespace
from tests.support.destroy_calls import (
    DESTROY,
    UNGUARDED,
    outcomes_of,
    requested_cookies,
    run,
)
from tests.support.fake_kernel import FakeNetlinkSocket, FakeSocket
from tests.support.fake_kernel.bytecode import AUTO
from tests.support.fake_kernel.model import (
    BOUND_INACTIVE,
    ESTABLISHED,
    LISTEN,
    MPTCP,
    RAW,
    SYN_RECV,
    SYN_SENT,
    TIME_WAIT,
    UDP,
    UDPLITE,
)
from tests.support.fake_machine import LOCAL, LOCAL6, REMOTE, REMOTE6, FakeMachine, connection

# Limits.


def test_above_the_limit_nothing_is_destroyed(machine: FakeMachine) -> None:
    meant = [machine.add(connection(local_port=port)) for port in (1, 2, 3)]
    protected = machine.add(connection(remote_port=4505))
    for check in (True, False):
        report = run(machine, max_sockets=MaxSockets(number=2), check=check)
        expected = {sock.cookie: "limit" for sock in meant} | {protected.cookie: "protected"}
        assert outcomes_of(report) == expected
        assert report.exceeded == (3, MaxSockets(number=2), None)
        assert report.failed
        assert not report.changed
    assert not any(requested_cookies(machine.sockets))


def test_at_the_limit_all_go(machine: FakeMachine) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port))
    # The protected do not count.
    machine.add(connection(remote_port=4505))
    report = run(machine, max_sockets=MaxSockets(number=3))
    assert report.counts == {"destroyed": 3, "protected": 1}
    assert report.exceeded is None


def test_share_is_of_the_unprotected_in_every_state_and_family(machine: FakeMachine) -> None:
    machine.add(connection())
    machine.add(connection(LOCAL6, 1, REMOTE6, 2, state=SYN_SENT))
    machine.add(connection(local_port=2, state=TIME_WAIT))
    machine.add(connection(local_port=3, state=SYN_RECV))
    # Neither protected ones nor those of other protocols belong to the population.
    machine.add(FakeSocket(local="0.0.0.0", local_port=443, state=LISTEN))
    machine.add(connection(remote_port=4505))
    machine.add(FakeSocket(protocol=UDP, local=LOCAL, local_port=1, remote=REMOTE, remote_port=2))
    match = {"remote": REMOTE, "state": "established", "remote_port": 443}
    refused = run(machine, match, max_sockets=MaxSockets(share=0.24))
    assert refused.counts == {"limit": 1}
    assert refused.exceeded == (1, MaxSockets(share=0.24), 4)
    assert run(machine, match, max_sockets=MaxSockets(share=0.25)).counts == {"destroyed": 1}


def test_limit_counts_over_all_namespaces(machine: FakeMachine) -> None:
    other = machine.kernel.namespace("other")
    other.add(connection())
    machine.add(connection())
    spaces = [machine.namespace, Namespace("other", "/run/netns/other", other.identity)]
    protect = UNGUARDED
    report = run(machine, namespaces=spaces, max_sockets=MaxSockets(number=1), protect=protect)
    assert report.counts == {"limit": 2}
    share = MaxSockets(share=1.0)
    assert run(machine, namespaces=spaces, max_sockets=share, protect=protect).counts == {
        "destroyed": 2
    }


def test_what_only_the_kernel_can_tell_is_not_guessed(machine: FakeMachine) -> None:
    """autobound, of a kernel that takes no such filter: the range of ports alone proves nothing."""
    ports = machine.proc / "sys" / "net" / "ipv4"
    ports.mkdir(parents=True)
    (ports / "ip_local_port_range").write_text("32768\t60999\n")
    machine.add(connection(local_port=40_000, explicit_port=True))
    machine.kernel.abilities.unknown_ops |= {AUTO}

    with pytest.raises(NetlinkError) as caught:
        run(machine, {"expression": "autobound"})

    assert caught.value.errno == errno.EINVAL
    assert machine.sockets.destroyed == []


# Namespaces.


def test_the_same_addresses_in_two_namespaces_are_two_sockets(machine: FakeMachine) -> None:
    other = machine.kernel.namespace("other")
    stays = other.add(connection())
    meant = machine.add(connection())
    report = run(machine)
    assert outcomes_of(report) == {meant.cookie: "destroyed"}
    assert report.results[0].socket.identity == ("current", "tcp", meant.cookie)
    assert other.sockets == [stays]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NamespaceNotFound("other"), "survived"),
        (NamespaceDenied("other", errno.EPERM), "not_permitted"),
    ],
)
def test_namespace_that_goes_between_look_and_work(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, error: SocketsError, outcome: str
) -> None:
    other = machine.kernel.namespace("other")
    lost = other.add(connection())
    meant = machine.add(connection())
    seen: list[str] = []

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        seen.append(namespace.name)
        if namespace.name == "other" and "current" in seen:
            raise error
        return machine.kernel.open(namespace, protocol)

    monkeypatch.setattr(machine, "open", open_netlink)
    spaces = [
        Namespace("other", "/run/netns/other", other.identity),
        machine.namespace,
    ]
    # It looks at the other one and at the current one, then comes back to work on the other one.
    report = run(machine, namespaces=spaces, protect={**UNGUARDED, "loopback": False})
    assert outcomes_of(report) == {lost.cookie: outcome, meant.cookie: "destroyed"}


# Pace.


def test_pace_spreads_the_work(machine: FakeMachine) -> None:
    for port in range(1, 26):
        machine.add(connection(local_port=port))
    times: list[float] = []
    machine.sockets.before_request = lambda kind, _payload: (
        times.append(machine.now) if kind == DESTROY else None
    )
    report = run(machine, rate=100)
    assert report.counts == {"destroyed": 25}
    assert times == pytest.approx([0.0] * 10 + [0.1] * 10 + [0.2] * 5)


def test_what_goes_while_it_waits_for_its_turn(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine.add(connection(local_port=1)), machine.add(connection(local_port=2))
    successor = connection(local_port=2)

    def sleep(seconds: float) -> None:
        machine.now += seconds
        machine.sockets.remove(second)
        machine.sockets.add(successor)

    monkeypatch.setattr(machine, "sleep", sleep)
    report = run(machine, rate=1)
    assert outcomes_of(report) == {first.cookie: "destroyed", second.cookie: "already_gone"}
    assert machine.sockets.sockets == [successor]


def test_what_changes_while_it_waits_for_its_turn_is_judged_anew(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.process(700, comm="sshd")
    socks = [
        machine.add(connection(local_port=port, wqueue=9), holder=None if port == 3 else 500)
        for port in (1, 2, 3, 4)
    ]
    first, recovered, taken_over, last = socks
    machine.hold(500, taken_over)

    def sleep(seconds: float) -> None:
        machine.now += seconds
        recovered.wqueue = 0
        if not (machine.proc / "700" / "fd").exists() or not any(
            (machine.proc / "700" / "fd").iterdir()
        ):
            machine.hold(700, taken_over)

    monkeypatch.setattr(machine, "sleep", sleep)
    report = run(machine, {"send_queue": ">0"}, rate=0.5)
    assert outcomes_of(report) == {
        first.cookie: "destroyed",
        recovered.cookie: "already_gone",
        taken_over.cookie: "protected",
        last.cookie: "destroyed",
    }
    reasons = {each.socket.cookie: each.reason for each in report.results}
    assert reasons[recovered.cookie] is not None
    assert reasons[recovered.cookie].rule == "changed"
    assert machine.sockets.sockets == [recovered, taken_over]


def test_check_mode_does_not_wait(machine: FakeMachine) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port))
    run(machine, rate=1, check=True)
    assert machine.now == 0


# The whole.


def test_unknown_engine(machine: FakeMachine) -> None:
    machine.add(connection())
    with pytest.raises(EngineUnavailable):
        run(machine, engine="hammer")
    assert machine.sockets.destroyed == []


def test_auto_is_netlink_here(machine: FakeMachine) -> None:
    machine.add(connection())
    assert run(machine, engine="auto").engines == ("netlink",)


def test_only_outcomes_of_the_closed_list(machine: FakeMachine) -> None:
    machine.kernel.abilities.handlers |= {RAW}
    for number, state in enumerate(range(ESTABLISHED, BOUND_INACTIVE + 1)):
        machine.sockets.add(connection(local_port=number + 1, state=state))
    for protocol in (UDP, UDPLITE, RAW, MPTCP):
        machine.sockets.add(
            FakeSocket(protocol=protocol, local=LOCAL, local_port=1, remote=REMOTE, remote_port=2)
        )
    match = {"protocol": ["tcp", "udp", "udplite", "raw", "mptcp"], "state": "all"}
    report = run(machine, match, protect={"kernel": False})
    assert report.matched == sum(report.counts.values())
    assert set(report.counts) <= set(OUTCOMES)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(machine: FakeMachine, enabled: bool) -> None:
    machine.add(connection())
    seen: list[bool] = []
    machine.sockets.before_request = lambda _kind, _payload: seen.append(gc.isenabled())
    (gc.enable if enabled else gc.disable)()
    try:
        run(machine)
        assert not any(seen)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
