# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding sockets through Ansible: every key of a selector, every option, on real sockets."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._core.query.record import RECORD_KEYS
from tests.integration.actor import Actor
from tests.integration.conftest import StartActor
from tests.integration.controller import ALONE, Controller, Result, cookies, task
from tests.support.topologies.topology import Lab, Pair

NOBODY = 65534
MANY = 3000


@dataclass
class Scene:
    """Sockets in the client's namespace by what makes each of them special, and their cookies."""

    pair: Pair
    port: int
    port6: int
    sockets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def cookies(self, *names: str) -> set[str]:
        return {self.sockets[name]["cookie"] for name in names}


@pytest.fixture(scope="module")
def scene(pair: Pair, client: Actor, server: Actor, start_actor: StartActor) -> Scene:
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
    other = start_actor(pair.client)
    other.become(name="lns-other")
    with contextlib.suppress(AssertionError):
        # Not where this user namespace has no such uid.
        other.become(uid=NOBODY)
        (made["nobody"],) = other.connect(pair.server4, scene.port)
    return scene


FOURS = ("plain", "mapped", "bound", "marked", "full", "nobody")


def looks(scene: Scene, client: Actor) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """A selector of each kind, and the sockets that it means."""
    pair = scene.pair
    tcp = (*FOURS, "v6", "waiting")
    return {
        "nothing said": ({}, tcp),
        "protocol": ({"protocol": "udp"}, ("udp",)),
        "protocols": ({"protocol": ["udp", "udplite"]}, ("udp", "udplite")),
        "udp without remote": ({"protocol": "udp", "state": "closed"}, ("udp-listener",)),
        "family": ({"family": "inet6"}, ("v6", "mapped")),
        "state": ({"state": "listening"}, ("listener",)),
        "states": ({"state": ["listening", "syn-sent"]}, ("listener", "waiting")),
        "group": ({"state": "connected"}, tcp),
        "remote": ({"remote": pair.server4}, FOURS),
        "remote prefix": ({"remote": "192.0.2.0/24"}, FOURS),
        "remote and port": ({"remote": f"{pair.server4}:{scene.port}"}, FOURS),
        "remote v6": ({"remote": f"[{pair.server6}]:{scene.port6}"}, ("v6",)),
        "remotes": ({"remote": [pair.server6, "198.51.100.0/24"]}, ("v6", "waiting")),
        "all of IPv4": ({"remote": "0.0.0.0/0"}, (*FOURS, "waiting")),
        "all of IPv6": ({"remote": "::/0"}, ("v6",)),
        "local": ({"local": pair.client6}, ("v6",)),
        "local of an interface": ({"local": f"interface:{pair.client_device}"}, tcp),
        "no such interface": ({"local": "interface:wrong0"}, ()),
        "not at no such interface": ({"not": {"local": "interface:wrong0"}}, ()),
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


def test_every_key_selects_just_its_sockets(
    scene: Scene, client: Actor, controller: Controller
) -> None:
    expected = looks(scene, client)
    results = controller.play(
        *(task("socket_diag_info", {"match": match}) for match, _names in expected.values())
    )

    ours = scene.cookies(*scene.sockets)
    names = {socket["cookie"]: name for name, socket in scene.sockets.items()}
    for (what, (match, wanted)), result in zip(expected.items(), results, strict=True):
        assert not result["failed"], (what, result)
        found = {names[each] for each in cookies(result["sockets"]) & ours}
        assert found == set(wanted) & set(scene.sockets), (what, match)
        assert result["matched"] == len(result["sockets"])


def test_options(scene: Scene, controller: Controller) -> None:
    here = {"match": {"remote": scene.pair.server4}}
    told, grouped, held, cut, none, checked, defaults = controller.play(
        task("socket_diag_info", {**here, "details": ["info", "memory", "process"]}),
        task("socket_diag_info", {**here, "group_by": "remote_port"}),
        task("socket_diag_info", {**here, "group_by": "processes"}),
        task("socket_diag_info", {**here, "limit": 2}),
        task("socket_diag_info", {**here, "limit": 0}),
        task("socket_diag_info", here, check=True, diff=True),
        # Set for the action group.
        task("socket_diag_info", here),
        module_defaults={"group/linuxnet.sockets.sockets": {"limit": 3}},
    )

    count = told["matched"]
    assert count == len(set(FOURS) & set(scene.sockets))
    for entry in told["sockets"]:
        assert set(entry) == set(RECORD_KEYS)
        assert entry["tcp_info"]["state"] == 1
        assert entry["memory"]["rcvbuf"] > 0
        assert entry["processes"][0]["comm"] in ("lns-client", "lns-other")
    assert grouped["summary"]["remote_port"] == {str(scene.port): count}
    assert held["summary"]["processes"]["lns-client"] == 5
    assert (len(cut["sockets"]), cut["matched"], cut["truncated"]) == (2, count, True)
    assert cut["sockets"] == _without_clocks(told["sockets"][:2], cut["sockets"])
    assert (none["sockets"], none["matched"]) == ([], count)
    assert not checked["changed"]
    assert checked["matched"] == count
    assert len(defaults["sockets"]) == 3


def _without_clocks(entries: list[Result], like: list[Result]) -> list[Result]:
    """The entries with what was not asked for, or moves on by itself, taken from others."""
    moving = ("tcp_info", "memory", "processes", "congestion_info", "idle_ms", "timer_ms")
    return [
        {**entry, **{key: other[key] for key in moving}, "timer": other["timer"]}
        for entry, other in zip(entries, like, strict=True)
    ]


def test_the_record_of_each_family(scene: Scene, controller: Controller) -> None:
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
def twin(lab: Lab, scene: Scene, start_actor: StartActor) -> tuple[Pair, dict[str, Any]]:
    """Another pair of namespaces, with the same addresses, and a connection with the same ports."""
    pair = Pair(lab)
    start_actor(pair.server).listen(pair.server4, scene.port)
    source = (pair.client4, scene.sockets["plain"]["port"])
    (made,) = start_actor(pair.client).connect(pair.server4, scene.port, source=source)
    return pair, made


def test_the_same_connection_in_two_namespaces_is_two_sockets(
    scene: Scene, twin: tuple[Pair, dict[str, Any]], client: Actor, controller: Controller
) -> None:
    there, made = twin
    match = {"local_port": scene.sockets["plain"]["port"], "remote": scene.pair.server4}
    ways: list[list[str]] = [
        ["current"],
        [there.client.name],
        [there.client.path],
        ["current", there.client.name],
        [f"pid:{client.pid}"],
        ["current", f"pid:{client.pid}", scene.pair.client.name],
    ]
    results = controller.play(
        *(task("socket_diag_info", {"match": match, "namespaces": names}) for names in ways)
    )
    results += controller.play(
        task("socket_diag_info", {"match": match, "namespaces": ["all"]}),
        prefix=ALONE,
    )

    assert [result["msg"] for result in results if result["failed"]] == []
    mine = scene.sockets["plain"]["cookie"]
    found = [
        sorted((entry["namespace"], entry["cookie"]) for entry in result["sockets"])
        for result in results
    ]
    other = made["cookie"]
    assert mine != other
    assert found == [
        [("current", mine)],
        [(there.client.name, other)],
        [(there.client.path, other)],
        sorted([("current", mine), (there.client.name, other)]),
        [(f"pid:{client.pid}", mine)],
        [("current", mine)],
        sorted([("current", mine), (there.client.name, other)]),
    ]
    assert results[3]["summary"]["namespace"] == {"current": 1, there.client.name: 1}


def test_thousands_of_sockets_come_back_cut_and_counted(
    lab: Lab, start_actor: StartActor, tmp_path: Path
) -> None:
    pair = Pair(lab)
    port = start_actor(pair.server).listen(pair.server4)["port"]
    start_actor(pair.client).connect(pair.server4, port, MANY)

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


def test_facts_say_what_is_there(scene: Scene, controller: Controller) -> None:
    facts, there = (
        result["ansible_facts"]["socket_diag"]
        for result in controller.play(
            task("socket_diag_facts"),
            task("socket_diag_facts", {"namespaces": [scene.pair.server.name], "limit": 1}),
        )
    )

    assert facts["support"]["tcp"]["verdict"] == "supported"
    assert facts["may_destroy"] is True
    assert facts["totals"]["tcp"]["listening"] == 1
    assert {each["local_port"] for each in facts["listeners"]} == {
        scene.sockets["listener"]["port"],
        scene.sockets["udp-listener"]["port"],
    }
    assert {each["processes"][0] for each in facts["listeners"]} == {"lns-client"}
    assert facts["namespaces"][0]["name"] == "current"
    assert there["namespaces"][0]["name"] == scene.pair.server.name
    assert (len(there["listeners"]), there["listeners_total"]) == (1, 2)


def test_the_line_of_the_readme(scene: Scene, controller: Controller) -> None:
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
