# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network changes: which connections the agent destroys, and which it keeps."""

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
from tests.kernel.agent.running import PROTECT, RunningAgent, alive, policy
from tests.support.topologies.networks import (
    VPN_MARK,
    UplinkConnection,
    Uplinks,
    ip,
    route_all_through,
    tun,
)
from tests.support.topologies.waiting import until

_GONE = {
    "name": "gone",
    "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone", "unroutable"]},
}


class Expected:
    """The expected result for connections by name: destroyed or kept."""

    def __init__(
        self, violating: Mapping[str, UplinkConnection], kept: Mapping[str, UplinkConnection]
    ) -> None:
        self.violating = violating
        self.kept = kept

    def assert_destroyed(self, agent: RunningAgent, rule: str) -> None:
        """Check that this rule destroys the violating connections, and nothing destroys others."""
        until(lambda: not self._living(self.violating), "violating connections destroyed")
        until(
            lambda: (
                set(agent.destroyed())
                >= {connection.cookie for connection in self.violating.values()}
            ),
            "destroyed connections in the log",
        )
        agent.wait_for_pass()
        assert self._living(self.kept) == set(self.kept)
        assert agent.destroyed() == {
            connection.cookie: rule for connection in self.violating.values()
        }

    def assert_unchanged(self, agent: RunningAgent) -> None:
        agent.wait_for_pass()
        everything = {**self.violating, **self.kept}
        assert self._living(everything) == set(everything)
        assert agent.destroyed() == {}

    @staticmethod
    def _living(opened_connections: Mapping[str, UplinkConnection]) -> set[str]:
        return {name for name, connection in opened_connections.items() if alive(connection.sock)}


def _by_eth(
    uplinks: Uplinks, names: Iterable[str] = ("4", "mapped", "udp", "6")
) -> dict[str, UplinkConnection]:
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


def _others(uplinks: Uplinks) -> dict[str, UplinkConnection]:
    return {
        "loopback": uplinks.connect_locally("127.0.0.1"),
        "loopback6": uplinks.connect_locally("::1"),
        "LAN of the other link": uplinks.tcp(uplinks.wlan4_gateway),
        "LAN of the other link, 6": uplinks.tcp(uplinks.wlan6_gateway),
    }


def test_deleted_address(uplinks: Uplinks, start_agent: StartAgent) -> None:
    four = _by_eth(uplinks, ("4", "mapped", "accepted", "udp"))
    six = _by_eth(uplinks, ("6", "udp6"))
    others = _others(uplinks)
    agent = start_agent(uplinks.host, policy(_GONE))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    Expected(four, {**six, **others}).assert_destroyed(agent, "gone")
    ip(uplinks.host, f"addr del {uplinks.eth6}/64 dev eth0")
    Expected({**four, **six}, others).assert_destroyed(agent, "gone")


