# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destruction through the owner's descriptor (pidfd engine), on any kernel."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable

import pytest

from linuxnet_sockets.destroy.engines import registry
from linuxnet_sockets.destroy.engines.pidfd import PidfdEngine
from linuxnet_sockets.destroy.engines.sock_destroy import NetlinkEngine
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.pidfd import BorrowedFd, Descriptor
from linuxnet_sockets.query.capabilities import bpf_support
from tests.kernel.conftest import Diag, StartOwner
from tests.kernel.pidfd_calls import check_then_run, needs_pidfd, outcomes_of, run
from tests.support.topologies import states
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import Pair
from tests.support.topologies.waiting import until

pytestmark = needs_pidfd

# States without an owning process: it closed the socket, or has not accepted it yet.
OWNERLESS = ("syn-recv", "fin-wait-1", "time-wait", "last-ack")


def _assert_disconnected(sock: socket.socket) -> None:
    with pytest.raises(OSError) as failed:  # noqa: PT011
        sock.send(b"x")
    assert failed.value.errno in (errno.EDESTADDRREQ, errno.ENOTCONN)


# States.


@pytest.mark.parametrize("name", sorted(states.TCP_STATES))
def test_every_state(pair: Pair, diag: Diag, name: str) -> None:
    held = states.TCP_STATES[name](pair)
    match = {
        "state": name,
        "local_port": held.local[1],
        **({"remote_port": held.remote[1]} if held.remote[1] else {}),
    }
    sock = diag(held.where).of(held)
    if name not in OWNERLESS:
        report = check_then_run(held.where, match, "destroyed")
        assert (report.matched, report.engines, report.changed) == (1, ("pidfd",), True)
        assert run(held.where, match).results == []
        assert not diag(held.where).alive(sock)
        return
    report = check_then_run(held.where, match, "survived")
    (result,) = report.results
    assert result.reason is not None
    assert result.reason.rule == "no_owner"
    assert (report.failed, report.changed, report.engines) == (True, False, ())
    assert diag(held.where).of(held).state == sock.state


def test_bound_inactive_survives(pair: Pair) -> None:
    held = states.bound_inactive(pair)
    match = {"state": "bound-inactive", "local_port": held.local[1]}
    (result,) = run(pair.client, match, check=True).results or [None]
    if result is None:
        pytest.skip("this kernel does not list bound-inactive sockets (Linux 6.8 does)")
    (result,) = check_then_run(pair.client, match, "survived").results
    assert result.reason is not None
    assert result.reason.rule == "no_connection"


@pytest.mark.parametrize(
    "make",
    [
        states.established,
        states.established_server,
        lambda pair: states.established(pair, v6=True),
        lambda pair: states.established(pair, mapped=True),
        states.fin_wait_2,
        states.close_wait,
        states.zero_window,
    ],
    ids=["client", "server", "inet6", "mapped", "fin-wait-2", "close-wait", "zero-window"],
)
def test_peer_receives_reset(pair: Pair, make: Callable[[Pair], HeldSocket]) -> None:
    held = make(pair)
    assert held.peer is not None
    assert held.cookie is not None
    report = run(held.where, {"state": "connected", "local_port": held.local[1]})
    assert outcomes_of(report) == {held.cookie: "destroyed"}
    if make is states.fin_wait_2:
        # The peer already received a FIN (tcp_reset in CLOSE_WAIT).
        with pytest.raises(BrokenPipeError):
            held.peer.send(b"x")
    else:
        # Data that arrived before the reset can still be read.
        with pytest.raises(ConnectionResetError):
            _read_all(held.peer)


def _read_all(sock: socket.socket) -> None:
    while sock.recv(1 << 20):
        pass


# Effect on the application.


def test_blocked_recv_fails(pair: Pair, owner: StartOwner) -> None:
    listening = states.listener(pair.server, pair.server4)
    process = owner(pair.client)
    cookie = process.connect(*listening.getsockname())
    accepted = pair.server.close_at_end(listening.accept()[0])
    process.send("blocked recv")
    time.sleep(0.1)
    report = run(pair.client, {"remote_port": listening.getsockname()[1]})
    if outcomes_of(report) == {cookie: "busy"}:
        # This kernel does not disconnect a socket on which a thread waits (EBUSY).
        assert report.failed
        accepted.sendall(b"x")
        assert process.answer() == "b'x'"
        return
    began = time.monotonic()
    assert outcomes_of(report) == {cookie: "destroyed"}
    assert process.answer() in ("EPIPE", "ECONNRESET")
    assert time.monotonic() - began < 2
    # The first recv() returns the pending error of the reset; the next finds no connection.
    assert process.ask("recv") == "ECONNRESET"
    assert process.ask("recv") == "ENOTCONN"
    assert process.ask("send") == "EPIPE"
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)


