# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reported capabilities against the real outcome of destroying sockets, on any kernel."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from linuxnet_sockets.errors import HandlerMissing
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.query import capabilities
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.kernel.destroy_calls import check_then_run, outcomes_of, run
from tests.kernel.releases import release
from tests.support.topologies import states
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import LabNamespace, Pair

_EVERY_STATE = {**states.TCP_STATES, "fin-wait-2 orphan": states.fin_wait_2_orphan}
_WITHOUT = {
    capabilities.BUILT_WITHOUT: "kernel_without_destroy",
    capabilities.NO_DESTROY_HANDLER: "unsupported_protocol",
}


def _verdict(where: LabNamespace, protocol: str) -> str:
    (namespace,) = namespaces.resolve([where.name])
    with NamespaceSession(Host(), namespace) as session:
        return capabilities.support(session)[protocol].verdict


def _pass_a_byte(held: HeldSocket, *, raw: bool) -> None:
    """Send from the target to the peer; from a raw socket an ICMP message that is ignored."""
    assert held.target is not None
    if raw:
        held.target.send(b"\xfd\0\0\0")
        return
    held.target.send(b"a")
    assert held.peer is not None
    assert held.peer.recv(1) == b"a"


@pytest.mark.parametrize(
    ("protocol", "make", "supported"),
    [
        ("tcp", states.established, "destroyed"),
        ("udp", states.udp_explicit, "disconnected"),
        ("udplite", states.udplite_connected, "unsupported_protocol"),
        ("raw", states.raw, "unsupported_protocol"),
        ("mptcp", states.mptcp, "destroyed"),
    ],
)
def test_connected_socket_per_protocol(
    pair: Pair, protocol: str, make: Callable[[Pair], HeldSocket], supported: str
) -> None:
    try:
        held = make(pair)
    except OSError as error:
        pytest.skip(f"no {protocol} sockets here: {error}")
    verdict = _verdict(held.where, protocol)
    match = {"protocol": protocol, "local": held.local[0], "state": "established"}
    if verdict in (capabilities.HANDLER_MISSING, capabilities.PROTOCOL_MISSING):
        with pytest.raises(HandlerMissing):
            run(held.where, match)
        _pass_a_byte(held, raw=protocol == "raw")
        return

    if protocol in ("udplite", "raw"):
        # No kernel destroys exactly the selected one, so none gets a request.
        assert verdict != capabilities.SUPPORTED
        expected = "unsupported_protocol"
    else:
        expected = supported if verdict == capabilities.SUPPORTED else _WITHOUT[verdict]
    report = check_then_run(held.where, match, expected)

    assert outcomes_of(report) == {held.cookie: expected}
    assert held.target is not None
    if expected in ("destroyed", "disconnected"):
        assert (report.changed, report.failed) == (True, False)
        with pytest.raises(ConnectionAbortedError):
            held.target.recv(1)
    else:
        assert (report.changed, report.failed) == (False, True)
        _pass_a_byte(held, raw=protocol == "raw")


@pytest.mark.parametrize("name", sorted(_EVERY_STATE))
def test_every_state_has_predicted_outcome(pair: Pair, name: str) -> None:
    """Check mode and the real run agree, and the outcome is possible on this kernel."""
    held = _EVERY_STATE[name](pair)
    match = {
        "state": name.partition(" ")[0],
        "local_port": held.local[1],
        **({"remote_port": held.remote[1]} if held.remote[1] else {}),
    }

    predicted = run(held.where, match, check=True)
    report = run(held.where, match)

    assert outcomes_of(report) == outcomes_of(predicted)
    assert report.matched == 1
    (outcome,) = report.counts
    possible = {"kernel_without_destroy"}
    if _verdict(held.where, "tcp") == capabilities.SUPPORTED:
        # FIN_WAIT_2 without an application is a TIME_WAIT socket for the kernel.
        possible = {"destroyed"}
        if name in ("time-wait", "fin-wait-2 orphan") and release() < (6, 0):
            possible = {"kernel_without_destroy"}
        elif name in ("fin-wait-1", "last-ack") and release() < (6, 11):
            possible = {"kernel_defect"}
    assert outcome in possible
    left = run(held.where, match, check=True).results
    assert [result.socket.cookie for result in left] == (
        [] if outcome == "destroyed" else [report.results[0].socket.cookie]
    )


def test_fin_wait_1_orphan_is_skipped_on_defective_kernels(pair: Pair) -> None:
    """If the netlink engine skips it, its data reaches the peer and it closes on its own."""
    held = states.fin_wait_1_orphan(pair)
    match = {"state": "fin-wait-1", "local_port": held.local[1]}
    if _verdict(pair.client, "tcp") != capabilities.SUPPORTED:
        pytest.skip("this kernel cannot destroy")
    report = run(pair.client, match)
    (outcome,) = report.counts
    if outcome == "destroyed":
        return
    assert outcome == "kernel_defect"
    assert held.peer is not None
    while held.peer.recv(65536):
        pass
    held.peer.close()
    assert run(pair.client, match).results == []


def test_kernel_ignores_cookie_of_raw_socket(pair: Pair) -> None:
    """The kernel destroys any raw socket with these addresses, so the core destroys none."""
    if _verdict(pair.client, "raw") not in (capabilities.NO_COOKIE_CHECK, capabilities.SUPPORTED):
        pytest.skip("this kernel cannot destroy raw sockets")
    held = states.raw(pair)
    assert held.target is not None
    (namespace,) = namespaces.resolve([pair.client.name])
    with NamespaceSession(Host(), namespace) as session:
        (sock,) = inet_diag.dump(session.diag, "raw", socket.AF_INET)
        assert inet_diag.destroy(session.diag, [sock._replace(cookie=sock.cookie ^ 1)]) == [0]
    with pytest.raises(ConnectionAbortedError):
        held.target.recv(1)
