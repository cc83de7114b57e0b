# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connected UDP sockets on a shared port: one socket per client beside a listener."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from linuxnet_sockets import api
from tests.kernel.pidfd_calls import needs_pidfd
from tests.support.topologies.topology import LabNamespace, Pair

# The test holds the sockets itself.
_PROTECT = {"control_connection": False}
_PORT = 4433


class Server(NamedTuple):
    """A listener, and a connected socket on the same port for one client."""

    where: LabNamespace
    listener: socket.socket
    connected: socket.socket
    client: socket.socket

    @property
    def match(self) -> dict[str, Any]:
        return {"protocol": "udp", "remote_port": self.client.getsockname()[1]}


def _bound(where: LabNamespace, address: str, option: int, port: int = _PORT) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = where.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind((address, port))
    return sock


def _server(
    pair: Pair,
    listens_on: Callable[[Pair], str],
    connects_from: Callable[[Pair], str] | None = None,
    *,
    option: int = socket.SO_REUSEPORT,
    v6: bool = False,
) -> Server:
    listener = _bound(pair.server, listens_on(pair), option)
    address = pair.server6 if v6 else pair.server4
    client = pair.client.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((address, _PORT))
    name = client.getsockname()
    connected = _bound(pair.server, (connects_from or listens_on)(pair), option)
    mapped = connected.family == socket.AF_INET6 and not v6
    connected.connect((f"::ffff:{name[0]}" if mapped else name[0], name[1]))
    return Server(pair.server, listener, connected, client)


_SHARED: dict[str, Callable[[Pair], Server]] = {
    "SO_REUSEPORT": lambda pair: _server(pair, lambda pair: pair.server4),
    "SO_REUSEADDR": lambda pair: _server(
        pair, lambda pair: pair.server4, option=socket.SO_REUSEADDR
    ),
    "unspecified": lambda pair: _server(pair, lambda _pair: "0.0.0.0"),
    "unspecified-and-address": lambda pair: _server(
        pair, lambda _pair: "0.0.0.0", lambda pair: pair.server4
    ),
    "inet6": lambda pair: _server(pair, lambda pair: pair.server6, v6=True),
    "inet6-unspecified": lambda pair: _server(pair, lambda _pair: "::", v6=True),
    "v4-mapped": lambda pair: _server(pair, lambda _pair: "::"),
    "inet-beside-dual-stack": lambda pair: _server(
        pair, lambda _pair: "::", lambda pair: pair.server4, option=socket.SO_REUSEADDR
    ),
}


@pytest.mark.parametrize("engine", ["netlink", pytest.param("pidfd", marks=needs_pidfd)])
@pytest.mark.parametrize("kind", _SHARED)
def test_shared_port_protected(pair: Pair, kind: str, engine: str) -> None:
    server = _SHARED[kind](pair)
    for check in (True, False):
        result = _destroy(server, engine=engine, check=check)
        assert result.outcomes == {"protected": 1}
        (entry,) = result.protected
        assert entry["reason"] == "shared_port"
        assert "1 other socket" in entry["reason_detail"]
        assert not result.changed
    _receives(server.connected, server.client)


def test_shared_port_destroyed_by_name_with_warning(pair: Pair) -> None:
    """The warning is right: the socket takes the datagrams of other clients."""
    server = _SHARED["unspecified-and-address"](pair)
    for check in (True, False):
        result = _destroy(server, check=check, protect={**_PROTECT, "shared_port": False})
        assert result.outcomes == {"disconnected": 1}
        assert result.destroyed[0]["reason"] == "shared_port"
        assert [type(each).__name__ for each in result.warnings] == ["PortsShared"]
    other = pair.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.connect((pair.server4, _PORT))
    with pytest.raises(ConnectionAbortedError):
        server.connected.recv(1)
    _receives(server.connected, other)


