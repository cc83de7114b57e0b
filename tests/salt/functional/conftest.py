# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with connections to two servers, in network namespaces that states and beacons reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.socket_process import SocketProcess
from tests.support.topologies.topology import LabNamespace, Pair, pair, unavailable_reason

PORT, OTHER_PORT = 5432, 6543


class Connections:
    """A process on the client with two connections to PORT of the server and one to OTHER_PORT."""

    def __init__(self, topology: Pair) -> None:
        self.topology = topology
        self.server = SocketProcess(topology.server.spawn)
        self.client = SocketProcess(topology.client.spawn)
        for port in (PORT, OTHER_PORT):
            self.server.listen(topology.server4, port)
        self.targets = self.connect(2)
        self.other = self.connect(1, OTHER_PORT)[0]

    @property
    def host(self) -> LabNamespace:
        return self.topology.client

    @property
    def namespaces(self) -> list[str]:
        return [self.host.name]

    def connect(self, count: int, port: int = PORT) -> list[dict[str, Any]]:
        return self.client.connect(self.topology.server4, port, count)

    def states(self) -> list[str]:
        """States of the sockets of the client: the two targets, then the other one."""
        return self.client.state(*(each["number"] for each in [*self.targets, self.other]))

    def names(self, *connections: dict[str, Any]) -> list[str]:
        """The start of the line that names each connection, and its cookie."""
        return sorted(f"{self.topology.client4}:{each['port']} -> " for each in connections)


@pytest.fixture
def connections() -> Iterator[Connections]:
    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    with pair() as topology:
        yield Connections(topology)
