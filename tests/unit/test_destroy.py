# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the selected sockets, on the fake kernel: every outcome, and every refusal."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.destroy import Order, Report, destroy
from linuxnet_sockets.engines.base import Declined
from linuxnet_sockets.engines.netlink import NetlinkEngine
from linuxnet_sockets.errors import (
    DumpInterrupted,
    EngineUnavailable,
    HandlerMissing,
    NamespaceDenied,
    NamespaceNotFound,
    NetlinkError,
    SocketsError,
)
from linuxnet_sockets.limits import MaxSockets
from linuxnet_sockets.look import View
from linuxnet_sockets.namespaces import Namespace
from linuxnet_sockets.outcomes import OUTCOMES
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.subject import Subject
from linuxnet_sockets.wire import inet_diag
from linuxnet_sockets.wire.netlink import Connection
from tests.fakes import FakeNamespace, FakeNetlinkSocket, FakeSocket, faults
from tests.fakes.bytecode import AUTO
from tests.fakes.model import (
    BOUND_INACTIVE,
    CLOSE,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    LAST_ACK,
    LISTEN,
    MPTCP,
    RAW,
    SYN_RECV,
    SYN_SENT,
    TIME_WAIT,
    UDP,
    UDPLITE,
)
from tests.unit.guard.machine import LOCAL, LOCAL6, REMOTE, REMOTE6, Machine, connection

DESTROY = 21
ALL = {"state": "all"}
UNGUARDED = {"listeners": False, "unconnected": False, "kernel": False}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def run(
    machine: Machine,
    match: Any = None,
    *,
    namespaces: Sequence[Namespace] | None = None,
    protect: Any = None,
    **order: Any,
) -> Report:
    selector = parse_selector(ALL if match is None else match, names=machine.host, role="destroy")
    guard = machine.guard(protect)
    return destroy(machine.host, Order(selector, namespaces or [machine.namespace], guard, **order))


def outcomes_of(report: Report) -> dict[int, str]:
    """Outcome by cookie."""
    return {result.subject.cookie: result.outcome for result in report.results}


def cookies_asked_for(namespace: FakeNamespace) -> list[int]:
    """Of every destroy request; 0 is the harmless probe."""
    return [
        int.from_bytes(payload[48:56], "little")
        for kind, payload in namespace.requests
        if kind == DESTROY
    ]


def both_ways(
    machine: Machine, sock: FakeSocket, match: Any, outcome: str, *, predicted: str | None = None
) -> Report:
    """Check mode touches nothing and predicts; then the same order comes out as predicted."""
    machine.add(sock)
    forecast = run(machine, match, protect=UNGUARDED, check=True)
    assert outcomes_of(forecast) == {sock.cookie: predicted or outcome}
    assert not any(cookies_asked_for(machine.sockets))
    assert machine.sockets.destroyed == []
    report = run(machine, match, protect=UNGUARDED)
    assert outcomes_of(report) == {sock.cookie: outcome}
    return report


def test_destroys_what_is_selected_and_nothing_else(machine: Machine) -> None:
    meant = [machine.add(connection(local_port=port)) for port in (1, 2)]
    other = machine.add(connection(local_port=3, remote_port=80))
    report = run(machine, {"remote_port": 443})
    assert outcomes_of(report) == {sock.cookie: "destroyed" for sock in meant}
    assert machine.sockets.sockets == [other]
    assert report.matched == 2
    assert report.counts == {"destroyed": 2}
    assert report.engines == ("netlink",)
    assert report.changed
    assert not report.failed


@pytest.mark.parametrize(
    "state", [ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LISTEN, CLOSING]
)
@pytest.mark.parametrize(("local", "remote"), [(LOCAL, REMOTE), (LOCAL6, REMOTE6)])
def test_every_state(machine: Machine, state: int, local: str, remote: str) -> None:
    if state == LISTEN:
        sock = FakeSocket(local=local, local_port=5, state=state)
    else:
        sock = connection(local, 5, remote, 6, state=state)
    both_ways(machine, sock, ALL, "destroyed")


def test_second_run_has_nothing_to_do(machine: Machine) -> None:
    machine.add(connection())
    assert run(machine).changed
    again = run(machine)
    assert again.results == []
    assert not again.changed
    assert not again.failed


