# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pidfd engine destroys an MPTCP connection with all its subflows, or not at all."""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.model import DestroyOptions
from linuxnet_sockets.host import namespaces, pidfd
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.pidfd import BorrowedFd, Descriptor
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.selector.parse import parse_selector
from tests.kernel.conftest import Diag
from tests.kernel.pidfd_calls import (
    UNGUARDED,
    check_then_run,
    needs_pidfd,
    outcomes_of,
    replace_borrow,
    run,
)
from tests.support.topologies import states
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import LabNamespace, Pair
from tests.support.topologies.waiting import until

pytestmark = needs_pidfd


@pytest.fixture
def joined(pair: Pair) -> HeldSocket:
    """An MPTCP connection with two subflows: the client joins from a second address."""
    return _joined(pair)


def _joined(pair: Pair) -> HeldSocket:
    device, _far = pair.lab.connect(pair.client, pair.server, ["198.18.0.1/24"], ["198.18.0.2/24"])
    try:
        states.mptcp(pair).close()
        for where in (pair.client, pair.server):
            where.output("ip", "mptcp", "limits", "set", "subflow", "4", "add_addr_accepted", "4")
        pair.client.output("ip", "mptcp", "endpoint", "add", "198.18.0.1", "dev", device, "subflow")
        held = states.mptcp(pair)
    except (OSError, ValueError) as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")
    return held


def _of_port(
    diag: Diag, where: LabNamespace, port: int, protocol: str
) -> list[inet_diag.DiagMessage]:
    return [
        sock
        for sock in diag(where).all(protocol, inet_diag.ANY_STATE & ~(1 << 13))
        if port in (sock.dport, sock.sport) and sock.state not in (6, 10)
    ]


def _two_subflows(diag: Diag, held: HeldSocket) -> list[inet_diag.DiagMessage]:
    return until(
        lambda: (
            found
            if len(found := _of_port(diag, held.where, held.remote[1], "tcp")) == 2
            and {sock.state for sock in found} == {1}
            else None
        ),
        "the second subflow",
    )


def _assert_closed(held: HeldSocket) -> None:
    assert held.target is not None
    assert held.peer is not None
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        held.target.send(b"x")
    with pytest.raises(ConnectionResetError):
        held.peer.recv(1)


@pytest.mark.parametrize("engine", ["auto", "pidfd"])
def test_mptcp_connection_destroyed_whole(
    pair: Pair, diag: Diag, joined: HeldSocket, engine: str
) -> None:
    port = joined.remote[1]
    _two_subflows(diag, joined)
    report = check_then_run(
        pair.client, {"protocol": "mptcp", "remote_port": port}, "destroyed", engine=engine
    )
    assert outcomes_of(report) == {joined.cookie: "destroyed"}
    assert report.engines == ("pidfd",)
    for protocol in ("mptcp", "tcp"):
        assert _of_port(diag, pair.client, port, protocol) == []
    _assert_closed(joined)


@pytest.mark.parametrize("engine", ["auto", "netlink", "pidfd"])
@pytest.mark.parametrize("protocol", ["tcp", ["tcp", "mptcp"]])
def test_selected_subflow_protected(
    pair: Pair, diag: Diag, joined: HeldSocket, engine: str, protocol: str | list[str]
) -> None:
    """The connection continues on its other subflow."""
    assert joined.target is not None
    assert joined.peer is not None
    _two_subflows(diag, joined)
    for local, other in (("198.18.0.1", pair.client4), (pair.client4, "198.18.0.1")):
        match = {"protocol": protocol, "local": local, "remote_port": joined.remote[1]}
        report = check_then_run(pair.client, match, "protected", engine=engine)
        subflow = next(each for each in report.results if each.socket.protocol == "tcp")
        assert subflow.reason is not None
        assert subflow.reason.rule == "other_subflows"
        assert other in str(subflow.reason.detail)
    assert len(_two_subflows(diag, joined)) == 2
    joined.target.sendall(b"alive")
    assert joined.peer.recv(5) == b"alive"


def test_policy_leaves_connection_with_other_subflow(
    pair: Pair, diag: Diag, joined: HeldSocket
) -> None:
    """One subflow lost its address: no failure, and no advice to destroy the connection."""
    assert joined.target is not None
    assert joined.peer is not None
    _two_subflows(diag, joined)
    policy: dict[str, Any] = {
        "version": 1,
        "namespaces": [pair.client.name],
        "limits": {"max_sockets": 5},
        "protect": {"control_connection": False},
        "rules": [{"name": "old", "match": {"local": "198.18.0.1"}, "hold": 0}],
    }
    for engine in ("netlink", "auto"):
        result = api.enforce_policy(policy, engine=engine)
        assert result.outcomes == {"protected": 1}
        assert result.protected[0]["reason"] == "other_subflows"
        assert not result.failures
    joined.target.sendall(b"alive")
    assert joined.peer.recv(5) == b"alive"
    # Two rules, each with one subflow.
    policy["rules"].append({"name": "new", "match": {"local": pair.client4}, "hold": 0})
    assert api.enforce_policy(policy, engine="auto").outcomes == {"destroyed": 2}
    _assert_closed(joined)


