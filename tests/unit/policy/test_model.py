# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule equality after a reload."""

from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets.policy.model import rules_equal
from linuxnet_sockets.policy.parse import parse_policy
from tests.support.policy_documents import PolicyNames, document, policy, rule

RULES: list[dict[str, Any]] = [
    rule(),
    rule(match={"user": ["alice", "33"], "remote_port": ["https", "8000-8100"]}),
    rule(match={"local": "interface:eth0", "not": {"any": [{"remote": ["10.0.0.0/8", "::1"]}]}}),
    rule(match={"stranded": [{"verdict": "rerouted", "to": ["eth0"]}, "address_gone"]}),
    rule(match={"stuck": [{"verdict": "close_wait", "for": "10m"}], "process": "app"}),
    rule(match={"local_port": 5000, "superseded": {"silent_for": "5s"}}),
    rule(match={"expression": "dport = :443 and not src 10.0.0.0/8"}),
    rule(match={"rtt": "> 200ms <5s", "mark": "0x10/0xff", "idle": "5m", "cgroup": "/a"}),
    rule(while_={"interface": "wg0", "is": "up"}),
    rule(while_={"any": [{"route": "default", "via": "eth0"}, {"not": {"address": "10.0.0.1"}}]}),
    rule(hold="3s"),
    rule(action="report"),
    rule("another"),
]
RULES[9]["while"]["any"][1]["not"]["is"] = "present"


@pytest.mark.parametrize("one", range(len(RULES)))
def test_rules_equal(one: int) -> None:
    first = policy(RULES[one]).rules[0]
    # At another position in the document.
    second = policy(rule("before"), RULES[one]).rules[1]
    assert second.match.root is not first.match.root
    assert rules_equal(first, second)
    for other in (RULES[each] for each in range(len(RULES)) if each != one):
        assert not rules_equal(first, policy(other).rules[0])


def test_rules_with_another_uid_differ() -> None:
    class Others(PolicyNames):
        def user_id(self, name: str) -> int | None:
            return {"alice": 1001}.get(name)

    text = document(rule(match={"user": "alice"}))
    before = parse_policy(text, names=PolicyNames(), files=None).rules[0]
    assert rules_equal(before, parse_policy(text, names=PolicyNames(), files=None).rules[0])
    assert not rules_equal(before, parse_policy(text, names=Others(), files=None).rules[0])


def test_rules_equal_on_deepest_nesting() -> None:
    match: dict[str, Any] = {"remote": "198.51.100.0/24"}
    for _each in range(30):
        match = {"not": match}
    one, other = (policy(rule(match={"all": [match]})).rules[0] for _each in range(2))
    assert rules_equal(one, other)
