# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard protects on the real kernel, asked by a process of its own."""

from __future__ import annotations

import pytest

from tests.kernel.asking import ask
from tests.kernel.holding import Holder, holder
from tests.support.topologies import states
from tests.support.topologies.topology import Lab, Pair

ALL_OFF = dict.fromkeys(
    ("control_connection", "ssh_sessions", "loopback", "listeners", "unconnected", "kernel"),
    False,
)


def only(*switches: str) -> dict[str, bool]:
    return ALL_OFF | dict.fromkeys(switches, True)


def came_by(pair: Pair, held: Holder) -> dict[str, str]:
    """What sshd would have told, had it been the server of this connection."""
    return {"SSH_CONNECTION": f"{pair.client4} {held.port} {pair.server4} {held.remote_port}"}


def test_another_process_is_not_spared(pair: Pair) -> None:
    with holder(pair) as held:
        answer = ask({"state": "established"}, [pair.client.name])
        assert answer == {"outcomes": {held.cookie: "destroyed"}, "rules": {}}
        assert not held.alive()


def test_sockets_of_ancestors(pair: Pair) -> None:
    # The test is the parent of the process that asks.
    held = states.established(pair)
    assert held.target is not None
    match = {"state": "established"}
    answer = ask(match, [held.where.name])
    assert answer["rules"] == {held.cookie: "control_connection"}
    held.target.sendall(b"x")
    answer = ask(match, [held.where.name], protect={"control_connection": False})
    assert answer["outcomes"] == {held.cookie: "destroyed"}


def test_ssh_connection(pair: Pair) -> None:
    with holder(pair) as held:
        protect = only("control_connection")
        environ = came_by(pair, held)
        answer = ask({"state": "established"}, [pair.client.name], protect=protect, environ=environ)
        assert answer["rules"] == {held.cookie: "control_connection"}
        assert held.alive()


def test_ssh_connection_of_another_port(pair: Pair) -> None:
    with holder(pair) as held:
        environ = came_by(pair, held._replace(port=held.port ^ 1))
        answer = ask({"state": "established"}, [pair.client.name], environ=environ)
        assert answer["outcomes"] == {held.cookie: "destroyed"}


@pytest.mark.parametrize("name", ["sshd", "sshd-session", "dropbear"])
def test_sockets_of_ssh(pair: Pair, name: str) -> None:
    # Not the ssh connection itself: what sshd forwards.
    with holder(pair, name=name) as held:
        match = {"remote_port": held.remote_port}
        assert ask(match, [pair.client.name])["rules"] == {held.cookie: "ssh_sessions"}
        answer = ask(match, [pair.client.name], protect={"ssh_sessions": False})
        assert answer["outcomes"] == {held.cookie: "destroyed"}
        assert not held.alive()


def test_owner_that_cannot_be_read(pair: Pair) -> None:
    # Root with CAP_NET_ADMIN, but without CAP_SYS_PTRACE: whose socket it is stays unknown.
    with holder(pair) as held:
        match = {"state": "established"}
        answer = ask(match, [pair.client.name], without=["sys_ptrace"])
        assert answer["rules"] == {held.cookie: "owner_unreadable"}
        assert held.alive()


def test_owner_that_cannot_be_read_and_does_not_matter(pair: Pair) -> None:
    with holder(pair) as held:
        selected = {"state": "established"}
        where = [pair.client.name]
        # The kernel may hold it: no process is seen to.
        answer = ask(selected, where, protect={"ssh_sessions": False}, without=["sys_ptrace"])
        assert answer["rules"] == {held.cookie: "kernel"}
        off = {"ssh_sessions": False, "kernel": False}
        answer = ask(selected, where, protect=off, without=["sys_ptrace"])
        assert answer["outcomes"] == {held.cookie: "destroyed"}


def test_socket_held_by_the_kernel(lab: Lab) -> None:
    where = lab.namespace("vxlan")
    with where.route() as route:
        route.link("add", ifname="vx0", kind="vxlan", vxlan_id=7, vxlan_port=4789)
        route.link("set", index=route.link_lookup(ifname="vx0")[0], state="up")
    where.own("vx0")
    match = {"protocol": "udp", "local_port": 4789, "state": "all"}
    # Some process of the machine may not be readable, even for root: none but its own are there.
    answer = ask(match, [where.path], protect={"unconnected": False}, apart=True)
    assert set(answer["rules"].values()) == {"kernel"}
    answer = ask(match, [where.path], protect=ALL_OFF, apart=True, check=True)
    assert answer["rules"] == {}
    assert answer["outcomes"]


def test_processes_that_are_out_of_sight_may_hold_it(pair: Pair) -> None:
    with holder(pair) as held:
        answer = ask({"state": "established"}, [pair.client.path], apart=True)
        assert answer["rules"] == {held.cookie: "kernel"}
        assert held.alive()


def test_loopback_and_listeners(lab: Lab) -> None:
    where = lab.namespace("lo")
    listens = states.listener(where, "127.0.0.1")
    client = where.socket()
    client.connect(listens.getsockname())
    match = {"state": "all"}
    by_default = ask(match, [where.name])["rules"]
    assert set(by_default.values()) == {"loopback"}
    assert len(by_default) == 3
    mine = states.cookie_of(listens)
    rules = ask(match, [where.name], protect=only("listeners"), check=True)["rules"]
    assert rules == {mine: "listeners"}


def test_both_ends_on_one_host(pair: Pair) -> None:
    listens = states.listener(pair.server, pair.server4)
    client = pair.server.socket()
    client.connect(listens.getsockname())
    answer = ask({"state": "established"}, [pair.server.name], protect=only("loopback"))
    assert set(answer["rules"].values()) == {"loopback"}
    assert len(answer["rules"]) == 2


def test_unconnected_datagrams(pair: Pair) -> None:
    bound, connected = states.udp_unconnected(pair), states.udp_explicit(pair)
    match = {"protocol": "udp", "state": "all"}
    answer = ask(match, [pair.client.name], protect=only("unconnected"))
    assert answer["rules"] == {bound.cookie: "unconnected"}
    assert answer["outcomes"] == {bound.cookie: "protected", connected.cookie: "disconnected"}


def test_datagrams_that_were_disconnected_count_as_unconnected(pair: Pair) -> None:
    # Of an IPv6 socket the kernel keeps showing the remote address.
    held = states.udp_explicit(pair, v6=True)
    match = {"protocol": "udp", "state": "all"}
    protect = only("unconnected")
    assert ask(match, [pair.client.name], protect=protect)["outcomes"] == {
        held.cookie: "disconnected"
    }
    assert ask(match, [pair.client.name], protect=protect)["rules"] == {held.cookie: "unconnected"}


def test_own_selector_for_a_process(pair: Pair) -> None:
    with holder(pair) as held:
        protect = {"selectors": [{"pid": held.pid}]}
        answer = ask({"state": "established"}, [pair.client.name], protect=protect)
        assert answer["rules"] == {held.cookie: "selector"}
        assert held.alive()
