# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""destroy(): limits, namespaces, rate, engines and garbage collection."""

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


def test_exceeded_limit_destroys_nothing(machine: FakeMachine) -> None:
    targets = [machine.add(connection(local_port=port)) for port in (1, 2, 3)]
    protected = machine.add(connection(remote_port=4505))
    for check in (True, False):
        report = run(machine, max_sockets=MaxSockets(number=2), check=check)
        expected = {sock.cookie: "limit" for sock in targets} | {protected.cookie: "protected"}
        assert outcomes_of(report) == expected
        assert report.exceeded == (3, MaxSockets(number=2), None)
        assert report.failed
        assert not report.changed
    assert not any(requested_cookies(machine.sockets))


def test_limit_that_is_reached_destroys_all(machine: FakeMachine) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port))
    # Protected sockets do not count.
    machine.add(connection(remote_port=4505))
    report = run(machine, max_sockets=MaxSockets(number=3))
    assert report.counts == {"destroyed": 3, "protected": 1}
    assert report.exceeded is None


def test_share_counts_unprotected_sockets_of_all_states_and_families(machine: FakeMachine) -> None:
    machine.add(connection())
    machine.add(connection(LOCAL6, 1, REMOTE6, 2, state=SYN_SENT))
    machine.add(connection(local_port=2, state=TIME_WAIT))
    machine.add(connection(local_port=3, state=SYN_RECV))
    # Protected sockets and those of other protocols are not part of the population.
    machine.add(FakeSocket(local="0.0.0.0", local_port=443, state=LISTEN))
    machine.add(connection(remote_port=4505))
    machine.add(FakeSocket(protocol=UDP, local=LOCAL, local_port=1, remote=REMOTE, remote_port=2))
    match = {"remote": REMOTE, "state": "established", "remote_port": 443}
    refused = run(machine, match, max_sockets=MaxSockets(share=0.24))
    assert refused.counts == {"limit": 1}
    assert refused.exceeded == (1, MaxSockets(share=0.24), 4)
    assert run(machine, match, max_sockets=MaxSockets(share=0.25)).counts == {"destroyed": 1}


def test_limit_covers_all_namespaces(machine: FakeMachine) -> None:
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


def test_condition_that_only_the_kernel_tests_raises_without_its_filter(
    machine: FakeMachine,
) -> None:
    """autobound on a kernel without that filter op: the port range alone proves nothing."""
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


def test_same_addresses_in_two_namespaces_are_two_sockets(machine: FakeMachine) -> None:
    other = machine.kernel.namespace("other")
    stays = other.add(connection())
    target = machine.add(connection())
    report = run(machine)
    assert outcomes_of(report) == {target.cookie: "destroyed"}
    assert report.results[0].socket.identity == ("current", "tcp", target.cookie)
    assert other.sockets == [stays]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NamespaceNotFound("other"), "survived"),
        (NamespaceDenied("other", errno.EPERM), "not_permitted"),
    ],
)
def test_namespace_that_ends_after_planning(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, error: SocketsError, outcome: str
) -> None:
    other = machine.kernel.namespace("other")
    lost = other.add(connection())
    target = machine.add(connection())
    opened: list[str] = []

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        opened.append(namespace.name)
        if namespace.name == "other" and "current" in opened:
            raise error
        return machine.kernel.open(namespace, protocol)

    monkeypatch.setattr(machine, "open", open_netlink)
    spaces = [
        Namespace("other", "/run/netns/other", other.identity),
        machine.namespace,
    ]
    # Both namespaces are planned first, then the other one is opened again.
    report = run(machine, namespaces=spaces, protect={**UNGUARDED, "loopback": False})
    assert outcomes_of(report) == {lost.cookie: outcome, target.cookie: "destroyed"}


# Rate.


def test_rate_spreads_requests_over_time(machine: FakeMachine) -> None:
    for port in range(1, 26):
        machine.add(connection(local_port=port))
    times: list[float] = []
    machine.sockets.before_request = lambda kind, _payload: (
        times.append(machine.now) if kind == DESTROY else None
    )
    report = run(machine, rate=100)
    assert report.counts == {"destroyed": 25}
    assert times == pytest.approx([0.0] * 10 + [0.1] * 10 + [0.2] * 5)


def test_socket_that_closes_before_its_turn_is_already_gone(
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


def test_late_targets_are_planned_again(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.process(700, comm="sshd")
    sockets = [
        machine.add(connection(local_port=port, wqueue=9), holder=None if port == 3 else 500)
        for port in (1, 2, 3, 4)
    ]
    first, recovered, taken_over, last = sockets
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
    reasons = {result.socket.cookie: result.reason for result in report.results}
    assert reasons[recovered.cookie] is not None
    assert reasons[recovered.cookie].rule == "changed"
    assert machine.sockets.sockets == [recovered, taken_over]


def test_check_mode_does_not_wait(machine: FakeMachine) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port))
    run(machine, rate=1, check=True)
    assert machine.now == 0


# Everything else.


def test_unknown_engine(machine: FakeMachine) -> None:
    machine.add(connection())
    with pytest.raises(EngineUnavailable):
        run(machine, engine="hammer")
    assert machine.sockets.destroyed == []


def test_auto_uses_netlink_where_it_works(machine: FakeMachine) -> None:
    machine.add(connection())
    assert run(machine, engine="auto").engines == ("netlink",)


def test_outcomes_are_all_in_the_closed_list(machine: FakeMachine) -> None:
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
def test_garbage_collector_is_paused_and_restored(machine: FakeMachine, enabled: bool) -> None:
    machine.add(connection())
    enabled_during: list[bool] = []
    machine.sockets.before_request = lambda _kind, _payload: enabled_during.append(gc.isenabled())
    (gc.enable if enabled else gc.disable)()
    try:
        run(machine)
        assert not any(enabled_during)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
