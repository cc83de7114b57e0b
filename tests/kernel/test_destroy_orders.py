# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders carried out on the real kernel: what they report is what is true afterwards."""

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
from tests.kernel.asking import ask
from tests.kernel.destroying import as_predicted, outcomes_of, run
from tests.kernel.holding import holder
from tests.support.topologies import states
from tests.support.topologies.states import Held, cookie_of
from tests.support.topologies.topology import Lab, Pair


@pytest.mark.parametrize("name", sorted(states.TCP_STATES))
def test_every_state_goes_once_and_for_all(pair: Pair, name: str) -> None:
    held = states.TCP_STATES[name](pair)
    match = {
        "state": name,
        "local_port": held.local[1],
        **({"remote_port": held.remote[1]} if held.remote[1] else {}),
    }
    report = as_predicted(held.where, match, "destroyed")
    assert report.matched == 1
    assert report.changed
    assert run(held.where, match).results == []


def test_only_what_was_selected(pair: Pair) -> None:
    goes, stays = states.established(pair), states.established(pair)
    assert goes.target is not None
    assert stays.target is not None
    report = run(pair.client, {"remote_port": goes.remote[1]})
    assert outcomes_of(report) == {goes.cookie: "destroyed"}
    with pytest.raises(ConnectionAbortedError):
        goes.target.send(b"x")
    stays.target.sendall(b"x")


def test_connection_that_keeps_its_port(pair: Pair) -> None:
    listens = states.listener(pair.server, pair.server4)
    client = pair.client.socket()
    client.bind((pair.client4, 41_000))
    client.connect(listens.getsockname())
    report = run(pair.client, {"state": "established"})
    assert outcomes_of(report) == {cookie_of(client): "destroyed"}
    # The port is still the application's, until it closes.
    other = pair.client.socket()
    with pytest.raises(OSError, match="in use"):
        other.bind(client.getsockname())


def test_all_listeners_of_a_group_go(pair: Pair) -> None:
    group = states.reuseport(pair.server, pair.server4, socket.SOCK_STREAM, 16)
    report = as_predicted(pair.server, {"state": "listening"}, "destroyed")
    assert set(outcomes_of(report)) == {cookie_of(sock) for sock in group}
    for sock in group:
        with pytest.raises(OSError, match="Invalid argument"):
            sock.accept()


# Datagrams.


@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_datagrams_on_a_port_of_their_own(pair: Pair, v6: bool) -> None:
    held = states.udp_explicit(pair, v6=v6)
    assert held.target is not None
    assert held.peer is not None
    match = {"protocol": "udp", "local_port": held.local[1], "state": "all"}
    as_predicted(pair.client, match, "disconnected")
    with pytest.raises(ConnectionAbortedError):
        held.target.recv(1)
    held.peer.sendto(b"y", held.local)
    assert held.target.recv(1) == b"y"
    # Nothing is left to take away, and nobody is disturbed again.
    again = as_predicted(pair.client, match, "already_gone")
    assert not again.changed
    assert not again.failed
    held.target.setblocking(False)
    with pytest.raises(BlockingIOError):
        held.target.recv(1)


def test_datagrams_on_a_port_that_the_kernel_chose(pair: Pair) -> None:
    held = states.udp_autobound(pair)
    match = {"protocol": "udp", "remote_port": held.remote[1]}
    as_predicted(pair.client, match, "destroyed")
    assert run(pair.client, match).results == []


def test_unconnected_group_is_left_in_peace(pair: Pair) -> None:
    group = states.reuseport(pair.server, pair.server4, socket.SOCK_DGRAM, 4)
    report = as_predicted(pair.server, {"protocol": "udp", "state": "all"}, "already_gone")
    assert report.matched == 4
    for sock in group:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)


def test_connected_group_goes_one_after_the_other(pair: Pair) -> None:
    group = states.reuseport(pair.server, pair.server4, socket.SOCK_DGRAM, 4)
    for sock in group:
        sock.connect((pair.client4, 9))
    report = as_predicted(pair.server, {"protocol": "udp", "remote_port": 9}, "disconnected")
    assert report.matched == 4
    for sock in group:
        with pytest.raises(ConnectionAbortedError):
            sock.recv(1)


def test_siblings_of_a_selected_datagram_socket_stay_connected(pair: Pair) -> None:
    group = states.reuseport(pair.server, pair.server4, socket.SOCK_DGRAM, 3)
    for number, sock in enumerate(group):
        sock.connect((pair.client4, 9 + number))
    report = run(pair.server, {"protocol": "udp", "remote_port": 10})
    assert outcomes_of(report) == {cookie_of(group[1]): "disconnected"}
    for number in (0, 2):
        assert group[number].getpeername() == (pair.client4, 9 + number)


def test_udplite(pair: Pair) -> None:
    try:
        held = states.udplite_connected(pair)
    except OSError as error:
        pytest.skip(f"no UDP-Lite here: {error}")
    match = {"protocol": "udplite", "remote_port": held.remote[1]}
    assert as_predicted(pair.client, match, "unsupported_protocol").failed


# MPTCP.


def _mptcp(pair: Pair) -> Held:
    try:
        return states.mptcp(pair)
    except OSError as error:
        pytest.skip(f"no MPTCP here: {error}")


def test_mptcp_connection_and_its_subflow_live(pair: Pair) -> None:
    held = _mptcp(pair)
    assert held.target is not None
    assert held.peer is not None
    for protocol in ("mptcp", "tcp"):
        match = {"protocol": protocol, "state": "established"}
        report = as_predicted(pair.client, match, "unsupported_protocol")
        assert report.failed
    held.target.sendall(b"alive")
    assert held.peer.recv(5) == b"alive"


