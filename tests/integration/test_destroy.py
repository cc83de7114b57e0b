# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module socket_destroy, run with Ansible: effect on the sockets, and its result."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import StartProcess
from tests.integration.controller import IN_PID_NAMESPACE, Controller, Result, cookies, task
from tests.integration.socket_process import SocketProcess
from tests.support.topologies.topology import Lab, Pair

ABORTED = "ECONNABORTED"


def destroy(match: Any, *, check: bool = False, diff: bool = False, **options: Any) -> Result:
    return task("socket_destroy", {"match": match, **options}, check=check, diff=diff)


@pytest.fixture(scope="module")
def ports(pair: Pair, server: SocketProcess) -> tuple[int, int]:
    """Ports of a server on IPv4 and of one on IPv6."""
    return server.listen(pair.server4)["port"], server.listen(pair.server6)["port"]


class Connections:
    """Connections of one family or kind to one server."""

    def __init__(self, process: SocketProcess, made: list[Result]) -> None:
        self._process = process
        self.numbers = [connection["number"] for connection in made]
        self.cookies = {connection["cookie"] for connection in made}

    @property
    def states(self) -> set[str]:
        return set(self._process.state(*self.numbers))


def test_check_mode_diff_and_second_run(
    pair: Pair,
    client: SocketProcess,
    server: SocketProcess,
    ports: tuple[int, int],
    controller: Controller,
) -> None:
    port, port6 = ports
    other_port = server.listen(pair.server4)["port"]
    targets = {
        "inet": Connections(client, client.connect(pair.server4, port, 3)),
        "mapped": Connections(client, client.connect(f"::ffff:{pair.server4}", port, 2)),
        "inet6": Connections(client, client.connect(pair.server6, port6, 2)),
    }
    others = Connections(client, client.connect(pair.server4, other_port, 2))
    before = client.state(*others.numbers)

    match4 = {"remote": f"{pair.server4}:{port}"}
    match6 = {"remote": f"[{pair.server6}]:{port6}"}
    plan, check, plan6 = controller.play(
        destroy(match4, check=True, diff=True),
        destroy(match4, check=True),
        destroy(match6, check=True),
    )
    expected = targets["inet"].cookies | targets["mapped"].cookies
    assert plan["changed"]
    assert cookies(plan["destroyed"]) == cookies(check["destroyed"]) == expected
    assert cookies(plan6["destroyed"]) == targets["inet6"].cookies
    assert all(target.states == {"open"} for target in targets.values())

    done, second, done6, second6 = controller.play(
        destroy(match4, diff=True), destroy(match4, diff=True), destroy(match6), destroy(match6)
    )

    assert cookies(done["destroyed"]) == expected
    assert {key: done[key] for key in ("changed", "matched", "outcomes", "engine")} == {
        "changed": True,
        "matched": 5,
        "outcomes": {"destroyed": 5},
        "engine": "netlink",
    }
    assert done["diff"] == plan["diff"]
    assert len(done["diff"]["before"].splitlines()) == 5
    assert f"-> {pair.server4}:{port} user root namespace current sk:" in done["diff"]["before"]
    assert done["diff"]["after"] == ""
    for result in (second, second6):
        assert not result["changed"]
        assert not result["failed"]
        assert (result["matched"], result["outcomes"]) == (0, {})
    assert second["diff"] == {"before": "", "after": ""}
    assert cookies(done6["destroyed"]) == targets["inet6"].cookies
    assert all(target.states == {ABORTED} for target in targets.values())
    assert client.state(*others.numbers) == before == ["open", "open"]


def test_udp_sockets(
    pair: Pair, client: SocketProcess, server: SocketProcess, controller: Controller
) -> None:
    far = server.listen(pair.server4, kind="udp")["port"]
    autobound = Connections(client, client.connect(pair.server4, far, kind="udp"))
    bound = Connections(
        client, client.connect(pair.server4, far, kind="udp", source=(pair.client4, 7070))
    )
    match = {"protocol": "udp", "remote": pair.server4}

    plan, done, second = controller.play(
        destroy(match, check=True, diff=True), destroy(match, diff=True), destroy(match, diff=True)
    )

    assert cookies(done["destroyed"]) == autobound.cookies | bound.cookies
    for result in (plan, done):
        assert result["outcomes"] == {"destroyed": 1, "disconnected": 1}
        assert result["diff"]["after"].startswith(f"udp {pair.client4}:7070 user root")
    assert (second["changed"], second["matched"]) == (False, 0)