def test_connection_that_keeps_its_port_is_destroyed(machine: Machine) -> None:
    # The application bound the port: until it closes the descriptor the kernel keeps it.
    sock = connection(explicit_port=True)
    both_ways(machine, sock, ALL, "destroyed")
    assert sock.state == BOUND_INACTIVE
    assert run(machine).results == []


def test_bound_inactive_socket_cannot_be_reached(machine: Machine) -> None:
    sock = FakeSocket(local=LOCAL, local_port=7, state=BOUND_INACTIVE)
    report = both_ways(machine, sock, {"state": "bound-inactive"}, "survived")
    assert report.failed


def test_protected_sockets_are_named_with_their_reason(machine: Machine) -> None:
    spared = machine.add(connection(remote_port=4505))
    meant = machine.add(connection(local_port=2))
    for check in (True, False):
        report = run(machine, check=check)
        assert outcomes_of(report) == {spared.cookie: "protected", meant.cookie: "destroyed"}
        reasons = {result.subject.cookie: result.reason for result in report.results}
        assert reasons[spared.cookie] == ("control_connection", "port 4505 is Salt's")
        assert reasons[meant.cookie] is None
    assert machine.sockets.sockets == [spared]


def test_nothing_is_left_open_in_a_namespace(machine: Machine) -> None:
    machine.add(connection())
    run(machine)
    assert machine.kernel.opened
    assert all(sock.closed for sock in machine.kernel.opened)


# What happens meanwhile.


def when_destroying(namespace: FakeNamespace, action: Callable[[], None]) -> None:
    """Do it once, just before the first request to destroy a socket is worked on."""

    def hook(kind: int, _payload: bytes) -> None:
        if kind == DESTROY:
            namespace.before_request = None
            action()

    namespace.before_request = hook


def test_what_went_by_itself(machine: Machine) -> None:
    sock = machine.add(connection())
    when_destroying(machine.sockets, lambda: machine.sockets.remove(sock))
    report = run(machine)
    assert outcomes_of(report) == {sock.cookie: "already_gone"}
    assert not report.changed
    assert not report.failed


def test_stale_tuple_never_kills_its_successor(machine: Machine) -> None:
    sock, successor = machine.add(connection()), connection()

    def replace() -> None:
        machine.sockets.remove(sock)
        machine.sockets.add(successor)

    when_destroying(machine.sockets, replace)
    assert outcomes_of(run(machine)) == {sock.cookie: "already_gone"}
    assert machine.sockets.sockets == [successor]


def test_stale_tuple_never_kills_the_listener(machine: Machine) -> None:
    listener = machine.add(FakeSocket(local=LOCAL, local_port=443, state=LISTEN))
    sock = machine.add(connection(local_port=443, remote_port=50000))
    when_destroying(machine.sockets, lambda: machine.sockets.remove(sock))
    report = run(machine, {"state": "established"}, protect=UNGUARDED)
    assert outcomes_of(report) == {sock.cookie: "already_gone"}
    assert machine.sockets.sockets == [listener]


def test_connection_that_changes_its_state_meanwhile_is_still_the_one(machine: Machine) -> None:
    sock = machine.add(connection())

    def closes() -> None:
        sock.state, sock.inode = TIME_WAIT, 0

    when_destroying(machine.sockets, closes)
    assert outcomes_of(run(machine)) == {sock.cookie: "destroyed"}


# Several sockets with the same addresses.


def test_all_listeners_of_a_group_go(machine: Machine) -> None:
    group = [
        machine.add(FakeSocket(local=LOCAL, local_port=80, state=LISTEN, reuseport=1))
        for _each in range(16)
    ]
    report = run(machine, {"state": "listening"}, protect=UNGUARDED)
    assert report.counts == {"destroyed": 16}
    assert sorted(machine.sockets.destroyed) == sorted(sock.cookie for sock in group)


def test_only_the_selected_of_a_group_go(machine: Machine) -> None:
    mine, others = [], []
    for number in range(12):
        sock = FakeSocket(
            local=LOCAL, local_port=80, state=LISTEN, reuseport=1, uid=1000 + number % 2
        )
        (mine if number % 2 else others).append(machine.add(sock))
    report = run(machine, {"state": "listening", "user": 1001}, protect=UNGUARDED)
    assert set(outcomes_of(report)) == {sock.cookie for sock in mine}
    assert [sock.state for sock in others] == [LISTEN] * 6
    # What the look-up does not find while the others stand in front of it survives, and says so.
    assert set(report.counts) <= {"destroyed", "survived"}
    assert set(machine.sockets.destroyed) <= {sock.cookie for sock in mine}


