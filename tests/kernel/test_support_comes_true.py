# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel is said to be able to do is what happens to its sockets, whatever the kernel."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from linuxnet_sockets import namespaces, support
from linuxnet_sockets.errors import HandlerMissing
from linuxnet_sockets.host import Host
from linuxnet_sockets.look import View
from linuxnet_sockets.wire import inet_diag
from tests.kernel.test_destroy_orders import as_predicted, outcomes_of, run
from tests.lab import states
from tests.lab.states import Held
from tests.lab.topology import LabNamespace, Pair

_WITHOUT = {
    support.BUILT_WITHOUT: "kernel_without_destroy",
    support.NO_DESTROY_HANDLER: "unsupported_protocol",
    support.NO_COOKIE_CHECK: "unsupported_protocol",
}


def _verdict(where: LabNamespace, protocol: str) -> str:
    (namespace,) = namespaces.resolve([where.name])
    with View(Host(), namespace) as view:
        return support.support(view)[protocol].verdict


def _pass_a_byte(held: Held, *, raw: bool) -> None:
    """From the peer to the target; for a raw socket an ICMP message that the kernel ignores."""
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
        ("udplite", states.udplite_connected, None),
        ("raw", states.raw, None),
        ("mptcp", states.mptcp, None),
    ],
)
def test_a_connected_socket(
    pair: Pair, protocol: str, make: Callable[[Pair], Held], supported: str | None
) -> None:
    try:
        held = make(pair)
    except OSError as error:
        pytest.skip(f"no {protocol} sockets here: {error}")
    verdict = _verdict(held.where, protocol)
    match = {"protocol": protocol, "local": held.local[0], "state": "established"}
    if verdict == support.HANDLER_MISSING:
        with pytest.raises(HandlerMissing):
            run(held.where, match)
        _pass_a_byte(held, raw=protocol == "raw")
        return

    expected = supported if verdict == support.SUPPORTED else _WITHOUT[verdict]
    assert expected is not None, f"nothing is promised for {protocol} where it is {verdict}"
    report = as_predicted(held.where, match, expected)

    assert outcomes_of(report) == {held.cookie: expected}
    assert held.target is not None
    if expected in ("destroyed", "disconnected"):
        assert (report.changed, report.failed) == (True, False)
        with pytest.raises(ConnectionAbortedError):
            held.target.recv(1)
    else:
        assert (report.changed, report.failed) == (False, True)
        _pass_a_byte(held, raw=protocol == "raw")


def test_nothing_at_all_is_destroyed_where_the_kernel_cannot(pair: Pair) -> None:
    """Every TCP state: all of them are gone, or all of them live and are said to."""
    if _verdict(pair.client, "tcp") == support.SUPPORTED:
        pytest.skip("this kernel can destroy; test_destroy_orders has every state")
    for make in states.TCP_STATES.values():
        make(pair)
    for where in (pair.client, pair.server):
        report = as_predicted(where, {"state": "all"}, "kernel_without_destroy")
        assert (report.changed, report.failed) == (False, True)
        assert set(outcomes_of(run(where, {"state": "all"}))) == set(outcomes_of(report))


def test_an_orphan_the_kernel_would_make_immortal_is_left_and_ends_by_itself(pair: Pair) -> None:
    """Where the netlink engine declines it, the application's data still reaches the peer."""
    held = states.fin_wait_1_orphan(pair)
    match = {"state": "fin-wait-1", "local_port": held.local[1]}
    if _verdict(pair.client, "tcp") != support.SUPPORTED:
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


def test_raw_sockets_cannot_be_told_apart(pair: Pair) -> None:
    """Why none is destroyed: the kernel takes one that fits the addresses, whatever its cookie."""
    if _verdict(pair.client, "raw") not in (support.NO_COOKIE_CHECK, support.SUPPORTED):
        pytest.skip("this kernel cannot destroy raw sockets")
    held = states.raw(pair)
    assert held.target is not None
    (namespace,) = namespaces.resolve([pair.client.name])
    with View(Host(), namespace) as view:
        (sock,) = inet_diag.dump(view.diag, "raw", socket.AF_INET)
        assert inet_diag.destroy(view.diag, [sock._replace(cookie=sock.cookie ^ 1)]) == [0]
    with pytest.raises(ConnectionAbortedError):
        held.target.recv(1)
