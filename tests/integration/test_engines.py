# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engines through Ansible: TCP and MPTCP in one task, and which engine took which."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.actor import Actor
from tests.integration.controller import Controller, Result, task
from tests.support.topologies.topology import Pair


@pytest.fixture(scope="module", autouse=True)
def _mptcp(pair: Pair) -> None:
    try:
        for where in (pair.client, pair.server):
            where.sysctl("mptcp/enabled", 1)
    except OSError as error:
        pytest.skip(f"no MPTCP here: {error}")


def destroy(port: list[int], engine: str, **keywords: Any) -> dict[str, Any]:
    match = {"protocol": ["tcp", "mptcp"], "remote_port": port}
    return task("socket_destroy", {"match": match, "engine": engine}, **keywords)


def engines(result: Result) -> dict[str, set[str | None]]:
    """Which engines took the destroyed sockets, by their protocol and port."""
    found: dict[str, set[str | None]] = {}
    for entry in result["destroyed"]:
        name = f"{entry['protocol']} {entry['remote_port']}"
        found.setdefault(name, set()).add(entry["engine"])
    return found


@pytest.mark.parametrize("engine", ["auto", "pidfd"])
def test_plain_and_multipath_connections_in_one_task(
    pair: Pair, client: Actor, server: Actor, controller: Controller, engine: str
) -> None:
    plain = server.listen(pair.server4)["port"]
    multi = server.listen(pair.server4, kind="mptcp")["port"]
    protected = server.listen(pair.server4, kind="mptcp")["port"]
    doomed = [
        each["number"]
        for each in (
            *client.connect(pair.server4, plain, 2),
            *client.connect(pair.server4, multi, 2, kind="mptcp"),
        )
    ]
    bystander = client.connect(pair.server4, protected, kind="mptcp")[0]["number"]

    plan, done, again = controller.play(
        destroy([plain, multi], engine, check=True),
        destroy([plain, multi], engine),
        destroy([plain, multi], engine),
    )

    for result in (plan, done):
        # Two plain ones, two connections of MPTCP, and a subflow of each.
        assert result["outcomes"] == {"destroyed": 6}
        assert result["changed"]
        assert not result["failed"]
        assert engines(result) == {
            f"tcp {plain}": {"netlink" if engine == "auto" else "pidfd"},
            f"tcp {multi}": {"pidfd"},
            f"mptcp {multi}": {"pidfd"},
        }
    assert (again["changed"], again["matched"]) == (False, 0)
    assert "open" not in client.state(*doomed)
    assert client.state(bystander) == ["open"]
