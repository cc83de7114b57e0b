# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destroying sockets through Ansible: what goes, what lives, and what is said of each."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.actor import Actor
from tests.integration.conftest import StartActor
from tests.integration.controller import ALONE, Controller, Result, cookies, task
from tests.support.topologies.topology import Lab, Pair

ABORTED = "ECONNABORTED"


def destroy(match: Any, *, check: bool = False, diff: bool = False, **options: Any) -> Result:
    return task("socket_destroy", {"match": match, **options}, check=check, diff=diff)


@pytest.fixture(scope="module")
def ports(pair: Pair, server: Actor) -> tuple[int, int]:
    """Of a server on IPv4 and of one on IPv6."""
    return server.listen(pair.server4)["port"], server.listen(pair.server6)["port"]


class Connections:
    """Connections of one family or kind, of which those to one server are to be destroyed."""

    def __init__(self, actor: Actor, made: list[Result]) -> None:
        self._actor = actor
        self.numbers = [each["number"] for each in made]
        self.cookies = {each["cookie"] for each in made}

    @property
    def states(self) -> set[str]:
        return set(self._actor.state(*self.numbers))


def test_check_diff_destroy_and_again(
    pair: Pair, client: Actor, server: Actor, ports: tuple[int, int], controller: Controller
) -> None:
    port, port6 = ports
    other_port = server.listen(pair.server4)["port"]
    doomed = {
        "inet": Connections(client, client.connect(pair.server4, port, 3)),
        "mapped": Connections(client, client.connect(f"::ffff:{pair.server4}", port, 2)),
        "inet6": Connections(client, client.connect(pair.server6, port6, 2)),
    }
    bystanders = Connections(client, client.connect(pair.server4, other_port, 2))
    before = client.state(*bystanders.numbers)

    four = {"remote": f"{pair.server4}:{port}"}
    six = {"remote": f"[{pair.server6}]:{port6}"}
    plan, again, plan6 = controller.play(
        destroy(four, check=True, diff=True),
        destroy(four, check=True),
        destroy(six, check=True),
    )
    expected = doomed["inet"].cookies | doomed["mapped"].cookies
    assert plan["changed"]
    assert cookies(plan["destroyed"]) == cookies(again["destroyed"]) == expected
    assert cookies(plan6["destroyed"]) == doomed["inet6"].cookies
    assert all(each.states == {"open"} for each in doomed.values())

    done, second, done6, second6 = controller.play(
        destroy(four, diff=True), destroy(four, diff=True), destroy(six), destroy(six)
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
    assert cookies(done6["destroyed"]) == doomed["inet6"].cookies
    assert all(each.states == {ABORTED} for each in doomed.values())
    assert client.state(*bystanders.numbers) == before == ["open", "open"]


def test_datagram_sockets(pair: Pair, client: Actor, server: Actor, controller: Controller) -> None:
    far = server.listen(pair.server4, kind="udp")["port"]
    chosen = Connections(client, client.connect(pair.server4, far, kind="udp"))
    bound = Connections(
        client, client.connect(pair.server4, far, kind="udp", source=(pair.client4, 7070))
    )
    match = {"protocol": "udp", "remote": pair.server4}

    plan, done, second = controller.play(
        destroy(match, check=True, diff=True), destroy(match, diff=True), destroy(match, diff=True)
    )

    assert cookies(done["destroyed"]) == chosen.cookies | bound.cookies
    for result in (plan, done):
        assert result["outcomes"] == {"destroyed": 1, "disconnected": 1}
        assert result["diff"]["after"].startswith(f"udp {pair.client4}:7070 user root")
    assert (second["changed"], second["matched"]) == (False, 0)


def test_only_the_named_namespace_is_touched(
    lab: Lab, pair: Pair, start_actor: StartActor, controller: Controller
) -> None:
    """Two connections with the same addresses and ports in two namespaces."""
    twin = Pair(lab)
    made = []
    for each in (pair, twin):
        start_actor(each.server).listen(each.server4, 9090)
        actor = start_actor(each.client)
        made.append(
            Connections(actor, actor.connect(each.server4, 9090, source=(each.client4, 9091)))
        )
    here, there = made
    match = {"local_port": 9091, "remote_port": 9090}

    plan, done = controller.play(
        destroy(match, namespaces=["current", twin.client.name], check=True),
        destroy(match, namespaces=[twin.client.name]),
    )

    assert {(each["namespace"], each["cookie"]) for each in plan["destroyed"]} == {
        ("current", *here.cookies),
        (twin.client.name, *there.cookies),
    }
    assert cookies(done["destroyed"]) == there.cookies
    assert (here.states, there.states) == ({"open"}, {ABORTED})


def test_each_rule_of_the_guard(pair: Pair, client: Actor, controller: Controller) -> None:
    listener = client.listen(pair.client4)
    inner = client.listen("127.0.0.1")
    looped = Connections(client, client.connect("127.0.0.1", inner["port"]))
    own = Connections(client, client.connect(pair.client4, listener["port"]))
    datagram = client.listen(pair.client4, kind="udp")
    with pair.client.route() as route:
        route.link("add", ifname="vx0", kind="vxlan", vxlan_id=7, vxlan_port=4799)
        route.link("set", index=route.link_lookup(ifname="vx0")[0], state="up")
    pair.client.delete_link_at_end("vx0")
    to_listener = {"local_port": listener["port"], "state": "listening"}
    to_datagram = {"local_port": datagram["port"], "protocol": "udp", "state": "all"}
    to_kernel = {"local_port": 4799, "protocol": "udp", "state": "all", "family": "inet"}
    to_looped = {"remote": "127.0.0.1", "remote_port": inner["port"]}
    to_own = {"remote": pair.client4, "remote_port": listener["port"]}
    mine = {"selectors": [{"remote_port": listener["port"]}], "loopback": False}

    protected = controller.play(
        destroy(to_listener),
        destroy(to_datagram),
        destroy(to_looped),
        destroy(to_own),
        destroy(to_own, protect=mine),
    )
    protected += controller.play(destroy(to_kernel, protect={"unconnected": False}), prefix=ALONE)
    assert [result["protected"][0]["reason"] for result in protected] == [
        "listeners",
        "unconnected",
        "loopback",
        "loopback",
        "selector",
        "kernel",
    ]
    for result in protected:
        assert not result["failed"]
        assert not result["changed"]
        assert result["outcomes"] == {"protected": 1}
    assert looped.states == own.states == {"open"}

    gone = controller.play(
        destroy(to_own, protect={"loopback": False}),
        destroy(to_looped, protect={"loopback": "no"}),
        destroy(to_datagram, protect={"unconnected": False}),
        destroy(to_listener, protect={"listeners": False}),
    )

    assert [result["changed"] for result in gone] == [True] * 4
    assert looped.states == own.states == {ABORTED}


def test_what_is_spared_does_not_hide_what_changed(
    pair: Pair,
    client: Actor,
    ports: tuple[int, int],
    controller: Controller,
    tmp_path: Path,
) -> None:
    """Ansible takes a result with anything in `skipped` for a task that did not run."""
    listener = client.listen(pair.client4)
    made = Connections(client, client.connect(pair.server4, ports[0]))
    told = tmp_path / "told"

    done, tests = controller.play(
        {**destroy({"state": ["listening", "established"]}), "notify": "Tell"},
        task(
            "ansible.builtin.debug",
            {"msg": "{{ [result_0 is changed, result_0 is skipped, result_0 is failed] }}"},
        ),
        handlers=[
            {
                "name": "Tell",
                "ansible.builtin.copy": {"dest": str(told), "content": "", "mode": "0600"},
            }
        ],
    )

    assert listener["cookie"] in cookies(done["protected"])
    assert made.cookies <= cookies(done["destroyed"])
    assert tests["msg"] == [True, False, False]
    assert told.exists()


def test_limits_pace_and_lists(
    pair: Pair, client: Actor, ports: tuple[int, int], controller: Controller
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


def test_an_mptcp_subflow_is_not_killed_alone(
    pair: Pair, client: Actor, server: Actor, controller: Controller
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


def test_through_the_owner(
    pair: Pair, client: Actor, ports: tuple[int, int], controller: Controller
) -> None:
    made = Connections(client, client.connect(pair.server4, ports[0], 3))
    match = {"remote": f"{pair.server4}:{ports[0]}"}

    plan, done, again = controller.play(
        destroy(match, engine="pidfd", check=True),
        destroy(match, engine="pidfd"),
        destroy(match, engine="pidfd"),
    )

    assert cookies(plan["destroyed"]) == cookies(done["destroyed"]) == made.cookies
    assert {entry["engine"] for entry in done["destroyed"]} == {"pidfd"}
    assert (again["changed"], again["matched"]) == (False, 0)
    assert "open" not in made.states
