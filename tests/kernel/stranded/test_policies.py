# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconcile passes on a host whose addresses, links and tunnel change."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from linuxnet_sockets.host.host import Host
from linuxnet_sockets.policy.decide import Decider
from linuxnet_sockets.policy.findings import HOLD
from linuxnet_sockets.policy.model import Policy
from linuxnet_sockets.policy.parse import parse_policy
from linuxnet_sockets.policy.reconcile import (
    PassOptions,
    ReconcileResult,
    reconcile,
    reconcile_once,
)
from tests.kernel.stranded.connections import Connections
from tests.support.topologies.networks import UplinkConnection, Uplinks, ip
from tests.support.topologies.topology import LabNamespace
from tests.support.topologies.waiting import until

GONE = {
    "name": "gone-with-the-address",
    "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone"]},
}
# The tests hold the sockets, so the guard must not protect them.
PROTECT = {"control_connection": False, "ssh_sessions": False, "kernel": False}


def policy_for(where: LabNamespace, *rules: dict[str, Any], **keys: Any) -> Policy:
    document = {
        "version": 1,
        "namespaces": [where.name],
        "limits": {"max_sockets": 100},
        "protect": PROTECT,
        "rules": list(rules),
        **keys,
    }
    return parse_policy(document, names=Host(), files=None)


def outside(where: LabNamespace) -> set[int]:
    """The cookies of the connections that ss(8) prints."""
    printed = where.output("ss", "-H", "-O", "-n", "-e", "-t", "-u", "state", "connected")
    return {int(word.removeprefix("sk:"), 16) for word in printed.split() if word.startswith("sk:")}


def cookies(opened_connections: dict[str, UplinkConnection]) -> set[int]:
    return {connection.cookie for connection in opened_connections.values()}


def found(result: ReconcileResult) -> dict[int, str]:
    return {each.violation.socket.cookie: each.status for each in result.decision.findings}


def test_address_back_within_hold_destroys_nothing(
    uplinks: Uplinks, connections: Connections
) -> None:
    host = uplinks.host
    before = outside(host)
    policy = policy_for(host, {**GONE, "hold": "300ms"})
    decider = Decider(policy)
    for _flap in range(5):
        ip(host, f"addr del {uplinks.eth4}/24 dev eth0")
        result = reconcile(Host(), decider)
        assert found(result) == dict.fromkeys(cookies(connections.four), HOLD)
        ip(host, f"addr add {uplinks.eth4}/24 dev eth0", f"route add {uplinks.default4}")
        assert found(reconcile(Host(), decider)) == {}
    assert outside(host) == before


def test_removed_address_destroys_only_its_connections(
    uplinks: Uplinks, connections: Connections
) -> None:
    host = uplinks.host
    before = outside(host)
    policy = policy_for(host, {**GONE, "hold": "300ms"})
    ip(host, f"addr del {uplinks.eth4}/24 dev eth0")
    predicted = reconcile_once(Host(), policy, PassOptions(check=True))
    assert outside(host) == before
    done = reconcile_once(Host(), policy)
    stranded = cookies(connections.four)
    for result in (predicted, done):
        assert {each.violation.socket.cookie for each in result.results} == stranded
        assert {each.violation.evidence for each in result.results} == {("stranded: address_gone",)}
    assert {each.result.outcome for each in done.results} <= {"destroyed", "disconnected"}
    assert outside(host) == before - stranded
    assert reconcile_once(Host(), policy).results == ()


def test_address_moved_to_another_link_destroys_nothing(
    uplinks: Uplinks, connections: Connections
) -> None:
    host = uplinks.host
    before = outside(host)
    ip(host, f"addr add {uplinks.eth4}/32 dev wlan0", f"addr del {uplinks.eth4}/24 dev eth0")
    assert found(reconcile_once(Host(), policy_for(host, {**GONE, "hold": 0}))) == {}
    assert outside(host) == before
    assert cookies(connections.four) <= before


def test_vpn_rule_destroys_bypassing_connections_while_up(
    uplinks: Uplinks, connections: Connections, tunnel: Callable[..., io.FileIO]
) -> None:
    host = uplinks.host
    rule = {
        "name": "all-through-the-vpn",
        "while": {
            "all": [{"interface": "tun0", "is": "up"}, {"route": "0.0.0.0/1", "via": "tun0"}]
        },
        "match": {
            "remote": ["0.0.0.0/1", "128.0.0.0/1"],
            "not": {"any": [{"local": "interface:tun0"}, {"remote": "198.51.100.0/24"}]},
        },
        "hold": 0,
    }
    policy = policy_for(host, rule)
    misspelled = policy_for(host, {**rule, "while": {"not": {"interface": "tunO", "is": "up"}}})
    before = outside(host)
    assert found(reconcile_once(Host(), policy)) == {}
    tunnel("tun0")
    ip(host, "addr add 10.9.0.1/32 dev tun0", "route add 0.0.0.0/1 dev tun0 table 51820")
    check = PassOptions(check=True)
    until(lambda: found(reconcile_once(Host(), policy, check)) != {}, "the tunnel is up")
    assert found(reconcile_once(Host(), misspelled)) == {}
    assert outside(host) == before
    done = reconcile_once(Host(), policy)
    streams = {
        name: connection for name, connection in connections.four.items() if "udp" not in name
    }
    assert {each.violation.socket.cookie for each in done.results} == cookies(streams)
    assert outside(host) == before - cookies(streams)