def test_only_named_namespace_affected(
    lab: Lab, pair: Pair, start_process: StartProcess, controller: Controller
) -> None:
    """Two connections with the same addresses and ports in two namespaces."""
    other_pair = Pair(lab)
    made = []
    for ends in (pair, other_pair):
        start_process(ends.server).listen(ends.server4, 9090)
        process = start_process(ends.client)
        made.append(
            Connections(process, process.connect(ends.server4, 9090, source=(ends.client4, 9091)))
        )
    current, named = made
    match = {"local_port": 9091, "remote_port": 9090}

    plan, done = controller.play(
        destroy(match, namespaces=["current", other_pair.client.name], check=True),
        destroy(match, namespaces=[other_pair.client.name]),
    )

    assert {(entry["namespace"], entry["cookie"]) for entry in plan["destroyed"]} == {
        ("current", *current.cookies),
        (other_pair.client.name, *named.cookies),
    }
    assert cookies(done["destroyed"]) == named.cookies
    assert (current.states, named.states) == ({"open"}, {ABORTED})


def test_guard_rules(pair: Pair, client: SocketProcess, controller: Controller) -> None:
    listener = client.listen(pair.client4)
    loopback_listener = client.listen("127.0.0.1")
    over_loopback = Connections(client, client.connect("127.0.0.1", loopback_listener["port"]))
    local = Connections(client, client.connect(pair.client4, listener["port"]))
    datagram = client.listen(pair.client4, kind="udp")
    with pair.client.route() as route:
        route.link("add", ifname="vx0", kind="vxlan", vxlan_id=7, vxlan_port=4799)
        route.link("set", index=route.link_lookup(ifname="vx0")[0], state="up")
    pair.client.delete_link_at_end("vx0")
    to_listener = {"local_port": listener["port"], "state": "listening"}
    to_datagram = {"local_port": datagram["port"], "protocol": "udp", "state": "all"}
    to_kernel = {"local_port": 4799, "protocol": "udp", "state": "all", "family": "inet"}
    to_loopback = {"remote": "127.0.0.1", "remote_port": loopback_listener["port"]}
    to_local = {"remote": pair.client4, "remote_port": listener["port"]}
    protect = {"selectors": [{"remote_port": listener["port"]}], "loopback": False}

    protected = controller.play(
        destroy(to_listener),
        destroy(to_datagram),
        destroy(to_loopback),
        destroy(to_local),
        destroy(to_local, protect=protect),
    )
    protected += controller.play(
        destroy(to_kernel, protect={"unconnected": False}), prefix=IN_PID_NAMESPACE
    )
    assert [result["protected"][0]["reason"] for result in protected] == [
        "listeners",
        "unconnected",
        "loopback",
        "loopback",
        "selector",
        "owner_unreadable",
    ]
    for result in protected:
        assert not result["failed"]
        assert not result["changed"]
        assert result["outcomes"] == {"protected": 1}
    assert over_loopback.states == local.states == {"open"}

    destroyed = controller.play(
        destroy(to_local, protect={"loopback": False}),
        destroy(to_loopback, protect={"loopback": "no"}),
        destroy(to_datagram, protect={"unconnected": False}),
        destroy(to_listener, protect={"listeners": False}),
    )

    assert [result["changed"] for result in destroyed] == [True] * 4
    assert over_loopback.states == local.states == {ABORTED}