# Datagrams.


@pytest.mark.parametrize(("local", "remote"), [(LOCAL, REMOTE), (LOCAL6, REMOTE6)])
def test_datagrams_on_a_port_of_their_own_are_disconnected(
    machine: Machine, local: str, remote: str
) -> None:
    sock = FakeSocket(
        protocol=UDP, local=local, local_port=5, remote=remote, remote_port=53, explicit_port=True
    )
    match = {"protocol": "udp", "local_port": 5, "state": "all"}
    report = both_ways(machine, sock, match, "disconnected")
    assert report.changed
    assert machine.sockets.sockets == [sock]
    # The second time there is nothing to take away, and the application is left in peace.
    again = run(machine, match, protect=UNGUARDED)
    assert outcomes_of(again) == {sock.cookie: "already_gone"}
    assert not again.changed
    assert not again.failed
    assert sock.errors == [errno.ECONNABORTED]
    # By default such a socket is protected.
    assert outcomes_of(run(machine, match)) == {sock.cookie: "protected"}


def test_datagrams_on_a_port_that_the_kernel_chose_are_destroyed(machine: Machine) -> None:
    sock = FakeSocket(
        protocol=UDP, local=LOCAL, local_port=5, remote=REMOTE, remote_port=53, explicit_port=False
    )
    both_ways(machine, sock, {"protocol": "udp", "remote_port": 53}, "destroyed")
    assert machine.sockets.sockets == []


def test_unconnected_datagrams_on_a_port_that_the_kernel_chose(machine: Machine) -> None:
    sock = FakeSocket(protocol=UDP, local=LOCAL, local_port=5, state=CLOSE, explicit_port=False)
    both_ways(machine, sock, {"protocol": "udp", "state": "all"}, "destroyed")


def test_connected_siblings_go_one_after_the_other(machine: Machine) -> None:
    siblings = [
        machine.add(
            FakeSocket(
                protocol=UDP,
                local=LOCAL,
                local_port=5,
                remote=REMOTE,
                remote_port=53,
                reuseport=1,
            )
        )
        for _each in range(4)
    ]
    report = run(machine, {"protocol": "udp", "remote_port": 53})
    assert report.counts == {"disconnected": 4}
    assert [sock.errors for sock in siblings] == [[errno.ECONNABORTED]] * 4


def test_datagram_socket_that_finds_another_remote_was_disconnected(machine: Machine) -> None:
    def connects_again(_namespace: FakeNamespace, sock: FakeSocket) -> None:
        sock.remote, sock.dst, sock.remote_port = "203.0.113.9", bytes((203, 0, 113, 9)), 53
        sock.state = ESTABLISHED

    sock = FakeSocket(
        protocol=UDP,
        local=LOCAL,
        local_port=5,
        remote=REMOTE,
        remote_port=53,
        on_destroy=connects_again,
    )
    machine.add(sock)
    assert outcomes_of(run(machine, {"protocol": "udp", "remote": REMOTE})) == {
        sock.cookie: "disconnected"
    }


# What the kernel cannot, may not, or should not do.


def test_udplite_has_no_way_to_be_destroyed(machine: Machine) -> None:
    sock = FakeSocket(protocol=UDPLITE, local=LOCAL, local_port=5, remote=REMOTE, remote_port=6)
    report = both_ways(
        machine, sock, {"protocol": "udplite", "remote_port": 6}, "unsupported_protocol"
    )
    assert report.failed
    assert sock.errors == []


def test_mptcp_has_no_way_to_be_destroyed(machine: Machine) -> None:
    sock = connection(protocol=MPTCP)
    both_ways(machine, sock, {"protocol": "mptcp", "state": "all"}, "unsupported_protocol")


def test_mptcp_subflow_is_not_killed_alone(machine: Machine) -> None:
    whole = machine.add(connection(protocol=MPTCP))
    sock = connection()
    sock.ulp = "mptcp"
    both_ways(machine, sock, ALL, "unsupported_protocol")
    assert machine.sockets.sockets == [whole, sock]
    assert not any(cookies_asked_for(machine.sockets))


