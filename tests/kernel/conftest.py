# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on the real kernel, in namespaces of their own: root, or root of a user namespace."""

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
from tests.support.topologies.crowd import gather
from tests.support.topologies.states import Held
from tests.support.topologies.topology import Lab, LabNamespace, Pair

_HERE = Path(__file__).parent

# What these check is shown as the checks of tests are; to be said before anybody imports them.
pytest.register_assert_rewrite(
    "tests.kernel.agent.running",
    "tests.kernel.borrowing",
    "tests.kernel.drain.background",
    "tests.kernel.stranded.connections",
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernel: runs on the real kernel, in network namespaces")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker("kernel")


@pytest.fixture(scope="session", autouse=True)
def _possible() -> None:
    reason = topology.missing()
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
    """Sockets of every kind; tests of a module share it and leave it as it is."""
    with topology.pair() as filled:
        gather(filled)
        yield filled


StartOwner = Callable[[LabNamespace], Owner]


@pytest.fixture
def owner() -> Iterator[StartOwner]:
    """Start a process in a namespace that holds sockets and does with them what it is told."""
    with contextlib.ExitStack() as stack:
        yield lambda where: stack.enter_context(Owner(where))


Diag = Callable[[LabNamespace], "Sockets"]


class Sockets:
    """The core's view of one namespace's sockets."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def all(
        self, protocol: str = "tcp", states: int = inet_diag.ANY_STATE, extensions: int = 0
    ) -> list[inet_diag.DiagMessage]:
        found: list[inet_diag.DiagMessage] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            found += inet_diag.dump(self.connection, protocol, family, states, extensions)
        return found

    def of(self, held: Held, protocol: str = "tcp") -> inet_diag.DiagMessage:
        """The held socket, by its cookie; by its ends where no process ever had it."""
        (found,) = [
            each
            for each in self.all(protocol)
            if (
                each.cookie == held.cookie
                if held.cookie is not None
                else each.state != 10
                and (each.sport, each.dport) == (held.local[1], held.remote[1])
            )
        ]
        return found

    def destroy(self, *socks: inet_diag.DiagMessage) -> list[int]:
        return inet_diag.destroy(self.connection, socks)

    def alive(self, sock: inet_diag.DiagMessage) -> bool:
        """Whether a fresh look finds the cookie, in a state that is not that of a closed socket."""
        states = inet_diag.ANY_STATE & ~(1 << 13)
        return any(each.cookie == sock.cookie for each in self.all(sock.protocol, states))


@pytest.fixture
def diag() -> Iterator[Diag]:
    """A namespace of the lab, as the core sees it."""
    opened: list[Connection] = []

    def look(where: LabNamespace) -> Sockets:
        (namespace,) = namespaces.resolve([where.name])
        opened.append(Connection(namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG)))
        return Sockets(opened[-1])

    yield look
    for connection in opened:
        connection.close()