def test_link_down(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """For IPv4, the kernel sends no address event and no route event."""
    violating = _by_eth(uplinks, ("4", "mapped", "accepted", "udp", "6", "udp6"))
    agent = start_agent(uplinks.host, policy(_GONE))
    expected = Expected(violating, _others(uplinks))
    ip(uplinks.host, "link set eth0 down")
    expected.assert_destroyed(agent, "gone")


def test_lost_carrier(uplinks: Uplinks, start_agent: StartAgent) -> None:
    violating = _by_eth(uplinks)
    rule = {"name": "cable", "match": {"protocol": ["tcp", "udp"], "stranded": ["no_carrier"]}}
    agent = start_agent(uplinks.host, policy(rule))
    expected = Expected(violating, _others(uplinks))
    ip(uplinks.far, "link set f0 down")
    expected.assert_destroyed(agent, "cable")


def test_replaced_route(uplinks: Uplinks, start_agent: StartAgent) -> None:
    match = {"protocol": ["tcp", "udp"], "stranded": [{"verdict": "rerouted", "to": ["wlan0"]}]}
    violating = _by_eth(uplinks)
    neighbours = {
        "LAN": uplinks.tcp(uplinks.eth4_gateway),
        "LAN, 6": uplinks.tcp(uplinks.eth6_gateway),
    }
    agent = start_agent(uplinks.host, policy({"name": "moved", "match": match}))
    expected = Expected(violating, {**neighbours, **_others(uplinks)})
    ip(uplinks.host, f"route replace {uplinks.other4}")
    ip(uplinks.host, f"route del {uplinks.default6}", f"route add {uplinks.other6}")
    expected.assert_destroyed(agent, "moved")


def _vpn_up(uplinks: Uplinks) -> io.FileIO:
    """Do what wg-quick(8) does, with a tun device; return the end of the VPN program."""
    end = tun(uplinks.host, "tun0")
    route_all_through(uplinks.host, "tun0")
    return end


def test_vpn_up_and_down(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """While up: connections that bypass it are destroyed. When down: those through it."""
    bypass = {
        "name": "bypass",
        "while": {"interface": "tun0", "is": "up"},
        "match": {
            "protocol": ["tcp", "udp"],
            "stranded": [{"verdict": "rerouted", "to": ["tun0"]}],
        },
    }
    agent = start_agent(uplinks.host, policy(_GONE, bypass))
    violating = _by_eth(uplinks)
    protected = {
        "VPN transport": uplinks.udp(uplinks.service4, mark=VPN_MARK),
        "VPN transport, 6": uplinks.udp(uplinks.service6, mark=VPN_MARK),
        "LAN": uplinks.tcp(uplinks.eth4_gateway),
        "LAN, 6": uplinks.tcp(uplinks.eth6_gateway),
        **_others(uplinks),
    }
    Expected(violating, protected).assert_unchanged(agent)
    end = _vpn_up(uplinks)
    try:
        Expected(violating, protected).assert_destroyed(agent, "bypass")
        through = {
            "through": uplinks.udp(uplinks.service4, "10.9.0.1"),
            "through, 6": uplinks.udp(uplinks.service6, "fd00:9::1"),
        }
        agent.wait_for_pass()
        assert all(alive(connection.sock) for connection in through.values())
    finally:
        end.close()
    until(
        lambda: not any(alive(connection.sock) for connection in through.values()),
        "connections destroyed",
    )
    until(
        lambda: len(agent.destroyed()) == len(violating) + len(through),
        "destroyed connections in the log",
    )
    assert {agent.destroyed()[connection.cookie] for connection in through.values()} == {"gone"}
    assert all(alive(connection.sock) for connection in protected.values())


def test_address_back_within_the_hold(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """Connections survive a flap, and queued data arrives."""
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "60s"}))
    for _flap in range(3):
        ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
        until(lambda: agent.status()["rules"][0]["hold"] == 1, "in hold")
        ip(
            uplinks.host,
            f"addr add {uplinks.eth4}/24 dev eth0",
            f"route replace {uplinks.default4}",
        )
        until(lambda: agent.status()["rules"][0]["violations"] == 0, "violation over")
    assert agent.destroyed() == {}
    connection.sock.setblocking(True)
    connection.sock.sendall(b"still here")
    assert connection.peer is not None
    assert connection.peer.recv(64) == b"still here"


def test_address_back_between_two_passes(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """Events of the time without passes show that the address was back."""
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "2s"}))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["hold"] == 1, "in hold")
    agent.signal(signal.SIGSTOP)
    try:
        ip(
            uplinks.host,
            f"addr add {uplinks.eth4}/24 dev eth0",
            f"route replace {uplinks.default4}",
            f"addr del {uplinks.eth4}/24 dev eth0",
        )
        gone = time.monotonic()
        # The hold that began before the flap would be over now.
        time.sleep(2)
        passes = agent.passes()
    finally:
        agent.signal(signal.SIGCONT)
    until(lambda: agent.passes() > passes, "next pass")
    assert alive(connection.sock)
    assert agent.destroyed() == {}
    Expected({"4": connection}, {}).assert_destroyed(agent, "gone")
    assert time.monotonic() - gone > 2


def test_hold_ends(uplinks: Uplinks, start_agent: StartAgent) -> None:
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "700ms"}))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["hold"] == 1, "in hold")
    assert alive(connection.sock)
    Expected({"4": connection}, {}).assert_destroyed(agent, "gone")


