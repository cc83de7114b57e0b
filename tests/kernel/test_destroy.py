# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""destroy() on the running kernel: the reported outcomes match the state of the sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Sequence

import pytest

from linuxnet_sockets.guard.limits import MaxSockets
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import inet_diag
from tests.kernel import destroy_calls
from tests.kernel.bpf_calls import BOTH_ENGINES, netlink_only
from tests.kernel.destroy_calls import check_then_run, outcomes_of, run
from tests.kernel.destroy_subprocess import destroy_in_subprocess
from tests.kernel.holder import holder
from tests.support.topologies import states
from tests.support.topologies.states import HeldSocket, cookie_of
from tests.support.topologies.topology import Lab, Pair

# Engine bpf does not end sockets that are no struct sock.
_NOT_FULL = ("syn-recv", "time-wait")


@pytest.fixture(autouse=True, params=BOTH_ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(destroy_calls, "default_engine", request.param)
    return str(request.param)


@pytest.mark.parametrize("name", sorted(states.TCP_STATES))
def test_every_state_destroyed(pair: Pair, engine: str, name: str) -> None:
    held = states.TCP_STATES[name](pair)
    match = {
        "state": name,
        "local_port": held.local[1],
        **({"remote_port": held.remote[1]} if held.remote[1] else {}),
    }
    if engine == "bpf" and name in _NOT_FULL:
        report = check_then_run(held.where, match, "kernel_without_destroy")
        assert [result.reason.rule for result in report.results if result.reason] == [
            "not_full_socket"
        ]
        assert len(run(held.where, match).results) == 1
        return
    report = check_then_run(held.where, match, "destroyed")
    assert (report.matched, report.engines) == (1, (engine,))
    assert report.changed
    assert run(held.where, match).results == []


def test_unselected_connection_unaffected(pair: Pair) -> None:
    selected, other = states.established(pair), states.established(pair)
    assert selected.target is not None
    assert other.target is not None
    report = run(pair.client, {"remote_port": selected.remote[1]})
    assert outcomes_of(report) == {selected.cookie: "destroyed"}
    with pytest.raises(ConnectionAbortedError):
        selected.target.send(b"x")
    other.target.sendall(b"x")


def test_destroyed_connection_keeps_port(pair: Pair) -> None:
    listening = states.listener(pair.server, pair.server4)
    client = pair.client.socket()
    client.bind((pair.client4, 41_000))
    client.connect(listening.getsockname())
    report = run(pair.client, {"state": "established"})
    assert outcomes_of(report) == {cookie_of(client): "destroyed"}
    # The port stays bound until the application closes the socket.
    other = pair.client.socket()
    with pytest.raises(OSError, match="in use"):
        other.bind(client.getsockname())


def test_reuseport_listeners_all_destroyed(pair: Pair) -> None:
    group = states.reuseport(pair.server, pair.server4, socket.SOCK_STREAM, 16)
    report = check_then_run(pair.server, {"state": "listening"}, "destroyed")
    assert set(outcomes_of(report)) == {cookie_of(sock) for sock in group}
    for sock in group:
        with pytest.raises(OSError, match="Invalid argument"):
            sock.accept()


# Datagrams.


@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_udp_explicit_port_disconnected(pair: Pair, v6: bool) -> None:
    held = states.udp_explicit(pair, v6=v6)
    assert held.target is not None
    assert held.peer is not None
    match = {"protocol": "udp", "local_port": held.local[1], "state": "all"}
    check_then_run(pair.client, match, "disconnected")
    with pytest.raises(ConnectionAbortedError):
        held.target.recv(1)
    held.peer.sendto(b"y", held.local)
    assert held.target.recv(1) == b"y"
    # It has no remote address any more, so a second run must not abort its recv() again.
    second = check_then_run(pair.client, match, "already_gone")
    assert not second.changed
    assert not second.failed
    held.target.setblocking(False)
    with pytest.raises(BlockingIOError):
        held.target.recv(1)


def test_udp_autobound_destroyed(pair: Pair) -> None:
    held = states.udp_autobound(pair)
    match = {"protocol": "udp", "remote_port": held.remote[1]}
    check_then_run(pair.client, match, "destroyed")
    assert run(pair.client, match).results == []


def test_unconnected_udp_group_unaffected(pair: Pair) -> None:
    group = states.reuseport(pair.server, pair.server4, socket.SOCK_DGRAM, 4)
    report = check_then_run(pair.server, {"protocol": "udp", "state": "all"}, "already_gone")
    assert report.matched == 4
    for sock in group:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)


