# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the network changes: what the agent destroys, and what it lets live."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyroute2 import netns

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import OURS, RunningAgent, alive, policy
from tests.support.topologies.networks import VPN_MARK, Talk, Uplinks, ip, send_all_by, tun
from tests.support.topologies.waiting import until

_GONE = {
    "name": "gone",
    "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone", "unroutable"]},
}


class Watched:
    """Connections, by a name for people: those that shall die and those that shall live."""

    def __init__(self, doomed: Mapping[str, Talk], protected: Mapping[str, Talk]) -> None:
        self.doomed = doomed
        self.protected = protected

    def fate(self, agent: RunningAgent, rule: str) -> None:
        """The doomed die, all for that rule, and nobody else does, even after another look."""
        until(lambda: not self._living(self.doomed), "all that are doomed are gone")
        until(
            lambda: set(agent.destroyed()) >= {each.cookie for each in self.doomed.values()},
            "the log names them",
        )
        agent.looked_again()
        assert self._living(self.protected) == set(self.protected)
        assert agent.destroyed() == {each.cookie: rule for each in self.doomed.values()}

    def nobody_dies(self, agent: RunningAgent) -> None:
        agent.looked_again()
        everybody = {**self.doomed, **self.protected}
        assert self._living(everybody) == set(everybody)
        assert agent.destroyed() == {}

    @staticmethod
    def _living(talks: Mapping[str, Talk]) -> set[str]:
        return {name for name, talk in talks.items() if alive(talk.sock)}


def _by_eth(
    uplinks: Uplinks, names: Iterable[str] = ("4", "mapped", "udp", "6")
) -> dict[str, Talk]:
    four, six = uplinks.service4, uplinks.service6
    made = {
        "4": lambda: uplinks.tcp(four),
        "mapped": lambda: uplinks.tcp(f"::ffff:{four}"),
        "accepted": lambda: uplinks.accepted(four, uplinks.eth4),
        "udp": lambda: uplinks.udp(four, uplinks.eth4),
        "6": lambda: uplinks.tcp(six),
        "udp6": lambda: uplinks.udp(six, uplinks.eth6),
    }
    return {name: made[name]() for name in names}


def _others(uplinks: Uplinks) -> dict[str, Talk]:
    return {
        "loopback": uplinks.within("127.0.0.1"),
        "loopback6": uplinks.within("::1"),
        "LAN of the other link": uplinks.tcp(uplinks.wlan4_gateway),
        "LAN of the other link, 6": uplinks.tcp(uplinks.wlan6_gateway),
    }


def test_an_address_is_deleted(uplinks: Uplinks, start_agent: StartAgent) -> None:
    four = _by_eth(uplinks, ("4", "mapped", "accepted", "udp"))
    six = _by_eth(uplinks, ("6", "udp6"))
    others = _others(uplinks)
    agent = start_agent(uplinks.host, policy(_GONE))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    Watched(four, {**six, **others}).fate(agent, "gone")
    ip(uplinks.host, f"addr del {uplinks.eth6}/64 dev eth0")
    Watched({**four, **six}, others).fate(agent, "gone")


