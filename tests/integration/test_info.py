# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules socket_diag_info and socket_diag_facts, run with Ansible: keys and options."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._core.query.record import RECORD_KEYS
from tests.integration.conftest import StartProcess
from tests.integration.controller import IN_PID_NAMESPACE, Controller, Result, cookies, task
from tests.integration.socket_process import SocketProcess
from tests.support.topologies.topology import Lab, Pair

NOBODY = 65534
MANY = 3000


@dataclass
class Scene:
    """Sockets in the client's namespace, named after their distinguishing property."""

    pair: Pair
    port: int
    port6: int
    sockets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def cookies(self, *names: str) -> set[str]:
        return {self.sockets[name]["cookie"] for name in names}


@pytest.fixture(scope="module")
def scene(
    pair: Pair, client: SocketProcess, server: SocketProcess, start_process: StartProcess
) -> Scene:
    client.become(name="lns-client")
    scene = Scene(
        pair,
        server.listen(pair.server4)["port"],
        server.listen(pair.server6)["port"],
    )
    made = scene.sockets
    (made["plain"],) = client.connect(pair.server4, scene.port)
    (made["v6"],) = client.connect(pair.server6, scene.port6)
    (made["mapped"],) = client.connect(f"::ffff:{pair.server4}", scene.port)
    (made["bound"],) = client.connect(pair.server4, scene.port, device=pair.client_device)
    (made["marked"],) = client.connect(pair.server4, scene.port, mark=0x10)
    (made["full"],) = client.connect(pair.server4, scene.port)
    client.fill(made["full"]["number"])
    (made["waiting"],) = client.connect(pair.silent, 7, wait=False)
    made["listener"] = client.listen(pair.client4)
    (made["udp"],) = client.connect(pair.server4, 53, kind="udp")
    made["udp-listener"] = client.listen(pair.client4, kind="udp")
    (made["udplite"],) = client.connect(pair.server4, 53, kind="udplite")
    other = start_process(pair.client)
    other.become(name="lns-other")
    with contextlib.suppress(AssertionError):
        # Fails if this user namespace does not map the UID.
        other.become(uid=NOBODY)
        (made["nobody"],) = other.connect(pair.server4, scene.port)
    return scene


IPV4_CONNECTIONS = ("plain", "mapped", "bound", "marked", "full", "nobody")


