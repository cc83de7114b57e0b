# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines of socket_destroy, run with Ansible, for TCP and MPTCP in one task."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.controller import Controller, Result, task
from tests.integration.socket_process import SocketProcess
from tests.support.topologies.topology import Pair


@pytest.fixture(scope="module", autouse=True)
def _mptcp(pair: Pair) -> None:
    try:
        for where in (pair.client, pair.server):
            where.sysctl("mptcp/enabled", 1)
    except OSError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")


def destroy(port: list[int], engine: str, **keywords: Any) -> dict[str, Any]:
    match = {"protocol": ["tcp", "mptcp"], "remote_port": port}
    return task("socket_destroy", {"match": match, "engine": engine}, **keywords)


def engines(result: Result) -> dict[str, set[str | None]]:
    """Engines of the destroyed sockets by protocol and remote port."""
    found: dict[str, set[str | None]] = {}
    for entry in result["destroyed"]:
        name = f"{entry['protocol']} {entry['remote_port']}"
        found.setdefault(name, set()).add(entry["engine"])
    return found


@pytest.mark.parametrize("engine", ["auto", "pidfd"])
def test_tcp_and_mptcp_in_one_task(
    pair: Pair, client: SocketProcess, server: SocketProcess, controller: Controller, engine: str
) -> None:
    tcp = server.listen(pair.server4)["port"]
    mptcp = server.listen(pair.server4, kind="mptcp")["port"]
    other = server.listen(pair.server4, kind="mptcp")["port"]
    targets = [
        connection["number"]
        for connection in (
            *client.connect(pair.server4, tcp, 2),
            *client.connect(pair.server4, mptcp, 2, kind="mptcp"),
        )
    ]
    other_connection = client.connect(pair.server4, other, kind="mptcp")[0]["number"]

    plan, done, second = controller.play(
        destroy([tcp, mptcp], engine, check=True),
        destroy([tcp, mptcp], engine),
        destroy([tcp, mptcp], engine),
    )

    for result in (plan, done):
        # Two TCP connections, two MPTCP connections and their two subflows.
        assert result["outcomes"] == {"destroyed": 6}
        assert result["changed"]
        assert not result["failed"]
        assert engines(result) == {
            f"tcp {tcp}": {"netlink" if engine == "auto" else "pidfd"},
            f"tcp {mptcp}": {"pidfd"},
            f"mptcp {mptcp}": {"pidfd"},
        }
    assert (second["changed"], second["matched"]) == (False, 0)
    assert "open" not in client.state(*targets)
    assert client.state(other_connection) == ["open"]