def test_a_link_goes_down(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """IPv4: there is neither an event of an address nor of a route."""
    doomed = _by_eth(uplinks, ("4", "mapped", "accepted", "udp", "6", "udp6"))
    agent = start_agent(uplinks.host, policy(_GONE))
    watched = Watched(doomed, _others(uplinks))
    ip(uplinks.host, "link set eth0 down")
    watched.fate(agent, "gone")


def test_carrier_is_lost(uplinks: Uplinks, start_agent: StartAgent) -> None:
    doomed = _by_eth(uplinks)
    rule = {"name": "cable", "match": {"protocol": ["tcp", "udp"], "stranded": ["no_carrier"]}}
    agent = start_agent(uplinks.host, policy(rule))
    watched = Watched(doomed, _others(uplinks))
    ip(uplinks.far, "link set f0 down")
    watched.fate(agent, "cable")


def test_a_route_is_replaced(uplinks: Uplinks, start_agent: StartAgent) -> None:
    match = {"protocol": ["tcp", "udp"], "stranded": [{"verdict": "rerouted", "to": ["wlan0"]}]}
    doomed = _by_eth(uplinks)
    neighbours = {
        "LAN": uplinks.tcp(uplinks.eth4_gateway),
        "LAN, 6": uplinks.tcp(uplinks.eth6_gateway),
    }
    agent = start_agent(uplinks.host, policy({"name": "moved", "match": match}))
    watched = Watched(doomed, {**neighbours, **_others(uplinks)})
    ip(uplinks.host, f"route replace {uplinks.other4}")
    ip(uplinks.host, f"route del {uplinks.default6}", f"route add {uplinks.other6}")
    watched.fate(agent, "moved")


def _vpn_up(uplinks: Uplinks) -> io.FileIO:
    """What wg-quick(8) does, with a tun device: the end of the VPN's program."""
    end = tun(uplinks.host, "tun0")
    send_all_by(uplinks.host, "tun0")
    return end


def test_a_vpn_comes_up_and_goes_down(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """What bypasses it is destroyed while it is up; when it goes, what went through it."""
    bypass = {
        "name": "bypass",
        "while": {"interface": "tun0", "is": "up"},
        "match": {
            "protocol": ["tcp", "udp"],
            "stranded": [{"verdict": "rerouted", "to": ["tun0"]}],
        },
    }
    agent = start_agent(uplinks.host, policy(_GONE, bypass))
    doomed = _by_eth(uplinks)
    protected = {
        "the VPN's transport": uplinks.udp(uplinks.service4, mark=VPN_MARK),
        "the VPN's transport, 6": uplinks.udp(uplinks.service6, mark=VPN_MARK),
        "LAN": uplinks.tcp(uplinks.eth4_gateway),
        "LAN, 6": uplinks.tcp(uplinks.eth6_gateway),
        **_others(uplinks),
    }
    Watched(doomed, protected).nobody_dies(agent)
    end = _vpn_up(uplinks)
    try:
        Watched(doomed, protected).fate(agent, "bypass")
        through = {
            "through": uplinks.udp(uplinks.service4, "10.9.0.1"),
            "through, 6": uplinks.udp(uplinks.service6, "fd00:9::1"),
        }
        agent.looked_again()
        assert all(alive(talk.sock) for talk in through.values())
    finally:
        end.close()
    until(lambda: not any(alive(talk.sock) for talk in through.values()), "they are gone")
    until(lambda: len(agent.destroyed()) == len(doomed) + len(through), "the log names them")
    assert {agent.destroyed()[talk.cookie] for talk in through.values()} == {"gone"}
    assert all(alive(talk.sock) for talk in protected.values())


def test_an_address_that_is_back_within_its_hold(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """Connections survive a flap, and what was queued meanwhile comes through."""
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "60s"}))
    for _flap in range(3):
        ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
        until(lambda: agent.status()["rules"][0]["hold"] == 1, "it is held")
        ip(
            uplinks.host,
            f"addr add {uplinks.eth4}/24 dev eth0",
            f"route replace {uplinks.default4}",
        )
        until(lambda: agent.status()["rules"][0]["violations"] == 0, "it is in order again")
    assert agent.destroyed() == {}
    talk.sock.setblocking(True)
    talk.sock.sendall(b"still here")
    assert talk.peer is not None
    assert talk.peer.recv(64) == b"still here"


def test_an_address_that_was_back_while_the_agent_did_not_look(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    """It rests now and then; what came back and went meanwhile stands in the events."""
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "2s"}))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["hold"] == 1, "it is held")
    agent.signal(signal.SIGSTOP)
    try:
        ip(
            uplinks.host,
            f"addr add {uplinks.eth4}/24 dev eth0",
            f"route replace {uplinks.default4}",
            f"addr del {uplinks.eth4}/24 dev eth0",
        )
        gone = time.monotonic()
        # The hold that began before would be over by now.
        time.sleep(2)
        looks = agent.looks()
    finally:
        agent.signal(signal.SIGCONT)
    until(lambda: agent.looks() > looks, "it has looked")
    assert alive(talk.sock)
    assert agent.destroyed() == {}
    Watched({"4": talk}, {}).fate(agent, "gone")
    assert time.monotonic() - gone > 2


def test_a_hold_that_ends(uplinks: Uplinks, start_agent: StartAgent) -> None:
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "700ms"}))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["hold"] == 1, "it is held")
    assert alive(talk.sock)
    Watched({"4": talk}, {}).fate(agent, "gone")


