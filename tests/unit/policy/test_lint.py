# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Semantic checks of rules."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import assume, given, settings

from linuxnet_sockets.errors import InputError, PolicyErrors
from linuxnet_sockets.messages import path_text, warning_text
from linuxnet_sockets.policy.satisfiability import names_specific_sockets, satisfiable
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.selector.tree import Node
from tests.support.generated_selectors import selectors, sockets
from tests.support.policy_documents import PolicyNames, policy, rule
from tests.support.sample_sockets import SampleNames, decoded, snapshot_of


def tree(match: Any, role: str = "find") -> Node:
    return parse_selector(match, names=PolicyNames(), role=role).root


def problems(*rules: dict[str, Any], **keys: Any) -> dict[str, str]:
    with pytest.raises(PolicyErrors) as caught:
        policy(*rules, **keys)
    return {path_text(error.path): error.problem for error in caught.value.errors}


@pytest.mark.parametrize(
    "match",
    [
        {"local_port": 80, "all": [{"local_port": 443}]},
        {"local_port": "1-1023", "not": {"local_port": "0-2000"}},
        {"remote": "10.0.0.1", "not": {"remote": "10.0.0.0/8"}},
        {"remote": "10.0.0.0/8", "all": [{"remote": "192.0.2.0/24"}]},
        {"remote": "10.0.0.1:443", "all": [{"remote": "10.0.0.0/8:80"}]},
        {"remote": "2001:db8::/32", "family": "inet"},
        {"local": "10.0.0.1", "all": [{"local": "2001:db8::1"}]},
        {"user": "1000-2000", "not": {"any": [{"user": "0-500"}, {"user": "900-3000"}]}},
        {"user": "alice", "not": {"user": 1000}},
        {"state": "established", "all": [{"state": "time-wait"}]},
        {"protocol": "udp", "state": "close-wait"},
        {"send_queue": ">100", "all": [{"send_queue": "<50"}]},
        {"idle": "10m", "not": {"idle": "5m"}},
        {"process": "nginx", "not": {"process": "nginx"}},
        {"stuck": "syn_sent", "state": "established"},
        {"any": [{"mark": 1, "not": {"mark": 1}}, {"pid": 7, "not": {"pid": 7}}]},
    ],
)
def test_unsatisfiable_match_is_an_error(match: Any) -> None:
    assert next(iter(problems(rule(match=match)))).startswith("rules[0].match")


@pytest.mark.parametrize(
    "match",
    [
        {"local_port": 80, "remote_port": 443},
        {"local_port": "1-1023", "not": {"local_port": "0-900"}},
        {"remote": "10.0.0.0/8", "not": {"remote": "10.0.0.1"}},
        {"remote": "10.0.0.0/8", "not": {"remote": "10.0.0.0/8:80"}},
        {"remote": "::/0", "not": {"remote": "::ffff:0:0/96"}},
        {"remote": "0.0.0.0/0", "all": [{"remote": "::ffff:0:0/96"}]},
        {"local": "interface:wg0", "not": {"local": "interface:wg1"}},
        {"remote": ["10.0.0.1", "2001:db8::1"], "family": "inet6"},
        {"user": "1000-2000", "not": {"user": "0-1500"}},
        {"send_queue": ">100", "all": [{"send_queue": "!=150"}]},
        {"idle": "5m", "not": {"idle": "10m"}},
    ],
)
def test_satisfiable_match_is_valid(match: Any) -> None:
    assert satisfiable([(tree(match), True)]) is True
    policy(rule(match={**match, "state": "established"}))


@pytest.mark.parametrize(
    "match",
    [
        {"not": {"remote": "10.0.0.0/8"}},
        {"protocol": "tcp", "not": {"user": "root"}},
        {"not": {"any": [{"local": "interface:wg0"}, {"remote": "10.0.0.0/8"}]}},
        {"any": [{"remote": "192.0.2.1"}, {"not": {"remote": "10.0.0.0/8"}}]},
        {"not": {"all": [{"remote": "10.0.0.0/8"}, {"remote_port": 443}]}},
        {"remote": "0.0.0.0/0"},
        {"remote": ["0.0.0.0/0", "::/0"]},
        {"local_port": "0-65535"},
        {"user": "0-4294967294"},
        {"send_queue": ">=0"},
        {"stuck": "silent", "not": {"remote": "10.0.0.0/8"}},
    ],
)
def test_unspecific_match_requires_state(match: Any) -> None:
    assert set(problems(rule(match=match))) == {"rules[0].match"}
    policy(rule(match={**match, "state": "all"}))
    policy(rule(match=match, action="report"))


@pytest.mark.parametrize("match", [{"protocol": "tcp"}, {"family": "inet6"}])
def test_protocol_and_family_are_unspecific(match: Any) -> None:
    assert "rules[0].match" in problems(rule(match=match))
    policy(rule(match={**match, "state": "connected"}))