def test_protected_sockets_do_not_hide_change(
    pair: Pair,
    client: SocketProcess,
    ports: tuple[int, int],
    controller: Controller,
    tmp_path: Path,
) -> None:
    """Ansible treats a result with a non-empty `skipped` as a task that did not run."""
    listener = client.listen(pair.client4)
    made = Connections(client, client.connect(pair.server4, ports[0]))
    notified = tmp_path / "notified"

    done, tests = controller.play(
        {**destroy({"state": ["listening", "established"]}), "notify": "Handler"},
        task(
            "ansible.builtin.debug",
            {"msg": "{{ [result_0 is changed, result_0 is skipped, result_0 is failed] }}"},
        ),
        handlers=[
            {
                "name": "Handler",
                "ansible.builtin.copy": {"dest": str(notified), "content": "", "mode": "0600"},
            }
        ],
    )

    assert listener["cookie"] in cookies(done["protected"])
    assert made.cookies <= cookies(done["destroyed"])
    assert tests["msg"] == [True, False, False]
    assert notified.exists()


def test_max_sockets_pace_and_limit(
    pair: Pair, client: SocketProcess, ports: tuple[int, int], controller: Controller
) -> None:
    made = Connections(client, client.connect(pair.server4, ports[0], 20))
    match = {"remote": f"{pair.server4}:{ports[0]}", "state": "established"}

    number, share, check = controller.play(
        destroy(match, max_sockets=19),
        destroy(match, max_sockets="1%"),
        destroy(match, max_sockets="19", check=True),
    )
    for result in (number, share, check):
        assert result["failed"]
        assert not result["changed"]
        assert result["outcomes"] == {"limit": 20}
        assert cookies(result["survivors"]) == made.cookies
    assert re.findall(r"\d+%?", number["msg"])[:2] == ["20", "19"]
    assert re.findall(r"\d+%?", share["msg"])[:2] == ["20", "1%"]
    assert all("max_sockets" in result["msg"] for result in (number, share, check))
    assert made.states == {"open"}

    started = time.monotonic()
    (paced,) = controller.play(
        destroy(match, pace="20/s", limit=5, max_sockets="100%", engine="auto")
    )
    assert time.monotonic() - started > 0.9
    assert paced["outcomes"] == {"destroyed": 20}
    assert (len(paced["destroyed"]), paced["truncated"]) == (5, True)
    assert made.states == {ABORTED}


def test_mptcp_subflow_not_destroyed_alone(
    pair: Pair, client: SocketProcess, server: SocketProcess, controller: Controller
) -> None:
    for where in (pair.client, pair.server):
        where.sysctl("mptcp/enabled", 1)
    port = server.listen(pair.server4, kind="mptcp")["port"]
    made = Connections(client, client.connect(pair.server4, port, kind="mptcp"))

    plan, done, whole = controller.play(
        destroy({"remote_port": port}, check=True),
        destroy({"remote_port": port}),
        destroy({"remote_port": port, "protocol": "mptcp"}),
    )

    for result in (plan, done, whole):
        assert result["failed"]
        assert result["outcomes"] == {"unsupported_protocol": 1}
        assert "unsupported_protocol" in result["msg"]
    assert cookies(whole["survivors"]) == made.cookies
    assert made.states == {"open"}

    (borrowed,) = controller.play(
        destroy({"remote_port": port, "protocol": ["tcp", "mptcp"]}, engine="auto")
    )
    assert not borrowed["failed"]
    assert {entry["engine"] for entry in borrowed["destroyed"]} == {"pidfd"}
    assert made.cookies <= cookies(borrowed["destroyed"])
    assert "open" not in made.states


def test_pidfd_engine(
    pair: Pair, client: SocketProcess, ports: tuple[int, int], controller: Controller
) -> None:
    made = Connections(client, client.connect(pair.server4, ports[0], 3))
    match = {"remote": f"{pair.server4}:{ports[0]}"}

    plan, done, second = controller.play(
        destroy(match, engine="pidfd", check=True),
        destroy(match, engine="pidfd"),
        destroy(match, engine="pidfd"),
    )

    assert cookies(plan["destroyed"]) == cookies(done["destroyed"]) == made.cookies
    assert {entry["engine"] for entry in done["destroyed"]} == {"pidfd"}
    assert (second["changed"], second["matched"]) == (False, 0)
    assert "open" not in made.states