def test_connected_udp_group_disconnected(pair: Pair) -> None:
    group = states.reuseport(pair.server, pair.server4, socket.SOCK_DGRAM, 4)
    for sock in group:
        sock.connect((pair.client4, 9))
    report = check_then_run(pair.server, {"protocol": "udp", "remote_port": 9}, "disconnected")
    assert report.matched == 4
    for sock in group:
        with pytest.raises(ConnectionAbortedError):
            sock.recv(1)


def test_other_members_of_udp_group_unaffected(pair: Pair) -> None:
    group = states.reuseport(pair.server, pair.server4, socket.SOCK_DGRAM, 3)
    for number, sock in enumerate(group):
        sock.connect((pair.client4, 9 + number))
    report = run(pair.server, {"protocol": "udp", "remote_port": 10})
    assert outcomes_of(report) == {cookie_of(group[1]): "disconnected"}
    for number in (0, 2):
        assert group[number].getpeername() == (pair.client4, 9 + number)


def test_udplite_unsupported(pair: Pair) -> None:
    try:
        held = states.udplite_connected(pair)
    except OSError as error:
        pytest.skip(f"this kernel has no UDP-Lite: {error}")
    match = {"protocol": "udplite", "remote_port": held.remote[1]}
    assert check_then_run(pair.client, match, "unsupported_protocol").failed


# MPTCP.


def _mptcp(pair: Pair) -> HeldSocket:
    try:
        return states.mptcp(pair)
    except OSError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")


def test_mptcp_unsupported(pair: Pair) -> None:
    held = _mptcp(pair)
    assert held.target is not None
    assert held.peer is not None
    for protocol in ("mptcp", "tcp"):
        match = {"protocol": protocol, "state": "established"}
        report = check_then_run(pair.client, match, "unsupported_protocol")
        assert report.failed
    held.target.sendall(b"alive")
    assert held.peer.recv(5) == b"alive"


@pytest.mark.parametrize(
    "extensions", [(), (inet_diag.INFO,)], ids=["without-tcp-info", "with-tcp-info"]
)
def test_tcp_connection_beside_mptcp_destroyed(pair: Pair, extensions: Sequence[int]) -> None:
    """tcp_info in the dump, if requested, distinguishes a subflow from a TCP connection."""
    _mptcp(pair)
    tcp = states.established(pair)
    bits = inet_diag.extension_bits(extensions)
    report = run(pair.client, {"state": "established"}, extensions=bits)
    (subflow,) = set(outcomes_of(report)) - {tcp.cookie}
    expected = {tcp.cookie: "destroyed", subflow: "unsupported_protocol"}
    assert outcomes_of(report) == expected


# Changes during destruction, made while the rate limit pauses.


def host_with_sleep_hook(action: Callable[[], None]) -> Host:
    """A Host that runs the action in the first pause of the rate limiter."""
    pending = [action]

    def sleep(_seconds: float) -> None:
        if pending:
            pending.pop()()

    return Host(sleep=sleep)


def test_closed_connection_leaves_listener(pair: Pair) -> None:
    connections = [states.established_server(pair), states.established_server(pair)]

    def close_both() -> None:
        # One of the two is destroyed already; the kernel's dump order decides which one.
        for held in connections:
            assert held.target is not None
            states.linger_reset(held.target)
            held.target.close()

    report = run(
        pair.server,
        {"state": "established", "local_port": [held.local[1] for held in connections]},
        host=host_with_sleep_hook(close_both),
        rate=1,
    )
    assert set(outcomes_of(report)) == {held.cookie for held in connections}
    assert report.counts == {"destroyed": 1, "already_gone": 1}
    for held in connections:
        client = pair.client.socket()
        client.connect(held.others[0].getsockname())
        held.others[0].accept()[0].close()


