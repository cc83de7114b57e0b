# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules as nftables rule sets, and what cannot be expressed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.errors import NotExpressible
from linuxnet_sockets.messages import describe
from linuxnet_sockets.policy.nftables_rules import FAMILY, TABLE, rule_set
from tests.support.policy_documents import policy, rule

ROLE = Path(__file__).parents[3] / "roles" / "agent"
VPN = {"interface": "wg0", "is": "up"}
MATCH: dict[str, Any] = {
    "protocol": ["tcp", "udp"],
    "user": "1000-60000",
    "not": {"any": [{"local": "interface:wg0"}, {"remote": ["10.0.0.0/8", "2001:db8::/32"]}]},
}
VPN_RULE = rule("vpn", match=MATCH, while_=VPN)


def chain(*rules: dict[str, Any], **keys: Any) -> list[str]:
    """The lines of the first rule's chain."""
    text = rule_set(policy(*rules, **keys)).text
    return [line.strip() for line in text.partition("chain rule_0 {")[2].splitlines()[1:-2]]


def test_rule_of_the_manual() -> None:
    found = rule_set(
        policy(VPN_RULE, protect={"selectors": [{"mark": 51820}, {"remote": "192.0.2.1:51820"}]})
    )
    assert found.rules == ("vpn",)
    assert found.unconditional == ("vpn",)
    assert found.left_out == ()
    assert (
        found.text.split("\n", 2)[2]
        == """\
table inet linuxnet_sockets
delete table inet linuxnet_sockets
table inet linuxnet_sockets {
    chain output {
        type filter hook output priority filter; policy accept;
        oifname "lo" accept
        meta mark & 0xffffffff == 0xca6c accept
        ip daddr { 192.0.2.1/32 } th dport 51820 accept
        jump rule_0
    }
    # Rule vpn
    chain rule_0 {
        oifname "wg0" return
        ip daddr { 10.0.0.0/8 } return
        ip6 daddr { 2001:db8::/32 } return
        meta skuid { 1000-60000 } tcp flags & (syn | ack) == syn counter reject with tcp reset
        meta skuid { 1000-60000 } meta l4proto udp counter reject with icmpx type admin-prohibited
    }
}
""".replace("    ", "\t")
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"user": "alice"}, "meta skuid { 1000 } tcp flags"),
        ({"user": ["alice", "33"]}, "meta skuid { 33, 1000 } tcp flags"),
        (
            {"user": 1000, "remote_port": [443, "8000-8010"]},
            "meta skuid { 1000 } th dport { 443, 8000-8010 } tcp flags",
        ),
        ({"user": 1000, "remote": "0.0.0.0/0"}, "meta skuid { 1000 } ip daddr { 0.0.0.0/0 } tcp"),
        # nft refuses intervals that overlap.
        ({"user": 1000, "remote": ["10.0.0.0/8", "10.1.0.0/16"]}, "ip daddr { 10.0.0.0/8 } tcp"),
        ({"user": 1000, "family": "inet6"}, "meta skuid { 1000 } meta nfproto ipv6 tcp"),
        ({"user": 1000, "mark": "0x10/0xff"}, "meta skuid { 1000 } meta mark & 0xff == 0x10 tcp"),
        ({"user": 1000, "all": [{"local_port": 25}]}, "meta skuid { 1000 } th sport { 25 } tcp"),
    ],
)
def test_keys(keys: dict[str, Any], expected: str) -> None:
    (line,) = chain(rule(match=keys))
    assert expected in line


def test_alternatives_of_a_positive_key_are_lines() -> None:
    lines = chain(rule(match={"user": 1000, "remote": ["10.0.0.0/8", "2001:db8::/32"]}))
    assert [line.split(" tcp ")[0] for line in lines] == [
        "meta skuid { 1000 } ip daddr { 10.0.0.0/8 }",
        "meta skuid { 1000 } ip6 daddr { 2001:db8::/32 }",
    ]


def test_exception_with_several_keys() -> None:
    exception = {"remote": "10.0.0.0/8", "remote_port": 53}
    lines = chain(rule(match={"user": 1000, "not": exception}))
    assert lines[0] == "ip daddr { 10.0.0.0/8 } th dport { 53 } return"


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"match": {"remote": "10.0.0.0/8"}}, "match.user"),
        ({"match": {"user": "0-1000"}}, "match.user"),
        ({"match": {"user": "root"}}, "match.user"),
        ({"match": {"user": 1000, "process": "curl"}}, "process"),
        ({"match": {"user": 1000, "state": "established"}}, "state"),
        ({"match": {"user": 1000, "stranded": ["unroutable"]}}, "stranded"),
        ({"match": {"user": 1000, "idle": "5m", "state": "established"}}, ""),
        ({"match": {"user": 1000, "any": [{"remote_port": 1}, {"mark": 1}]}}, "match.any"),
        ({"match": {"user": 1000, "remote": "interface:wg0"}}, "remote"),
        ({"match": {"user": 1000, "local": "interface:wg0:22"}}, "local"),
        ({"match": {"user": 1000, "protocol": "raw"}}, "protocol"),
        ({"match": {"user": 1000, "not": {"not": {"mark": 1}}}}, "not"),
        ({"match": {"user": 1000}, "while_": VPN}, "while"),
        ({"match": MATCH, "while_": {"interface": "wg1", "is": "up"}}, "while"),
        ({"match": MATCH, "while_": {"not": VPN}}, "while"),
        ({"match": MATCH, "while_": {"address": "10.8.0.2", "is": "present"}}, "while"),
        ({"match": {"user": 1000}, "action": "report"}, "action"),
    ],
)
def test_what_cannot_be_expressed_is_named(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(NotExpressible) as caught:
        rule_set(policy(rule("a-rule", **keys)))
    assert caught.value.place == "rules.a-rule"
    assert caught.value.key.startswith(key)
    assert "a packet filter cannot express" in describe(caught.value)
    # Beside a rule that can be expressed, it is left out.
    found = rule_set(policy(rule("a-rule", **keys), VPN_RULE))
    assert [error.key for error in found.left_out] == [caught.value.key]
    assert found.rules == ("vpn",)


@pytest.mark.parametrize(
    ("keys", "place", "key"),
    [
        ({"protect": {"selectors": [{"process": "chronyd"}]}}, "protect.selectors[0]", "process"),
        ({"mode": "report"}, "policy", "mode"),
        ({"namespaces": ["blue"]}, "policy", "namespaces"),
    ],
)
def test_policies_without_a_rule_set(keys: dict[str, Any], place: str, key: str) -> None:
    """A filter that rejects what the guard protects would be worse than none."""
    with pytest.raises(NotExpressible) as caught:
        rule_set(policy(VPN_RULE, **keys))
    assert caught.value.place == place
    assert caught.value.key.startswith(key)


def test_name_of_an_interface_cannot_add_lines() -> None:
    name = 'x"\x1bdrop'
    match = {"user": 1000, "not": {"local": f"interface:{name}"}}
    with pytest.raises(NotExpressible, match="nft cannot name"):
        rule_set(policy(rule(match=match)))


def test_unit_of_the_role_removes_this_table() -> None:
    unit = ROLE / "templates" / "socket-agent-firewall.service.j2"
    (stop,) = re.findall("^ExecStop=-(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    assert stop == f"/usr/sbin/nft delete table {FAMILY} {TABLE}"