@pytest.mark.parametrize("extensions", [(), (inet_diag.INFO,)], ids=["plain", "with-tcp-info"])
def test_plain_connection_beside_mptcp_goes(pair: Pair, extensions: Sequence[int]) -> None:
    """The look may have brought what tells a subflow from a connection."""
    _mptcp(pair)
    plain = states.established(pair)
    bits = inet_diag.extension_bits(extensions)
    report = run(pair.client, {"state": "established"}, extensions=bits)
    (subflow,) = set(outcomes_of(report)) - {plain.cookie}
    wanted = {plain.cookie: "destroyed", subflow: "unsupported_protocol"}
    assert outcomes_of(report) == wanted


# What happens meanwhile: the pace leaves time for it.


def meanwhile(action: Callable[[], None]) -> Host:
    """A host on which it happens the first time that the pace waits."""
    pending = [action]

    def sleep(_seconds: float) -> None:
        if pending:
            pending.pop()()

    return Host(sleep=sleep)


def test_stale_tuple_never_kills_the_listener(pair: Pair) -> None:
    both = [states.established_server(pair), states.established_server(pair)]

    def both_close() -> None:
        # Which of the two has been destroyed by now is the kernel's choice.
        for held in both:
            assert held.target is not None
            states.linger_reset(held.target)
            held.target.close()

    report = run(
        pair.server,
        {"state": "established", "local_port": [held.local[1] for held in both]},
        host=meanwhile(both_close),
        rate=1,
    )
    assert set(outcomes_of(report)) == {held.cookie for held in both}
    assert report.counts == {"destroyed": 1, "already_gone": 1}
    for held in both:
        client = pair.client.socket()
        client.connect(held.others[0].getsockname())
        held.others[0].accept()[0].close()


def test_successor_on_the_same_addresses_lives(pair: Pair) -> None:
    listens = states.listener(pair.server, pair.server4)
    address = listens.getsockname()

    def connected(port: int) -> socket.socket:
        client = pair.client.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((pair.client4, port))
        client.connect(address)
        pair.server.keep(listens.accept()[0])
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
        host=meanwhile(replace_both),
        rate=1,
    )
    assert set(outcomes_of(report)) == cookies
    assert sorted(outcomes_of(report).values()) == ["already_gone", "destroyed"]
    for successor in successors:
        successor.sendall(b"x")


def test_pace_takes_its_time(pair: Pair) -> None:
    for _each in range(4):
        states.established(pair)
    start = time.monotonic()
    report = run(pair.client, {"state": "established"}, rate=20)
    assert report.counts == {"destroyed": 4}
    # Two at a time, a tenth of a second apart.
    assert 0.1 <= time.monotonic() - start < 2


# Limits, namespaces, privileges.


def test_above_the_limit_all_live(pair: Pair) -> None:
    held = [states.established(pair) for _each in range(3)]
    report = run(pair.client, {"state": "established"}, max_sockets=MaxSockets(number=2))
    assert report.counts == {"limit": 3}
    for each in held:
        assert each.target is not None
        each.target.sendall(b"x")
    share = MaxSockets(share=0.5)
    assert run(pair.client, {"state": "established"}, max_sockets=share).counts == {"limit": 3}
    whole = MaxSockets(share=1.0)
    assert run(pair.client, {"state": "established"}, max_sockets=whole).counts == {"destroyed": 3}


def test_the_same_addresses_in_two_namespaces_are_two_sockets(lab: Lab) -> None:
    twins = [Pair(lab), Pair(lab)]
    ends: list[socket.socket] = []
    for each in twins:
        listens = states.listener(each.server, each.server4, 7777)
        client = each.client.socket()
        client.bind((each.client4, 40_404))
        client.connect(listens.getsockname())
        each.server.keep(listens.accept()[0])
        ends.append(client)
    assert ends[0].getsockname() == ends[1].getsockname()
    assert ends[0].getpeername() == ends[1].getpeername()
    report = run(twins[1].client, {"local_port": 40_404})
    assert [result.socket.identity for result in report.results] == [
        (twins[1].client.name, "tcp", cookie_of(ends[1]))
    ]
    ends[0].sendall(b"x")
    with pytest.raises(ConnectionAbortedError):
        ends[1].send(b"x")


def test_several_namespaces_in_one_order(lab: Lab) -> None:
    twins = [Pair(lab), Pair(lab)]
    held = [states.established(each) for each in twins]
    report = run([each.client for each in twins], {"state": "established"})
    assert outcomes_of(report) == {each.cookie: "destroyed" for each in held}
    labels = [result.socket.snapshot.namespace.name for result in report.results]
    assert labels == [each.client.name for each in twins]


def test_without_the_privilege(pair: Pair) -> None:
    with holder(pair) as held:
        for check in (True, False):
            answer = ask(
                {"state": "established"},
                [pair.client.name],
                protect={"ssh_sessions": False, "kernel": False},
                without=["net_admin"],
                check=check,
            )
            assert answer["outcomes"] == {held.cookie: "not_permitted"}
        assert held.alive()


def test_nothing_stays_open(pair: Pair) -> None:
    states.established(pair)
    before = sorted(os.listdir("/proc/self/fd"))
    run(pair.client, {"state": "established"})
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_peer_learns_of_it_at_once(pair: Pair) -> None:
    held = states.established(pair)
    assert held.peer is not None
    run(pair.client, {"state": "established"})
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is compared
        held.peer.recv(1)
    assert caught.value.errno == errno.ECONNRESET