def test_drain_and_policy_protect_shared_port(pair: Pair) -> None:
    server = _SHARED["SO_REUSEPORT"](pair)
    where = [server.where.name]
    drained = api.drain(server.match, namespaces=where, protect=_PROTECT, grace="0s")
    assert [entry["reason"] for entry in drained.protected] == ["shared_port"]
    policy = {
        "version": 1,
        "namespaces": where,
        "limits": {"max_sockets": 5},
        "protect": _PROTECT,
        "rules": [{"name": "all", "match": server.match, "hold": 0}],
    }
    enforced = api.enforce_policy(policy)
    assert [entry["reason"] for entry in enforced.protected] == ["shared_port"]
    assert not enforced.failures
    policy["protect"] = {**_PROTECT, "shared_port": False}
    enforced = api.enforce_policy(policy)
    assert enforced.outcomes == {"disconnected": 1}
    assert [type(each).__name__ for each in enforced.warnings] == ["PortsShared"]


def _alone(pair: Pair) -> Server:
    server = _SHARED["SO_REUSEPORT"](pair)
    server.listener.close()
    return server


def _listener_on_other_address(pair: Pair) -> Server:
    return _server(pair, lambda _pair: "127.0.0.1", lambda pair: pair.server4)


def _listener_on_other_protocol(pair: Pair) -> Server:
    server = _alone(pair)
    listener = pair.server.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((pair.server4, _PORT))
    listener.listen()
    return server._replace(listener=listener)


def _listener_on_other_device(pair: Pair) -> Server:
    server = _SHARED["SO_REUSEPORT"](pair)
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    device = _device(pair)
    server.connected.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    return server


def _device(pair: Pair) -> bytes:
    listed = pair.server.output("ip", "-o", "-4", "address", "show", "to", pair.server4)
    return listed.split()[1].encode() + b"\0"


def _v6only_listener(pair: Pair) -> Server:
    server = _alone(pair)
    listener = pair.server.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(("::", _PORT))
    return server._replace(listener=listener)


@pytest.mark.parametrize(
    "make",
    [
        _alone,
        _listener_on_other_address,
        _listener_on_other_protocol,
        _listener_on_other_device,
        _v6only_listener,
    ],
)
def test_port_not_shared(pair: Pair, make: Callable[[Pair], Server]) -> None:
    result = _destroy(make(pair))
    assert result.outcomes == {"disconnected": 1}
    assert not result.warnings


def test_port_chosen_by_kernel_destroyed(pair: Pair) -> None:
    """It is unhashed, so it takes no datagrams of the socket that shares its port."""
    server = pair.server
    connected = _bound(server, pair.server4, socket.SO_REUSEPORT, port=0)
    connected.connect((pair.client4, 9))
    port = connected.getsockname()[1]
    listener = _bound(server, pair.server4, socket.SO_REUSEPORT, port=port)
    client = pair.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((pair.server4, port))
    match = {"protocol": "udp", "local_port": port, "remote_port": 9}
    result = api.destroy(match, namespaces=[server.name], protect=_PROTECT)
    assert result.outcomes == {"destroyed": 1}
    _receives(listener, client)


def _destroy(server: Server, **options: Any) -> api.DestroyResult:
    arguments = {"namespaces": [server.where.name], "protect": _PROTECT, **options}
    return api.destroy(server.match, **arguments)


def _receives(sock: socket.socket, client: socket.socket) -> None:
    sock.settimeout(5)
    client.send(b"x")
    assert sock.recv(1) == b"x"


@needs_pidfd
def test_shared_udplite_port_protected(pair: Pair) -> None:
    """Only engine pidfd disconnects UDP-Lite sockets. A UDP socket does not share their port."""
    group = []
    for number in range(2):
        try:
            sock = pair.server.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)
        except OSError as error:
            pytest.skip(f"this kernel has no UDP-Lite: {error}")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((pair.server4, _PORT))
        sock.connect((pair.client4, 9 + number))
        group.append(sock)
    _bound(pair.server, pair.server4, socket.SO_REUSEPORT)
    match = {"protocol": "udplite", "local_port": _PORT}
    where = {"namespaces": [pair.server.name], "protect": _PROTECT, "engine": "pidfd"}
    assert api.destroy(match, **where).outcomes == {"protected": 2}
    group.pop().close()
    assert api.destroy(match, **where).outcomes == {"disconnected": 1}
