# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stranded connections in every state, and the result of destroying them."""

from __future__ import annotations

import errno
import io
import socket
from collections.abc import Callable

import pytest

from linuxnet_sockets.errors import InputError
from tests.kernel.conftest import Diag
from tests.kernel.destroy_calls import outcomes_of, run
from tests.kernel.socket_options import require_socket_options
from tests.kernel.stranded.connections import (
    GONE,
    NOTHING,
    UNROUTABLE,
    Connections,
    selected,
    strandings,
)
from tests.support.topologies import states
from tests.support.topologies.networks import UplinkConnection, Uplinks, ip
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import LabNamespace, Pair

_HELD: dict[str, Callable[[Pair], HeldSocket]] = {
    **states.TCP_STATES,
    "fin-wait-2 orphan": states.fin_wait_2_orphan,
    "zero window": states.zero_window,
    "udp": states.udp_explicit,
    "udp, mapped": lambda pair: states.udp_explicit(pair, mapped=True),
    "udp, autobound": states.udp_autobound,
    "udp, unconnected": states.udp_unconnected,
}
_WITHOUT_PEER = ("listening", "udp, unconnected")
# For these the kernel does not report whether they need a local source address.
_WITHOUT_OPTIONS = ("syn-recv", "time-wait", "fin-wait-2 orphan")


def _without_addresses(pair: Pair) -> None:
    for where, device, addresses in (
        (pair.client, pair.client_device, (f"{pair.client4}/24", f"{pair.client6}/64")),
        (pair.server, pair.server_device, (f"{pair.server4}/24", f"{pair.server6}/64")),
    ):
        ip(where, *(f"addr del {each} dev {device}" for each in addresses))


def test_every_state(pair: Pair, diag: Diag) -> None:
    require_socket_options(pair.client)
    held = {name: make(pair) for name, make in _HELD.items()}
    cookies = {
        name: diag(each.where).of(each, "udp" if "udp" in name else "tcp").cookie
        for name, each in held.items()
    }

    def found() -> dict[str, frozenset[str] | None]:
        by_cookie = {**strandings(pair.client), **strandings(pair.server)}
        return {name: by_cookie[cookie] for name, cookie in cookies.items()}

    unknown = dict.fromkeys(_WITHOUT_PEER)
    assert found() == {**dict.fromkeys(held, NOTHING), **unknown}
    _without_addresses(pair)
    gone = dict.fromkeys(held, GONE | UNROUTABLE)
    assert found() == {**gone, **unknown, **dict.fromkeys(_WITHOUT_OPTIONS)}
    for each in held.values():
        each.close()


def _printed_by_ss(where: LabNamespace) -> set[int]:
    """The cookies of the connections that ss(8) prints."""
    printed = where.output("ss", "-H", "-O", "-n", "-e", "-t", "-u", "state", "connected")
    return {int(word.removeprefix("sk:"), 16) for word in printed.split() if word.startswith("sk:")}


def _cookies(opened_connections: dict[str, UplinkConnection]) -> set[int]:
    return {connection.cookie for connection in opened_connections.values()}


def test_stranded_verdict_destroys_only_stranded_connections(
    uplinks: Uplinks, connections: Connections
) -> None:
    """Their owners get an error, which the network alone would never cause."""
    host = uplinks.host
    before = _printed_by_ss(host)
    ip(host, f"addr del {uplinks.eth4}/24 dev eth0")
    match = {"stranded": ["address_gone"], "protocol": ["tcp", "udp"]}
    predicted = run(host, match, check=True)
    assert _printed_by_ss(host) == before
    report = run(host, match)
    stranded = _cookies(connections.four)
    assert outcomes_of(report).keys() == outcomes_of(predicted).keys() == stranded
    assert set(outcomes_of(report).values()) <= {"destroyed", "disconnected"}
    assert _printed_by_ss(host) == before - stranded
    for name, connection in connections.four.items():
        with pytest.raises(OSError) as caught:  # noqa: PT011
            connection.sock.recv(1)
        assert caught.value.errno == errno.ECONNABORTED, name
    for name in ("tcp6", "tcp6, bound", "wlan", "loopback", "both ends local"):
        connection = {**connections.six, **connections.others}[name]
        assert connection.peer is not None
        connection.sock.sendall(b"alive")
        assert connection.peer.recv(5) == b"alive"
    assert outcomes_of(run(host, match)) == {}


def test_rerouted_to_vpn_destroys_only_bypassing_connections(
    uplinks: Uplinks, connections: Connections, tunnel: Callable[..., io.FileIO]
) -> None:
    host = uplinks.host
    tunnel("tun0")
    ip(host, "addr add 10.9.0.1/32 dev tun0", f"route add {uplinks.service4}/32 dev tun0")
    ip(host, f"route replace {uplinks.other6} metric 1")
    before = _printed_by_ss(host)
    assert selected(host, stranded="rerouted") == _cookies(connections.four) | _cookies(
        connections.six
    )
    report = run(host, {"stranded": [{"verdict": "rerouted", "to": ["tun0"]}]})
    bypassing = {
        connection.cookie
        for connection in connections.four.values()
        if connection.sock.type == socket.SOCK_STREAM
    }
    assert outcomes_of(report) == dict.fromkeys(bypassing, "destroyed")
    assert _printed_by_ss(host) == before - bypassing


def test_rerouted_without_to_destroys_nothing(uplinks: Uplinks) -> None:
    with pytest.raises(InputError, match="rerouted"):
        run(uplinks.host, {"stranded": ["address_gone", "rerouted"]})