def test_new_connection_on_same_tuple_unaffected(pair: Pair) -> None:
    listening = states.listener(pair.server, pair.server4)
    address = listening.getsockname()

    def connected(port: int) -> socket.socket:
        client = pair.client.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((pair.client4, port))
        client.connect(address)
        pair.server.close_at_end(listening.accept()[0])
        return client

    clients = [connected(port) for port in (41_001, 41_002)]
    successors: list[socket.socket] = []

    def replace_both() -> None:
        for client in clients:
            with contextlib.suppress(OSError):
                states.linger_reset(client)
            client.close()
        successors.extend(connected(port) for port in (41_001, 41_002))

    cookies = {cookie_of(client) for client in clients}
    report = run(
        pair.client,
        {"remote_port": address[1], "state": "established"},
        host=host_with_sleep_hook(replace_both),
        rate=1,
    )
    assert set(outcomes_of(report)) == cookies
    assert sorted(outcomes_of(report).values()) == ["already_gone", "destroyed"]
    for successor in successors:
        successor.sendall(b"x")


def test_pace_limits_rate(pair: Pair) -> None:
    for _connection in range(4):
        states.established(pair)
    start = time.monotonic()
    report = run(pair.client, {"state": "established"}, rate=20)
    assert report.counts == {"destroyed": 4}
    # Bursts of two, 100 ms apart.
    assert 0.1 <= time.monotonic() - start < 2


# Limits, namespaces, privileges.


def test_max_sockets_exceeded_destroys_nothing(pair: Pair) -> None:
    held = [states.established(pair) for _connection in range(3)]
    report = run(pair.client, {"state": "established"}, max_sockets=MaxSockets(number=2))
    assert report.counts == {"limit": 3}
    for connection in held:
        assert connection.target is not None
        connection.target.sendall(b"x")
    share = MaxSockets(share=0.5)
    assert run(pair.client, {"state": "established"}, max_sockets=share).counts == {"limit": 3}
    whole = MaxSockets(share=1.0)
    assert run(pair.client, {"state": "established"}, max_sockets=whole).counts == {"destroyed": 3}


def test_same_tuple_in_two_namespaces(lab: Lab) -> None:
    pairs = [Pair(lab), Pair(lab)]
    ends: list[socket.socket] = []
    for pair in pairs:
        listening = states.listener(pair.server, pair.server4, 7777)
        client = pair.client.socket()
        client.bind((pair.client4, 40_404))
        client.connect(listening.getsockname())
        pair.server.close_at_end(listening.accept()[0])
        ends.append(client)
    assert ends[0].getsockname() == ends[1].getsockname()
    assert ends[0].getpeername() == ends[1].getpeername()
    report = run(pairs[1].client, {"local_port": 40_404})
    assert [result.socket.identity for result in report.results] == [
        (pairs[1].client.name, "tcp", cookie_of(ends[1]))
    ]
    ends[0].sendall(b"x")
    with pytest.raises(ConnectionAbortedError):
        ends[1].send(b"x")


def test_several_namespaces(lab: Lab) -> None:
    pairs = [Pair(lab), Pair(lab)]
    held = [states.established(pair) for pair in pairs]
    report = run([pair.client for pair in pairs], {"state": "established"})
    assert outcomes_of(report) == {connection.cookie: "destroyed" for connection in held}
    names = [result.socket.snapshot.namespace.name for result in report.results]
    assert names == [pair.client.name for pair in pairs]


@netlink_only
def test_without_cap_net_admin_not_permitted(pair: Pair) -> None:
    with holder(pair) as held:
        for check in (True, False):
            result = destroy_in_subprocess(
                {"state": "established"},
                [pair.client.name],
                protect={"ssh_sessions": False, "kernel": False},
                without=["net_admin"],
                check=check,
            )
            assert result["outcomes"] == {held.cookie: "not_permitted"}
        assert held.alive()


def test_no_descriptors_leaked(pair: Pair) -> None:
    states.established(pair)
    before = sorted(os.listdir("/proc/self/fd"))
    run(pair.client, {"state": "established"})
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_peer_receives_reset(pair: Pair) -> None:
    held = states.established(pair)
    assert held.peer is not None
    run(pair.client, {"state": "established"})
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is compared
        held.peer.recv(1)
    assert caught.value.errno == errno.ECONNRESET
