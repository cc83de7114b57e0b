# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alternative names of interfaces, and labels of addresses."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from linuxnet_sockets.errors import InputError
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.policy.reconcile import reconcile_once
from tests.kernel.stranded.connections import recorded, selected, view_of
from tests.kernel.stranded.test_policies import policy_for
from tests.support.topologies.networks import Uplinks, ip

ETH = "enx001122334455"
# Longer than the name of an interface may be.
WLAN = "wlp0s20f3-of-a-very-long-alternative-name"


@pytest.fixture
def named(uplinks: Uplinks) -> Uplinks:
    try:
        for link, name in (("eth0", ETH), ("wlan0", WLAN)):
            ip(uplinks.host, f"link property add dev {link} altname other-{link} altname {name}")
    except subprocess.CalledProcessError:
        pytest.skip("no alternative names")
    return uplinks


@pytest.mark.parametrize(
    ("by_name", "by_alternative"),
    [
        ({"local": "interface:eth0"}, {"local": f"interface:{ETH}"}),
        ({"local": "interface:wlan0"}, {"local": f"interface:{WLAN}"}),
        ({"local": "interface:eth0"}, {"local": "interface:other-eth0"}),
        ({"device": "eth0"}, {"device": ETH}),
        ({"device": ["eth0", "wlan0"]}, {"device": [WLAN, "eth0"]}),
        ({"not": {"device": "eth0"}}, {"not": {"device": ETH}}),
        ({"expression": "dev = eth0"}, {"expression": f"dev = {ETH}"}),
        ({"expression": "dev != wlan0"}, {"expression": f"dev != {WLAN}"}),
    ],
)
def test_selectors(named: Uplinks, by_name: dict[str, Any], by_alternative: dict[str, Any]) -> None:
    for local, device in ((named.eth4, "eth0"), (named.wlan4, None), (named.wlan4, "wlan0")):
        gateway = named.eth4_gateway if local == named.eth4 else named.wlan4_gateway
        named.tcp(gateway, local, device=device)
    found = selected(named.host, **by_alternative)
    assert found == selected(named.host, **by_name)
    assert found


def test_records_show_the_primary_name(named: Uplinks) -> None:
    connection = named.tcp(named.service4, device="eth0")
    ip(named.host, f"route replace {named.service4}/32 via {named.wlan4_gateway} dev wlan0")
    other = named.tcp(named.eth4_gateway, named.eth4)
    ip(named.host, f"route add {named.eth4_gateway}/32 via {named.wlan4_gateway} dev wlan0")
    assert selected(named.host, device=ETH) == {connection.cookie}
    assert selected(named.host, stranded={"verdict": "rerouted", "to": [WLAN]}) == {other.cookie}
    assert not selected(named.host, stranded={"verdict": "rerouted", "to": [ETH]})
    (verdict,) = recorded(named.host)[other.cookie] or ()
    assert verdict["evidence"]["leaves_by"] == ["wlan0"]
    assert verdict["evidence"]["held_by"] == ["eth0"]


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ({"interface": ETH, "is": "up"}, True),
        ({"interface": ETH, "is": "present"}, True),
        ({"not": {"interface": ETH, "is": "present"}}, False),
        ({"route": "default", "via": ETH}, True),
        ({"route": "default", "via": WLAN}, False),
    ],
)
def test_conditions(named: Uplinks, condition: dict[str, Any], matches: bool) -> None:
    connection = named.tcp(named.service4)
    rule = {
        "name": "named",
        "while": condition,
        "match": {"local": f"interface:{ETH}", "remote": named.service4},
        "action": "report",
        "hold": 0,
    }
    result = reconcile_once(Host(), policy_for(named.host, rule))
    found = {each.violation.socket.cookie for each in result.decision.findings}
    assert found == ({connection.cookie} if matches else set())
    assert result.missing_interfaces == {}
    assert result.existing_interfaces == ["eth0", "lo", "wlan0"]


def test_label_of_an_address_is_rejected(uplinks: Uplinks) -> None:
    ip(uplinks.host, "addr add 192.0.2.100/32 dev eth0 label eth0:1")
    with pytest.raises(InputError) as caught:
        selected(uplinks.host, local="interface:eth0:1")
    assert caught.value.problem == "eth0:1 is the label of an address, not port 1 of eth0"
    assert "192.0.2.100" in caught.value.allowed
    # A port without a label.
    assert selected(uplinks.host, local="interface:eth0:2") == set()
    with pytest.raises(InputError, match="label of an address"):
        selected(uplinks.host, local="interface:eth0:vip")
    with pytest.raises(InputError, match="label of an address"):
        selected(uplinks.host, device="eth0:1")


def test_alternative_names_with_colons(uplinks: Uplinks) -> None:
    try:
        for name in ("lan:a", "lan:443"):
            ip(uplinks.host, f"link property add dev eth0 altname {name}")
    except subprocess.CalledProcessError:
        pytest.skip("no alternative names")
    uplinks.tcp(uplinks.eth4_gateway, uplinks.eth4, device="eth0")
    expected = selected(uplinks.host, local="interface:eth0")
    assert expected
    for name in ("lan:a", "lan:443"):
        assert selected(uplinks.host, local=f"interface:{name}") == expected
        assert selected(uplinks.host, device=name) == expected
        assert selected(uplinks.host, expression=f"dev = {name}") == expected
    with pytest.raises(InputError, match="label of an address"):
        selected(uplinks.host, local="interface:lan:b")
    rule = {
        "name": "named",
        "while": {"interface": "lan:a", "is": "up"},
        "match": {"local": "interface:lan:a"},
        "action": "report",
        "hold": 0,
    }
    result = reconcile_once(Host(), policy_for(uplinks.host, rule))
    assert {each.violation.socket.cookie for each in result.decision.findings} == expected
    assert result.missing_interfaces == {}
    # It could be the label of an address, so its absence proves nothing.
    absent = {**rule, "while": {"not": {"interface": "lan:b", "is": "present"}}}
    assert not reconcile_once(Host(), policy_for(uplinks.host, absent)).decision.findings


def test_names_of_a_link(named: Uplinks) -> None:
    with view_of(named.host) as session:
        names = {link.name: set(link.alternative_names) for link in session.snapshot().links}
    assert names == {"lo": set(), "eth0": {ETH, "other-eth0"}, "wlan0": {WLAN, "other-wlan0"}}