@pytest.mark.parametrize(
    ("knows_mptcp", "outcome"), [(True, "unsupported_protocol"), (False, "destroyed")]
)
def test_subflows_where_mptcp_cannot_be_listed(
    machine: Machine, knows_mptcp: bool, outcome: str
) -> None:
    machine.kernel.abilities.handlers -= {MPTCP}
    if knows_mptcp:
        (machine.proc / "sys" / "net" / "mptcp").mkdir(parents=True)
    sock = connection()
    # A kernel without MPTCP has no such sockets; that nobody asked for it shows in the outcome.
    sock.ulp = "mptcp"
    both_ways(machine, sock, ALL, outcome)


def test_other_connections_beside_mptcp_go(machine: Machine) -> None:
    machine.add(connection(protocol=MPTCP))
    both_ways(machine, connection(local_port=2), ALL, "destroyed")


def test_connection_under_tls_is_no_subflow(machine: Machine) -> None:
    machine.add(connection(protocol=MPTCP))
    sock = connection(local_port=2)
    sock.ulp = "tls"
    both_ways(machine, sock, ALL, "destroyed")


def test_raw_sockets_are_left_alone(machine: Machine) -> None:
    # The kernel would take the first that fits, whatever the cookie says.
    machine.kernel.abilities.handlers |= {RAW}
    sock = FakeSocket(
        protocol=RAW, local=LOCAL, local_port=1, remote=REMOTE, remote_port=0, raw_protocol=1
    )
    both_ways(machine, sock, {"protocol": "raw", "state": "all"}, "unsupported_protocol")
    assert not any(cookies_asked_for(machine.sockets))


def test_without_privilege(machine: Machine) -> None:
    machine.kernel.abilities.privileged = False
    report = both_ways(machine, connection(), {"remote_port": 443}, "not_permitted")
    assert report.failed
    assert not report.changed


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_kernel_without_destroy(machine: Machine, protocol: str) -> None:
    machine.kernel.abilities.destroys = False
    sock = connection()
    if protocol == "udp":
        sock = FakeSocket(protocol=UDP, local=LOCAL, local_port=5, remote=REMOTE, remote_port=443)
    match = {"protocol": protocol, "remote_port": 443}
    assert both_ways(machine, sock, match, "kernel_without_destroy").failed


@pytest.mark.parametrize("state", [TIME_WAIT, FIN_WAIT2])
def test_kernel_too_old_for_time_wait(machine: Machine, state: int) -> None:
    """FIN_WAIT_2 without an application is TIME_WAIT under another name: its timer says so."""
    machine.kernel.abilities.destroys_time_wait = False
    machine.release = "5.15.0-100-generic"
    sock = connection(state=state, timer=3, inode=0)
    both_ways(machine, sock, ALL, "kernel_without_destroy")


def test_kernel_too_old_for_time_wait_destroys_fin_wait_2(machine: Machine) -> None:
    machine.kernel.abilities.destroys_time_wait = False
    machine.release = "5.15.0-100-generic"
    both_ways(machine, connection(state=FIN_WAIT2), ALL, "destroyed")


@pytest.mark.parametrize("state", [FIN_WAIT1, CLOSING, LAST_ACK])
@pytest.mark.parametrize("release", ["5.4.0-42-generic", "6.1.0-28-amd64", "6.10.14", "odd"])
def test_orphans_that_an_old_kernel_would_make_immortal(
    machine: Machine, state: int, release: str
) -> None:
    machine.release = release
    sock = connection(state=state, inode=0, wqueue=100, timer=4)
    report = both_ways(machine, sock, ALL, "kernel_defect")
    assert machine.sockets.sockets == [sock]
    assert not report.failed
    assert not report.changed


@pytest.mark.parametrize("release", ["6.11.0", "6.18.44", "7.0"])
def test_orphans_go_on_kernels_with_the_fix(machine: Machine, release: str) -> None:
    machine.release = release
    both_ways(machine, connection(state=FIN_WAIT1, inode=0, wqueue=9), ALL, "destroyed")