def test_address_still_on_another_link(uplinks: Uplinks, start_agent: StartAgent) -> None:
    ip(uplinks.host, f"addr add {uplinks.eth4}/32 dev wlan0")
    ip(uplinks.host, f"addr add {uplinks.eth6}/128 dev wlan0 nodad")
    uplinks.add_fallback_routes()
    kept = {"4": uplinks.tcp(uplinks.service4), "6": uplinks.tcp(uplinks.service6)}
    agent = start_agent(uplinks.host, policy(_GONE))
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    Expected({}, kept).assert_unchanged(agent)


def test_control_connection_is_protected(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """An ancestor of the agent owns the connection; status and log show the protection."""
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE, protect={"loopback": True}))
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["protected"] == 1, "protected")
    assert alive(connection.sock)
    assert "protected_by=control_connection" in agent.log()


@pytest.mark.parametrize("selection", ["named", "all"])
def test_other_namespaces_are_monitored_and_not_pinned(
    uplinks: Uplinks, start_agent: StartAgent, selection: str
) -> None:
    """The agent runs in the far host's namespace; the other namespace is deleted."""
    names = ["current", uplinks.host.name] if selection == "named" else ["all"]
    # Unique addresses: `all` includes every namespace of the machine.
    ours4, ours6 = "192.0.2.177", "2001:db8:a::177"
    ip(uplinks.host, f"addr add {ours4}/32 dev eth0", f"addr add {ours6}/128 dev eth0 nodad")
    violating = {
        "4": uplinks.tcp(uplinks.eth4_gateway, ours4),
        "6": uplinks.tcp(uplinks.eth6_gateway, ours6),
    }
    match = {"stranded": "address_gone", "local": [ours4, ours6]}
    rule = {"name": "gone", "match": match}
    agent = start_agent(uplinks.far, policy(rule, namespaces=names))
    ip(uplinks.host, f"addr del {ours4}/32 dev eth0", f"addr del {ours6}/128 dev eth0")
    until(
        lambda: not any(alive(connection.sock) for connection in violating.values()),
        "connections destroyed",
    )
    uplinks.host.close()
    until(lambda: "f0" not in ip(uplinks.far, "-o link"), "namespace and veth removed")
    if selection == "named":
        until(
            lambda: any(entry["namespace"] == uplinks.host.name for entry in _not_evaluated(agent)),
            "missing namespace in the status",
            seconds=25,
        )
        assert agent.command("status", own_directories=False)[0] != 0


def test_recreated_namespace_is_found_before_the_resync(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    """No link connects it with the agent's namespace; only the mount table changes."""
    ends = "10.66.0.1", "10.66.0.2"
    rule = {"name": "gone", "match": {"stranded": "address_gone", "local": list(ends)}}
    protect = {**PROTECT, "loopback": False}
    other = uplinks.lab.namespace("other")
    document = policy(rule, namespaces=["current", other.name], protect=protect)
    agent = start_agent(uplinks.far, document, resync="10m")
    for _round in range(3):
        other.close()
        passes = agent.passes()
        netns.create(other.name)
        try:
            until(lambda before=passes: agent.passes() > before, "next pass")
            violating = _stranded_within(other.name, *ends)
            until(lambda: not any(map(alive, violating)), "connections destroyed")  # noqa: B023
        finally:
            netns.remove(other.name)
        for sock in violating:
            sock.close()


def _stranded_within(name: str, local: str, remote: str) -> list[socket.socket]:
    """Return both ends of a connection in a namespace, after deleting both addresses."""

    def connect() -> list[socket.socket]:
        netns.setns(name, 0)
        with socket.create_server((remote, 0)) as listener:
            client = socket.create_connection(listener.getsockname(), 5, (local, 0))
            return [client, listener.accept()[0]]

    command = ["ip", "-n", name]
    subprocess.run([*command, "link", "set", "lo", "up"], check=True)
    for end in (local, remote):
        subprocess.run([*command, "addr", "add", f"{end}/32", "dev", "lo"], check=True)
    with ThreadPoolExecutor(1) as thread:
        violating = thread.submit(connect).result()
    for end in (local, remote):
        subprocess.run([*command, "addr", "del", f"{end}/32", "dev", "lo"], check=True)
    return violating


def _not_evaluated(agent: RunningAgent) -> list[dict[str, str]]:
    agent.notify()
    return list(agent.status()["last_pass"]["not_evaluated"])
