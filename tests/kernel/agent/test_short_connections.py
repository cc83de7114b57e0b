# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that are shorter than the resync, which no event reports."""

from __future__ import annotations

import socket
import time
from functools import partial

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import alive, policy
from tests.support.topologies.topology import Pair

PORTS = range(4100, 4110)


def test_short_connections_are_cut_once_one_was_seen(pair: Pair, start_agent: StartAgent) -> None:
    rule = {"name": "outside", "match": {"remote_port": f"{PORTS[0]}-{PORTS[-1]}"}, "hold": 0}
    servers = [
        pair.server.run(partial(socket.create_server, (pair.server4, port))) for port in PORTS
    ]
    connect = {port: partial(socket.create_connection, (pair.server4, port), 5) for port in PORTS}
    agent = start_agent(pair.client, policy(rule), resync="20s")
    try:
        # The agent meets this one at a resync, at the latest.
        with pair.client.run(connect[PORTS[0]]) as first:
            deadline = time.monotonic() + 25
            while alive(first) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not alive(first)
        cut = 0
        for port in PORTS[1:]:
            with pair.client.run(connect[port]) as sock:
                time.sleep(1.5)
                cut += not alive(sock)
        # The interval is one second, and grows by a tenth with each quiet pass.
        assert cut >= len(PORTS) - 3
        assert agent.status()["cpu_s"] < 3
    finally:
        for server in servers:
            server.close()