def test_sockets_that_are_no_such_orphans_go_on_old_kernels(machine: Machine) -> None:
    machine.release = "5.10.0"
    for sock in (
        connection(local_port=1, state=FIN_WAIT1, wqueue=9),
        connection(local_port=2, state=FIN_WAIT2, inode=0),
        connection(local_port=3, wqueue=9, timer=4),
    ):
        machine.add(sock)
    assert run(machine).counts == {"destroyed": 3}


def test_acknowledged_but_still_there(machine: Machine) -> None:
    sock = connection(immortal=True)
    report = both_ways(machine, sock, ALL, "survived", predicted="destroyed")
    assert report.failed


@pytest.mark.parametrize(("number", "outcome"), [(errno.EBUSY, "busy"), (errno.EINVAL, "survived")])
def test_refusals_of_one_socket(machine: Machine, number: int, outcome: str) -> None:
    refused, other = machine.add(connection(errno=number)), machine.add(connection(local_port=2))
    assert outcomes_of(run(machine)) == {refused.cookie: outcome, other.cookie: "destroyed"}


def test_protocol_that_the_kernel_cannot_list(machine: Machine) -> None:
    machine.kernel.abilities.handlers -= {MPTCP}
    with pytest.raises(HandlerMissing):
        run(machine, {"protocol": "mptcp", "state": "all"})


# Answers that get lost: what is true is what a fresh look shows.


@pytest.mark.parametrize("fault", [faults.overrun(), faults.lost()], ids=["overrun", "time-out"])
def test_lost_answers_change_no_outcome(machine: Machine, fault: faults.Fault) -> None:
    gone = machine.add(connection())
    stays = machine.add(connection(local_port=2, immortal=True))
    when_destroying(machine.sockets, lambda: machine.sockets.faults.append(fault))
    report = run(machine)
    assert outcomes_of(report) == {gone.cookie: "destroyed", stays.cookie: "survived"}


def test_what_was_not_asked_for_any_more_is_not_claimed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer about the first does not come; meanwhile the second goes by itself."""
    monkeypatch.setattr("linuxnet_sockets.engines.netlink._CHUNK", 1)
    first, second = machine.add(connection(local_port=1)), machine.add(connection(local_port=2))

    def meanwhile() -> None:
        machine.sockets.faults.append(faults.lost())
        machine.sockets.remove(second)

    when_destroying(machine.sockets, meanwhile)
    assert outcomes_of(run(machine)) == {first.cookie: "destroyed", second.cookie: "already_gone"}


def refuse_all_but(meant: FakeSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests about other sockets cannot be sent."""
    work = inet_diag.destroy

    def destroy_it(where: Connection, socks: Sequence[inet_diag.Sock]) -> list[int]:
        if socks[0].cookie != meant.cookie:
            raise NetlinkError("destroy sockets", errno.EACCES)
        return work(where, socks)

    monkeypatch.setattr(inet_diag, "destroy", destroy_it)


