# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests on the running kernel. They need root, or root of a user namespace."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linuxnet_sockets.host import namespaces
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.netlink.connection import NETLINK_SOCK_DIAG, Connection
from tests.kernel.owner import Owner
from tests.support.topologies import topology
from tests.support.topologies.all_sockets import open_all
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import Lab, LabNamespace, Pair

_HERE = Path(__file__).parent

# Assertions in these helpers are rewritten as in tests. Register them before the first import.
pytest.register_assert_rewrite(
    "tests.kernel.agent.running",
    "tests.kernel.pidfd_calls",
    "tests.kernel.drain.background",
    "tests.kernel.stranded.connections",
    "tests.kernel.threats.vpn",
    "tests.support.unit_agent",
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernel: runs on the real kernel, in network namespaces")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker("kernel")


@pytest.fixture(scope="session", autouse=True)
def _require_namespaces() -> None:
    reason = topology.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def pair(lab: Lab) -> Pair:
    return Pair(lab)


@pytest.fixture(scope="module")
def crowd() -> Iterator[Pair]:
    """Sockets of every kind, shared by the tests of a module. They must not change it."""
    with topology.pair() as filled:
        open_all(filled)
        yield filled


StartOwner = Callable[[LabNamespace], Owner]


@pytest.fixture
def owner() -> Iterator[StartOwner]:
    """Start a process in a namespace that owns sockets and executes commands on them."""
    with contextlib.ExitStack() as stack:
        yield lambda where: stack.enter_context(Owner(where))


Diag = Callable[[LabNamespace], "Sockets"]


class Sockets:
    """Sockets of one namespace, dumped and destroyed through the core."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def all(
        self, protocol: str = "tcp", states: int = inet_diag.ANY_STATE, extensions: int = 0
    ) -> list[inet_diag.DiagMessage]:
        found: list[inet_diag.DiagMessage] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            found += inet_diag.dump(self.connection, protocol, family, states, extensions)
        return found

    def of(self, held: HeldSocket, protocol: str = "tcp") -> inet_diag.DiagMessage:
        """Find the socket by cookie, or by its ports if no process ever had it."""
        (found,) = [
            sock
            for sock in self.all(protocol)
            if (
                sock.cookie == held.cookie
                if held.cookie is not None
                else sock.state != 10
                and (sock.sport, sock.dport) == (held.local[1], held.remote[1])
            )
        ]
        return found

    def destroy(self, *socks: inet_diag.DiagMessage) -> list[int]:
        return inet_diag.destroy(self.connection, socks)

    def alive(self, sock: inet_diag.DiagMessage) -> bool:
        """Whether a new dump lists the cookie, bound-inactive sockets excluded."""
        states = inet_diag.ANY_STATE & ~(1 << 13)
        return any(other.cookie == sock.cookie for other in self.all(sock.protocol, states))


@pytest.fixture
def engine() -> str:
    """The engine that destroys sockets. Modules that test several replace this fixture."""
    return "netlink"


@pytest.fixture
def diag(engine: str) -> Iterator[Diag]:
    """Open the sockets of a namespace of the lab."""
    from tests.kernel.bpf_calls import BpfSockets

    opened: list[Connection] = []

    def open_sockets(where: LabNamespace) -> Sockets:
        (namespace,) = namespaces.resolve([where.name])
        opened.append(Connection(namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG)))
        sockets = Sockets(opened[-1])
        return sockets if engine == "netlink" else BpfSockets(namespace, sockets)

    yield open_sockets
    for connection in opened:
        connection.close()