def test_blocked_connect_fails(pair: Pair, owner: StartOwner) -> None:
    process = owner(pair.client)
    cookie = process.ask("socket")
    process.send(f"blocked connect {pair.silent} 7")
    match = {"state": "syn-sent", "remote": pair.silent}
    until(lambda: run(pair.client, match, check=True).matched, "a connection in SYN_SENT")
    report = run(pair.client, match)
    if outcomes_of(report) == {int(cookie): "busy"}:
        assert report.failed
        assert run(pair.client, match, check=True).matched == 1
        return
    began = time.monotonic()
    assert outcomes_of(report) == {int(cookie): "destroyed"}
    assert process.answer() in ("EPIPE", "ECONNRESET")
    assert time.monotonic() - began < 2


def test_blocked_accept_fails(pair: Pair, owner: StartOwner) -> None:
    process = owner(pair.server)
    cookie, port = process.ask(f"listen {pair.server4}").split()
    process.send("blocked accept")
    time.sleep(0.1)
    match = {"state": "listening", "local_port": int(port)}
    assert outcomes_of(run(pair.server, match)) == {int(cookie): "destroyed"}
    assert process.answer() == "EINVAL"
    assert process.ask("accept") == "EINVAL"


# Datagrams.


@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_udp_explicit_port_disconnected(pair: Pair, v6: bool) -> None:
    held = states.udp_explicit(pair, v6=v6)
    assert held.target is not None
    assert held.peer is not None
    match = {"protocol": "udp", "local_port": held.local[1], "state": "all"}
    check_then_run(pair.client, match, "disconnected")
    _assert_disconnected(held.target)
    held.peer.sendto(b"y", held.local)
    assert held.target.recv(1) == b"y"
    second = check_then_run(pair.client, match, "already_gone")
    assert (second.changed, second.failed) == (False, False)


def test_udp_autobound_destroyed(pair: Pair) -> None:
    held = states.udp_autobound(pair)
    assert held.target is not None
    match = {"protocol": "udp", "remote_port": held.remote[1]}
    check_then_run(pair.client, match, "destroyed")
    assert run(pair.client, match).results == []
    _assert_disconnected(held.target)


@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_udplite_disconnected(pair: Pair, v6: bool) -> None:
    try:
        held = states.udplite_connected(pair, v6=v6)
    except OSError as error:
        pytest.skip(f"this kernel has no UDP-Lite: {error}")
    match = {"protocol": "udplite", "remote_port": held.remote[1]}
    assert run(pair.client, match, engine="netlink").failed
    report = check_then_run(pair.client, match, "disconnected", engine="auto")
    assert report.engines == ("pidfd",)


# Choice of the engine (auto).


def test_auto_prefers_netlink(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    held = states.established(pair)
    match = {"remote_port": held.remote[1]}
    if run(pair.client, match, engine="netlink", check=True).failed:
        pytest.skip("this kernel has no SOCK_DESTROY")

    def fail(_descriptor: Descriptor) -> BorrowedFd:
        raise AssertionError("the pidfd engine was used")

    engines = (NetlinkEngine(), PidfdEngine(fail))
    monkeypatch.setattr(registry, "engines_named", lambda _name: engines)
    report = run(pair.client, match, engine="auto")
    assert (report.counts, report.engines) == ({"destroyed": 1}, ("netlink",))


def test_auto_falls_back_to_pidfd(pair: Pair, diag: Diag) -> None:
    held, orphan = states.established(pair), states.fin_wait_1_orphan(pair)
    match = {"state": ["established", "fin-wait-1"], "local": pair.client4}
    if not run(pair.client, match, engine="netlink", check=True).counts.get(
        "kernel_without_destroy"
    ):
        pytest.skip("this kernel has SOCK_DESTROY")
    if bpf_support(Host(), "tcp").verdict == "supported":
        pytest.skip("auto uses engine bpf on this kernel")
    before = diag(pair.client).of(orphan)
    report = run(pair.client, match, engine="auto")
    outcomes = {result.socket.cookie: (result.outcome, result.engine) for result in report.results}
    assert outcomes == {
        held.cookie: ("destroyed", "pidfd"),
        before.cookie: ("kernel_without_destroy", "netlink"),
    }
    assert {result.reason.rule for result in report.results if result.reason} == {"no_owner"}
    assert diag(pair.client).alive(before)