def test_a_request_that_cannot_be_sent_does_not_hide_those_before(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linuxnet_sockets.engines.netlink._CHUNK", 1)
    first, *others = [machine.add(connection(local_port=port)) for port in (1, 2, 3)]
    refuse_all_but(first, monkeypatch)
    report = run(machine)
    left = dict.fromkeys((sock.cookie for sock in others), "survived")
    assert outcomes_of(report) == {first.cookie: "destroyed", **left}
    with pytest.raises(NetlinkError):
        run(machine)


def test_an_acknowledgement_that_cannot_be_read_is_one_that_was_lost(machine: Machine) -> None:
    sock = machine.add(connection())
    when_destroying(machine.sockets, lambda: machine.sockets.faults.append(faults.cut(4)))
    assert outcomes_of(run(machine)) == {sock.cookie: "destroyed"}


def test_more_refusals_than_the_receive_buffer_holds(machine: Machine) -> None:
    machine.kernel.abilities.privileged = False
    machine.kernel.abilities.receive_buffer = 30_000
    for port in range(1, 300):
        machine.sockets.add(connection(local_port=port))
    report = run(machine, protect={"ssh_sessions": False, "kernel": False})
    assert set(report.counts) <= {"not_permitted", "survived"}
    assert report.matched == 299
    assert report.failed
    assert not report.changed


def test_fresh_look_that_is_interrupted_is_taken_again(machine: Machine) -> None:
    sock = machine.add(connection())
    machine.sockets.before_request = lambda kind, _payload: (
        machine.sockets.faults.extend([faults.none, faults.dump_interrupted])
        if kind == DESTROY
        else None
    )
    assert outcomes_of(run(machine)) == {sock.cookie: "destroyed"}


def test_without_a_fresh_look_nothing_is_claimed_and_nothing_lost(machine: Machine) -> None:
    spared = machine.add(connection(remote_port=4505))
    sock = machine.add(connection())
    machine.sockets.before_request = lambda kind, _payload: (
        machine.sockets.faults.extend([faults.none, *[faults.dump_interrupted] * 20])
        if kind == DESTROY
        else None
    )
    report = run(machine)
    assert outcomes_of(report) == {spared.cookie: "protected", sock.cookie: "survived"}
    assert report.failed
    assert not report.changed


def test_a_fresh_look_that_cannot_be_read_loses_nothing(machine: Machine) -> None:
    spared = machine.add(connection(remote_port=4505))
    sock = machine.add(connection())
    machine.sockets.before_request = lambda kind, _payload: (
        machine.sockets.faults.extend([faults.none, *[faults.cut(20)] * 20])
        if kind == DESTROY
        else None
    )
    assert outcomes_of(run(machine)) == {spared.cookie: "protected", sock.cookie: "survived"}


@pytest.mark.parametrize("check", [False, True])
def test_an_error_after_something_was_destroyed_does_not_hide_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    meant = machine.add(connection())
    other = machine.kernel.namespace("other")
    left = other.add(connection())
    opened: list[int] = []

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        if namespace.label == "other" and opened and protocol == opened[0]:
            raise NetlinkError("open a netlink socket", errno.EMFILE)
        opened.extend([protocol] if namespace.label == "other" else [])
        return machine.kernel.open(namespace, protocol)

    monkeypatch.setattr(machine, "open", open_netlink)
    spaces = [machine.namespace, Namespace("other", "/run/netns/other", other.identity)]
    if check:
        with pytest.raises(NetlinkError):
            run(machine, namespaces=spaces, protect=UNGUARDED, check=True)
        return
    report = run(machine, namespaces=spaces, protect={**UNGUARDED, "ssh_sessions": False})
    assert [(each.subject.identity, each.outcome) for each in report.results] == [
        (("current", "tcp", meant.cookie), "destroyed"),
        (("other", "tcp", left.cookie), "survived"),
    ]
    reason = report.results[1].reason
    assert reason is not None
    assert "EMFILE" in (reason.detail or "")
    assert other.sockets == [left]


def test_an_error_between_two_slices_does_not_hide_the_first(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [machine.add(connection(local_port=port)) for port in (1, 2)]
    refuse_all_but(first, monkeypatch)
    report = run(machine, pace_per_second=1)
    assert outcomes_of(report) == {first.cookie: "destroyed", second.cookie: "survived"}
    reason = report.results[1].reason
    assert reason is not None
    assert "EACCES" in (reason.detail or "")


class Interrupted(NetlinkEngine):
    """An engine that cannot even tell what it would leave alone."""

    name = "interrupted"

    def declines(self, _view: View, _subjects: Sequence[Subject]) -> list[Declined | None]:
        raise DumpInterrupted("list mptcp sockets", 5)


def test_an_error_of_the_next_engine_does_not_hide_what_the_first_did(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "linuxnet_sockets.destroy.engines_named", lambda _name: (NetlinkEngine(), Interrupted())
    )
    gone = machine.add(connection())
    left = machine.add(connection(local_port=2, protocol=MPTCP))
    report = run(machine, {"protocol": ["tcp", "mptcp"], "state": "connected"})
    assert outcomes_of(report) == {gone.cookie: "destroyed", left.cookie: "unsupported_protocol"}
    (reason,) = (each.reason for each in report.results if each.subject.cookie == left.cookie)
    assert reason is not None
    assert "in one piece" in (reason.detail or "")


# Limits.


def test_above_the_limit_nothing_is_destroyed(machine: Machine) -> None:
    meant = [machine.add(connection(local_port=port)) for port in (1, 2, 3)]
    spared = machine.add(connection(remote_port=4505))
    for check in (True, False):
        report = run(machine, max_sockets=MaxSockets(number=2), check=check)
        expected = {sock.cookie: "limit" for sock in meant} | {spared.cookie: "protected"}
        assert outcomes_of(report) == expected
        assert report.excess == (3, MaxSockets(number=2), None)
        assert report.failed
        assert not report.changed
    assert not any(cookies_asked_for(machine.sockets))


def test_at_the_limit_all_go(machine: Machine) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port))
    # The protected do not count.
    machine.add(connection(remote_port=4505))
    report = run(machine, max_sockets=MaxSockets(number=3))
    assert report.counts == {"destroyed": 3, "protected": 1}
    assert report.excess is None