def test_an_address_that_still_stands_on_another_link(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    ip(uplinks.host, f"addr add {uplinks.eth4}/32 dev wlan0")
    ip(uplinks.host, f"addr add {uplinks.eth6}/128 dev wlan0 nodad")
    uplinks.fall_back()
    living = {"4": uplinks.tcp(uplinks.service4), "6": uplinks.tcp(uplinks.service6)}
    agent = start_agent(uplinks.host, policy(_GONE))
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    Watched({}, living).nobody_dies(agent)


def test_the_control_connection_lives(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """The agent's ancestors hold these: they are protected, and status and log say so."""
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE, protect={"loopback": True}))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["protected"] == 1, "it is protected")
    assert alive(talk.sock)
    assert "protected_by=control_connection" in agent.log()


@pytest.mark.parametrize("how", ["named", "all"])
def test_other_namespaces_are_heard_and_not_pinned(
    uplinks: Uplinks, start_agent: StartAgent, how: str
) -> None:
    """The agent is in the far host's namespace. The other one is deleted while it runs."""
    names = ["current", uplinks.host.name] if how == "named" else ["all"]
    # Nobody else's: `all` means every namespace of the machine.
    ours4, ours6 = "192.0.2.177", "2001:db8:a::177"
    ip(uplinks.host, f"addr add {ours4}/32 dev eth0", f"addr add {ours6}/128 dev eth0 nodad")
    doomed = {
        "4": uplinks.tcp(uplinks.eth4_gateway, ours4),
        "6": uplinks.tcp(uplinks.eth6_gateway, ours6),
    }
    match = {"stranded": "address_gone", "local": [ours4, ours6]}
    rule = {"name": "gone", "match": match}
    agent = start_agent(uplinks.far, policy(rule, namespaces=names))
    ip(uplinks.host, f"addr del {ours4}/32 dev eth0", f"addr del {ours6}/128 dev eth0")
    until(lambda: not any(alive(each.sock) for each in doomed.values()), "they are gone")
    uplinks.host.close()
    until(lambda: "f0" not in ip(uplinks.far, "-o link"), "the namespace is gone, and its wires")
    if how == "named":
        until(
            lambda: any(each["namespace"] == uplinks.host.name for each in _failed(agent)),
            "the status says that it is not there",
            seconds=25,
        )
        assert agent.command("status", own_places=False)[0] != 0


def test_a_namespace_that_is_made_anew_under_its_name(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    """Nothing leads there from where the agent is; it looks long before its regular look."""
    ends = "10.66.0.1", "10.66.0.2"
    rule = {"name": "gone", "match": {"stranded": "address_gone", "local": list(ends)}}
    protect = {**OURS, "loopback": False}
    other = uplinks.lab.namespace("other")
    document = policy(rule, namespaces=["current", other.name], protect=protect)
    agent = start_agent(uplinks.far, document, resync="10m")
    for _round in range(3):
        other.close()
        looks = agent.looks()
        netns.create(other.name)
        try:
            until(lambda before=looks: agent.looks() > before, "the agent has looked")
            doomed = _stranded_within(other.name, *ends)
            until(lambda: not any(map(alive, doomed)), "they are gone")  # noqa: B023
        finally:
            netns.remove(other.name)
        for sock in doomed:
            sock.close()


def _stranded_within(name: str, local: str, remote: str) -> list[socket.socket]:
    """Both ends of a connection in the namespace of that name, from which both addresses went."""

    def made() -> list[socket.socket]:
        netns.setns(name, 0)
        with socket.create_server((remote, 0)) as listener:
            one = socket.create_connection(listener.getsockname(), 5, (local, 0))
            return [one, listener.accept()[0]]

    words = ["ip", "-n", name]
    subprocess.run([*words, "link", "set", "lo", "up"], check=True)
    for end in (local, remote):
        subprocess.run([*words, "addr", "add", f"{end}/32", "dev", "lo"], check=True)
    with ThreadPoolExecutor(1) as thread:
        doomed = thread.submit(made).result()
    for end in (local, remote):
        subprocess.run([*words, "addr", "del", f"{end}/32", "dev", "lo"], check=True)
    return doomed


def _failed(agent: RunningAgent) -> list[dict[str, str]]:
    agent.poke()
    return list(agent.status()["last_pass"]["not_evaluated"])