def selectors(scene: Scene, client: SocketProcess) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Selectors of each kind, with the names of the matching sockets."""
    pair = scene.pair
    tcp = (*IPV4_CONNECTIONS, "v6", "waiting")
    return {
        "empty selector": ({}, tcp),
        "protocol": ({"protocol": "udp"}, ("udp",)),
        "protocols": ({"protocol": ["udp", "udplite"]}, ("udp", "udplite")),
        "udp without remote": ({"protocol": "udp", "state": "closed"}, ("udp-listener",)),
        "family": ({"family": "inet6"}, ("v6", "mapped")),
        "state": ({"state": "listening"}, ("listener",)),
        "states": ({"state": ["listening", "syn-sent"]}, ("listener", "waiting")),
        "group": ({"state": "connected"}, tcp),
        "remote": ({"remote": pair.server4}, IPV4_CONNECTIONS),
        "remote prefix": ({"remote": "192.0.2.0/24"}, IPV4_CONNECTIONS),
        "remote and port": ({"remote": f"{pair.server4}:{scene.port}"}, IPV4_CONNECTIONS),
        "remote v6": ({"remote": f"[{pair.server6}]:{scene.port6}"}, ("v6",)),
        "remotes": ({"remote": [pair.server6, "198.51.100.0/24"]}, ("v6", "waiting")),
        "all of IPv4": ({"remote": "0.0.0.0/0"}, (*IPV4_CONNECTIONS, "waiting")),
        "all of IPv6": ({"remote": "::/0"}, ("v6",)),
        "local": ({"local": pair.client6}, ("v6",)),
        "local of an interface": ({"local": f"interface:{pair.client_device}"}, tcp),
        "missing interface": ({"local": "interface:wrong0"}, ()),
        "negated missing interface": ({"not": {"local": "interface:wrong0"}}, ()),
        "remote_port": ({"remote_port": scene.port6}, ("v6",)),
        "remote_port as a string": ({"remote_port": str(scene.port6)}, ("v6",)),
        "ports": ({"remote_port": [7, f"{scene.port6}-{scene.port6}"]}, ("v6", "waiting")),
        "service": ({"remote_port": "echo"}, ("waiting",)),
        "local_port": ({"local_port": scene.sockets["plain"]["port"]}, ("plain",)),
        "device": ({"device": pair.client_device}, ("bound",)),
        "mark": ({"mark": "0x10"}, ("marked",)),
        "mark and mask": ({"mark": "0x10/0x10"}, ("marked",)),
        "user by number": ({"user": NOBODY}, ("nobody",)),
        "user by name": ({"user": "nobody"}, ("nobody",)),
        "range of users": ({"user": f"1-{NOBODY}"}, ("nobody",)),
        "process": ({"process": "lns-other"}, ("nobody",)),
        "pid": ({"pid": client.pid, "remote": pair.server6}, ("v6",)),
        "send_queue": ({"send_queue": "> 1k", "state": "established"}, ("full",)),
        "recv_queue": ({"recv_queue": ">0"}, ()),
        "notsent": ({"notsent": "> 1k"}, ("full",)),
        "retransmits": ({"state": "syn-sent", "retransmits": ">=0"}, ("waiting",)),
        "idle": ({"idle": 3600}, ()),
        "rtt": ({"rtt": "> 0ms < 1h", "remote": pair.server6}, ("v6",)),
        "congestion": ({"congestion": "no-such-one"}, ()),
        "expression": ({"expression": f"dport = :{scene.port6}"}, ("v6",)),
        "expression with a state": ({"expression": "state listening"}, ("listener",)),
        "any": ({"any": [{"remote": pair.server6}, {"mark": 16}]}, ("v6", "marked")),
        "not": ({"not": {"remote": pair.server4}}, ("v6", "waiting")),
        "all": ({"all": [{"remote": pair.server4}, {"family": "inet6"}]}, ("mapped",)),
        "nested": (
            {"remote": pair.server4, "not": {"any": [{"mark": 16}, {"family": "inet6"}]}},
            ("plain", "bound", "full", "nobody"),
        ),
    }


def test_selector_keys(scene: Scene, client: SocketProcess, controller: Controller) -> None:
    expected = selectors(scene, client)
    results = controller.play(
        *(task("socket_diag_info", {"match": match}) for match, _names in expected.values())
    )

    own_cookies = scene.cookies(*scene.sockets)
    names = {socket["cookie"]: name for name, socket in scene.sockets.items()}
    for (case, (match, matching)), result in zip(expected.items(), results, strict=True):
        assert not result["failed"], (case, result)
        found = {names[cookie] for cookie in cookies(result["sockets"]) & own_cookies}
        assert found == set(matching) & set(scene.sockets), (case, match)
        assert result["matched"] == len(result["sockets"])


def test_options(scene: Scene, controller: Controller) -> None:
    options = {"match": {"remote": scene.pair.server4}}
    detailed, by_port, by_process, cut, none, checked, defaults = controller.play(
        task("socket_diag_info", {**options, "details": ["info", "memory", "process"]}),
        task("socket_diag_info", {**options, "group_by": "remote_port"}),
        task("socket_diag_info", {**options, "group_by": "processes"}),
        task("socket_diag_info", {**options, "limit": 2}),
        task("socket_diag_info", {**options, "limit": 0}),
        task("socket_diag_info", options, check=True, diff=True),
        # With module_defaults of the action group.
        task("socket_diag_info", options),
        module_defaults={"group/linuxnet.sockets.sockets": {"limit": 3}},
    )

    count = detailed["matched"]
    assert count == len(set(IPV4_CONNECTIONS) & set(scene.sockets))
    for entry in detailed["sockets"]:
        assert set(entry) == set(RECORD_KEYS)
        assert entry["tcp_info"]["state"] == 1
        assert entry["memory"]["rcvbuf"] > 0
        assert entry["processes"][0]["comm"] in ("lns-client", "lns-other")
    assert by_port["summary"]["remote_port"] == {str(scene.port): count}
    assert by_process["summary"]["processes"]["lns-client"] == 5
    assert (len(cut["sockets"]), cut["matched"], cut["truncated"]) == (2, count, True)
    assert cut["sockets"] == _with_volatile_keys_of(detailed["sockets"][:2], cut["sockets"])
    assert (none["sockets"], none["matched"]) == ([], count)
    assert not checked["changed"]
    assert checked["matched"] == count
    assert len(defaults["sockets"]) == 3


def _with_volatile_keys_of(entries: list[Result], others: list[Result]) -> list[Result]:
    """Entries with the values of timers, counters and optional details taken from others."""
    volatile = ("tcp_info", "memory", "processes", "congestion_info", "idle_ms", "timer_ms")
    return [
        {**entry, **{key: other[key] for key in volatile}, "timer": other["timer"]}
        for entry, other in zip(entries, others, strict=True)
    ]


def test_record_of_each_family(scene: Scene, controller: Controller) -> None:
    (result,) = controller.play(task("socket_diag_info", {"match": {"state": "all"}}))
    entries = {entry["cookie"]: entry for entry in result["sockets"]}

    def entry(name: str) -> Result:
        return entries[scene.sockets[name]["cookie"]]

    pair = scene.pair
    for name, family, mapped, local, remote in (
        ("plain", "inet", False, pair.client4, pair.server4),
        ("v6", "inet6", False, pair.client6, pair.server6),
        ("mapped", "inet6", True, pair.client4, pair.server4),
    ):
        found = entry(name)
        assert (found["family"], found["mapped"]) == (family, mapped)
        assert (found["local"], found["remote"]) == (local, remote)
        assert found["local_port"] == scene.sockets[name]["port"]
    assert entry("bound")["device"] == pair.client_device
    assert entry("marked")["mark"] == 0x10
    assert entry("full")["send_queue"] > 0
    assert entry("waiting")["state"] == "syn-sent"
    assert entry("listener")["remote"] == "0.0.0.0"


@pytest.fixture(scope="module")
def other_pair(lab: Lab, scene: Scene, start_process: StartProcess) -> tuple[Pair, dict[str, Any]]:
    """A second pair of namespaces, and a connection in it with the same addresses and ports."""
    pair = Pair(lab)
    start_process(pair.server).listen(pair.server4, scene.port)
    source = (pair.client4, scene.sockets["plain"]["port"])
    (made,) = start_process(pair.client).connect(pair.server4, scene.port, source=source)
    return pair, made


def test_same_tuple_in_two_namespaces(
    scene: Scene,
    other_pair: tuple[Pair, dict[str, Any]],
    client: SocketProcess,
    controller: Controller,
) -> None:
    other, made = other_pair
    match = {"local_port": scene.sockets["plain"]["port"], "remote": scene.pair.server4}
    namespaces: list[list[str]] = [
        ["current"],
        [other.client.name],
        [other.client.path],
        ["current", other.client.name],
        [f"pid:{client.pid}"],
        ["current", f"pid:{client.pid}", scene.pair.client.name],
    ]
    results = controller.play(
        *(task("socket_diag_info", {"match": match, "namespaces": names}) for names in namespaces)
    )
    results += controller.play(
        task("socket_diag_info", {"match": match, "namespaces": ["all"]}),
        prefix=IN_PID_NAMESPACE,
    )

    assert [result["msg"] for result in results if result["failed"]] == []
    cookie = scene.sockets["plain"]["cookie"]
    found = [
        sorted((entry["namespace"], entry["cookie"]) for entry in result["sockets"])
        for result in results
    ]
    other_cookie = made["cookie"]
    assert cookie != other_cookie
    assert found == [
        [("current", cookie)],
        [(other.client.name, other_cookie)],
        [(other.client.path, other_cookie)],
        sorted([("current", cookie), (other.client.name, other_cookie)]),
        [(f"pid:{client.pid}", cookie)],
        [("current", cookie)],
        sorted([("current", cookie), (other.client.name, other_cookie)]),
    ]
    assert results[3]["summary"]["namespace"] == {"current": 1, other.client.name: 1}


def test_thousands_of_sockets_truncated_and_counted(
    lab: Lab, start_process: StartProcess, tmp_path: Path
) -> None:
    pair = Pair(lab)
    port = start_process(pair.server).listen(pair.server4)["port"]
    start_process(pair.client).connect(pair.server4, port, MANY)

    listed, facts, destroyed = Controller(pair.client, tmp_path).play(
        task("socket_diag_info", {"match": {"remote": pair.server4}, "group_by": "local_port"}),
        task("socket_diag_facts"),
        task("socket_destroy", {"match": {"remote": pair.server4}}, diff=True),
    )

    assert (listed["matched"], len(listed["sockets"]), listed["truncated"]) == (MANY, 1000, True)
    assert listed["summary"]["state"] == {"established": MANY}
    assert len(listed["summary"]["local_port"]) == 1000
    assert listed["summary"]["other"] == MANY - 1000
    assert destroyed["outcomes"] == {"destroyed": MANY}
    assert (len(destroyed["destroyed"]), destroyed["truncated"]) == (1000, True)
    assert len(destroyed["diff"]["before"].splitlines()) == 1001
    assert len(json.dumps(listed)) < 2_000_000
    assert len(json.dumps(facts)) < 64 * 1024
    gathered = facts["ansible_facts"]["socket_diag"]
    assert gathered["totals"]["tcp"]["established"] == MANY
    assert gathered["peers"] == [{"remote": pair.server4, "sockets": MANY}]


def test_facts(scene: Scene, controller: Controller) -> None:
    facts, other_facts = (
        result["ansible_facts"]["socket_diag"]
        for result in controller.play(
            task("socket_diag_facts"),
            task("socket_diag_facts", {"namespaces": [scene.pair.server.name], "limit": 1}),
        )
    )

    assert facts["support"]["tcp"]["verdict"] == "supported"
    assert facts["may_destroy"] is True
    assert facts["totals"]["tcp"]["listening"] == 1
    assert {listener["local_port"] for listener in facts["listeners"]} == {
        scene.sockets["listener"]["port"],
        scene.sockets["udp-listener"]["port"],
    }
    assert {listener["processes"][0] for listener in facts["listeners"]} == {"lns-client"}
    assert facts["namespaces"][0]["name"] == "current"
    assert other_facts["namespaces"][0]["name"] == scene.pair.server.name
    assert (len(other_facts["listeners"]), other_facts["listeners_total"]) == (1, 2)


def test_readme_command(scene: Scene, controller: Controller) -> None:
    output = controller.run(
        "ansible",
        "localhost",
        "-m",
        "linuxnet.sockets.socket_diag_info",
        "-a",
        '{"match": {"state": "listening"}}',
    )

    assert "SUCCESS" in output
    assert f"local_port: {scene.sockets['listener']['port']}\n" in output
    assert "matched: 1\n" in output