@pytest.mark.parametrize(
    "match",
    [
        {"user": "1000-60000", "not": {"remote": "10.0.0.0/8"}},
        {"not": {"not": {"remote": "10.0.0.0/8"}}},
        {"not": {"any": [{"not": {"remote": "10.0.0.0/8"}}, {"remote": "10.0.0.1"}]}},
        {"stranded": "address_gone"},
        {"remote": ["0.0.0.0/1", "128.0.0.0/1"]},
        {"remote": "0.0.0.0/0:443"},
        {"any": [{"remote": "192.0.2.1"}, {"user": "alice"}]},
    ],
)
def test_specific_match_is_valid(match: Any) -> None:
    assert names_specific_sockets(tree(match))
    policy(rule(match=match))


def test_unsatisfiable_while_is_an_error() -> None:
    up = {"interface": "wg0", "is": "up"}
    gone = {"not": {"interface": "wg0", "is": "present"}}
    assert set(problems(rule(while_={"all": [up, gone]}))) == {"rules[0].while"}


@pytest.mark.parametrize(
    ("protect", "match", "source"),
    [
        ({"selectors": [{"remote": "10.0.0.0/8"}]}, {"remote": "10.1.0.0/16"}, "selectors[0]"),
        (
            {"selectors": [{"user": "root"}, {"remote": "10.0.0.0/8", "remote_port": 443}]},
            {"remote": "10.1.2.3:443", "remote_port": "443-443"},
            "selectors[1]",
        ),
        (None, {"remote": "127.0.0.1"}, "loopback"),
        (None, {"state": "listening", "local_port": 80}, "listeners"),
        (None, {"protocol": "udp", "state": "closed", "local_port": 53}, "unconnected"),
    ],
)
def test_fully_protected_rule_is_a_warning(protect: Any, match: Any, source: str) -> None:
    keys = {} if protect is None else {"protect": protect}
    (warning,) = policy(rule(match=match), **keys).warnings
    assert path_text(warning.path) == "rules[0].match"
    assert f"protect.{source}" in warning_text(warning)
    # A rule with action report gets no warning.
    assert policy(rule(match=match, action="report"), **keys).warnings == ()


@pytest.mark.parametrize(
    ("protect", "match"),
    [
        ({"selectors": [{"remote": "10.1.0.0/16"}]}, {"remote": "10.0.0.0/8"}),
        ({"selectors": [{"remote": "10.0.0.0/8:443"}]}, {"remote": "10.0.0.1"}),
        ({"loopback": False}, {"remote": "127.0.0.1"}),
        (None, {"state": "all", "local_port": 80}),
    ],
)
def test_partly_protected_rule_is_no_warning(protect: Any, match: Any) -> None:
    keys = {} if protect is None else {"protect": protect}
    assert policy(rule(match=match), **keys).warnings == ()


def test_duplicate_rule_is_a_warning() -> None:
    up = {"interface": "wg0", "is": "up"}
    (warning,) = policy(rule("one"), rule("two", while_=up), rule("three", hold="1m")).warnings
    assert path_text(warning.path) == "rules[2]"
    assert "rules[0]" in warning.problem


@given(selectors(expressions=False), sockets())
@settings(max_examples=300)
def test_selector_that_matches_is_satisfiable(match: Any, facts: Any) -> None:
    """Compared with the evaluation of the selector on a socket."""
    try:
        selector = parse_selector(match, names=SampleNames(), role="protect")
    except InputError:
        assume(False)
    snapshot: Any = snapshot_of(facts)
    value = selector.bind(snapshot)(decoded(facts, snapshot))
    if value is not None:
        assert satisfiable([(selector.root, value)]) is not False


def test_many_protections_parse_fast() -> None:
    """These took 14 s before the number of comparisons was bounded."""
    selectors = [{"remote": f"192.0.2.{n % 250}", "local_port": n + 1} for n in range(1_000)]
    rules = [rule(f"rule-{n}", match={"remote": f"10.0.{n}.0/24", "user": 0}) for n in range(20)]
    before = time.process_time()
    policy(*rules, protect={"selectors": selectors})
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    ("protocols", "engine", "named"),
    [
        (["tcp", "udp"], "netlink", []),
        (["tcp", "mptcp"], "netlink", ["mptcp"]),
        (["raw", "udplite"], "netlink", ["raw, udplite"]),
        (["tcp", "mptcp"], "auto", []),
        (["raw"], "pidfd", []),
        (["tcp", "udp"], "bpf", []),
        (["mptcp", "raw", "udplite"], "bpf", ["mptcp, raw, udplite"]),
    ],
)
def test_warns_about_protocols_that_the_engine_cannot_destroy(
    protocols: list[str], engine: str, named: list[str]
) -> None:
    match = {"protocol": protocols, "remote": "198.51.100.7"}
    warnings = policy(rule(match=match), engine=engine).warnings
    assert [each.path for each in warnings] == [("rules", 0, "match")] * len(named)
    for warning, names in zip(warnings, named):
        assert f"{names} sockets" in warning.problem
        assert "engine: auto" in warning.remedy
    assert policy(rule(match=match, action="report"), engine=engine).warnings == ()