def test_share_is_of_the_unprotected_in_every_state_and_family(machine: Machine) -> None:
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
    assert refused.excess == (1, MaxSockets(share=0.24), 4)
    assert run(machine, match, max_sockets=MaxSockets(share=0.25)).counts == {"destroyed": 1}


def test_limit_counts_over_all_namespaces(machine: Machine) -> None:
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


def test_what_only_the_kernel_can_tell_is_not_guessed(machine: Machine) -> None:
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


def test_the_same_addresses_in_two_namespaces_are_two_sockets(machine: Machine) -> None:
    other = machine.kernel.namespace("other")
    stays = other.add(connection())
    meant = machine.add(connection())
    report = run(machine)
    assert outcomes_of(report) == {meant.cookie: "destroyed"}
    assert report.results[0].subject.identity == ("current", "tcp", meant.cookie)
    assert other.sockets == [stays]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NamespaceNotFound("other"), "survived"),
        (NamespaceDenied("other", errno.EPERM), "not_permitted"),
    ],
)
def test_namespace_that_goes_between_look_and_work(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, error: SocketsError, outcome: str
) -> None:
    other = machine.kernel.namespace("other")
    lost = other.add(connection())
    meant = machine.add(connection())
    seen: list[str] = []

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        seen.append(namespace.label)
        if namespace.label == "other" and "current" in seen:
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


def test_pace_spreads_the_work(machine: Machine) -> None:
    for port in range(1, 26):
        machine.add(connection(local_port=port))
    times: list[float] = []
    machine.sockets.before_request = lambda kind, _payload: (
        times.append(machine.now) if kind == DESTROY else None
    )
    report = run(machine, pace_per_second=100)
    assert report.counts == {"destroyed": 25}
    assert times == pytest.approx([0.0] * 10 + [0.1] * 10 + [0.2] * 5)


def test_what_goes_while_it_waits_for_its_turn(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine.add(connection(local_port=1)), machine.add(connection(local_port=2))
    successor = connection(local_port=2)

    def sleep(seconds: float) -> None:
        machine.now += seconds
        machine.sockets.remove(second)
        machine.sockets.add(successor)

    monkeypatch.setattr(machine, "sleep", sleep)
    report = run(machine, pace_per_second=1)
    assert outcomes_of(report) == {first.cookie: "destroyed", second.cookie: "already_gone"}
    assert machine.sockets.sockets == [successor]


def test_what_changes_while_it_waits_for_its_turn_is_judged_anew(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
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
    report = run(machine, {"send_queue": ">0"}, pace_per_second=0.5)
    assert outcomes_of(report) == {
        first.cookie: "destroyed",
        recovered.cookie: "already_gone",
        taken_over.cookie: "protected",
        last.cookie: "destroyed",
    }
    reasons = {each.subject.cookie: each.reason for each in report.results}
    assert reasons[recovered.cookie] is not None
    assert reasons[recovered.cookie].rule == "changed"
    assert machine.sockets.sockets == [recovered, taken_over]


def test_check_mode_does_not_wait(machine: Machine) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port))
    run(machine, pace_per_second=1, check=True)
    assert machine.now == 0


# The whole.


def test_unknown_engine(machine: Machine) -> None:
    machine.add(connection())
    with pytest.raises(EngineUnavailable):
        run(machine, engine="hammer")
    assert machine.sockets.destroyed == []


def test_auto_is_netlink_here(machine: Machine) -> None:
    machine.add(connection())
    assert run(machine, engine="auto").engines == ("netlink",)


def test_only_outcomes_of_the_closed_list(machine: Machine) -> None:
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
def test_the_garbage_collector_is_left_as_it_was(machine: Machine, enabled: bool) -> None:
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