@pytest.mark.parametrize("engine", ["auto", "pidfd"])
def test_all_subflows_selected_destroys_connection(
    pair: Pair, diag: Diag, joined: HeldSocket, engine: str
) -> None:
    first, second = _two_subflows(diag, joined)
    match = {"protocol": "tcp", "remote_port": joined.remote[1]}
    report = check_then_run(pair.client, match, "destroyed", engine=engine)
    assert (report.matched, report.engines) == (2, ("pidfd",))
    assert set(outcomes_of(report)) == {first.cookie, second.cookie}
    for protocol in ("mptcp", "tcp"):
        assert _of_port(diag, pair.client, joined.remote[1], protocol) == []
    _assert_closed(joined)


def test_connection_and_subflows_disconnected_once(
    pair: Pair, diag: Diag, joined: HeldSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_subflows(diag, joined)
    borrowed: list[Descriptor] = []

    def borrow(descriptor: Descriptor) -> BorrowedFd:
        borrowed.append(descriptor)
        return pidfd.borrow_fd(descriptor)

    replace_borrow(monkeypatch, borrow)
    report = run(pair.client, {"protocol": ["tcp", "mptcp"], "remote_port": joined.remote[1]})
    assert (report.matched, report.counts) == (3, {"destroyed": 3})
    assert len(borrowed) == 1


def test_netlink_leaves_subflows(pair: Pair, diag: Diag, joined: HeldSocket) -> None:
    assert joined.target is not None
    assert joined.peer is not None
    before = _two_subflows(diag, joined)
    match = {"protocol": ["tcp", "mptcp"], "remote_port": joined.remote[1]}
    report = check_then_run(pair.client, match, "unsupported_protocol", engine="netlink")
    assert report.matched == 3
    after = _two_subflows(diag, joined)
    assert {sock.cookie for sock in after} == {sock.cookie for sock in before}
    joined.target.sendall(b"alive")
    assert joined.peer.recv(5) == b"alive"


def test_joined_subflow_shares_inode(diag: Diag, joined: HeldSocket) -> None:
    """The guard's owner rules therefore apply to all subflows."""
    assert joined.target is not None
    inodes = {sock.inode for sock in _two_subflows(diag, joined)}
    own = os.fstat(joined.target.fileno()).st_ino
    if inodes != {own}:
        pytest.xfail(f"this kernel gives a joined subflow an inode of its own: {inodes}, {own}")


def _mptcp_or_skip(where: LabNamespace) -> socket.socket:
    try:
        where.sysctl("mptcp/enabled", 1)
        return where.socket(socket.AF_INET, socket.SOCK_STREAM, states.IPPROTO_MPTCP)
    except OSError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")


def test_fallback_to_tcp_destroyed(pair: Pair, diag: Diag) -> None:
    """After a fallback to TCP the subflow still belongs to an MPTCP socket."""
    client = _mptcp_or_skip(pair.client)
    listening = states.listener(pair.server, pair.server4)
    client.connect(listening.getsockname())
    accepted = pair.server.close_at_end(listening.accept()[0])
    client.sendall(b"x")
    assert accepted.recv(1) == b"x"
    port = listening.getsockname()[1]
    report = check_then_run(pair.client, {"remote_port": port}, "destroyed", engine="auto")
    assert report.matched == 1
    for protocol in ("mptcp", "tcp"):
        assert _of_port(diag, pair.client, port, protocol) == []
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)


def test_mptcp_listener(pair: Pair) -> None:
    _mptcp_or_skip(pair.server)
    listening = states.listener(pair.server, pair.server4, protocol=states.IPPROTO_MPTCP)
    match = {"state": "listening", "local_port": listening.getsockname()[1]}
    try:
        report = check_then_run(pair.server, match, "destroyed", engine="auto")
    finally:
        listening.settimeout(1)
    assert report.engines == ("pidfd",)
    with pytest.raises(OSError, match="Invalid argument"):
        listening.accept()


def test_orphaned_mptcp_connection_survives(pair: Pair) -> None:
    """The application closed the connection, and the peer has not closed it yet."""
    try:
        held = states.mptcp(pair)
    except OSError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")
    assert held.target is not None
    held.target.close()
    match = {"protocol": "mptcp", "state": "all", "remote_port": held.remote[1]}
    results = run(pair.client, match).results
    assert {result.outcome for result in results} <= {"survived"}
    assert {result.reason.rule for result in results if result.reason} <= {"no_owner"}
    assert len(results) == 1


@pytest.mark.parametrize("protocol", ["tcp", "mptcp"])
def test_partly_protected_connection_protected(
    pair: Pair, diag: Diag, joined: HeldSocket, protocol: str
) -> None:
    _two_subflows(diag, joined)
    host = Host()
    match = {"protocol": protocol, "local": pair.client4, "remote_port": joined.remote[1]}
    protect = parse_selector({"local": "198.18.0.1"}, names=host, role="protect")
    guard = dataclasses.replace(UNGUARDED, selectors=(("mine", protect),))
    for check in (True, False):
        (result,) = destroy(
            host,
            parse_selector(match, names=host, role="destroy"),
            namespaces.resolve([pair.client.name]),
            DestroyOptions(guard, engine="auto", check=check),
        ).results
        assert result.outcome == "protected"
        assert result.reason is not None
        assert result.reason.rule == "selector"
        assert "MPTCP" in str(result.reason.detail)
    assert len(_two_subflows(diag, joined)) == 2
