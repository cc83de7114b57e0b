# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of expressions: conditions, precedence, and positions in errors."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxnet_sockets.errors import InputError
from linuxnet_sockets.selector.parse import parse_selector
from tests.support.sample_sockets import SampleNames, SampleSnapshot, decoded, facts


def matches(expression: str, **given: Any) -> bool | None:
    snapshot: Any = SampleSnapshot()
    selector = parse_selector({"expression": expression, "protocol": "tcp"}, names=SampleNames())
    return selector.bind(snapshot)(decoded(facts(**given), snapshot))


def rejected(expression: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_selector({"expression": expression}, names=SampleNames())
    assert caught.value.path == ("match", "expression")
    assert caught.value.value == expression
    assert caught.value.allowed or "(did you mean" in caught.value.problem
    return caught.value.problem


@pytest.mark.parametrize(
    ("expression", "true"),
    [
        ("dport = :443", True),
        ("dport 443", True),
        ("dport == :https", True),
        ("dport eq 0x1bb", True),
        ("dport ne :443", False),
        ("dport > :442 dport lt 444", True),
        ("dport >= :444", False),
        ("sport geq :40000 and sport leq :40000", True),
        ("sport = *", True),
        ("dst 192.0.2.7", True),
        ("dst = 192.0.2.7:443", True),
        ("dst 192.0.2.7:80", False),
        ("dst 192.0.2/24", True),
        ("dst 192.0.2.0/255.255.255.0", True),
        ("dst 192", False),
        ("dst 192/8", True),
        ("dst all", True),
        ("dst *:443", True),
        ("dst :443", True),
        ("dst inet:192.0.2.7", True),
        ("dst inet6:[::1]", False),
        ("src 10.0.0.1 and dst 192.0.2.7", True),
        ("src 10.0.0.1 & dst 192.0.2.8", False),
        ("src 10.0.0.9 | dst 192.0.2.7", True),
        ("src 10.0.0.9 || dst 192.0.2.7", True),
        ("! src 10.0.0.9", True),
        ("not ! src 10.0.0.9", False),
        ("not ( src 10.0.0.9 or dst 192.0.2.7 )", False),
        ("state established", True),
        ("state ESTABLISHED state listening", True),
        ("state connected exclude established", False),
        ("excl established", False),
        ("exclude listening dst 192.0.2.7", True),
        ("dev eth0", False),
        ("dev != eth0", True),
        ("dev 0", True),
        ("fwmark = 0x10/0xf0", True),
        ("fwmark != 0x11", False),
        ("fwmark 021", True),
        ("cgroup = /a", False),
        ("cgroup /a/b", True),
        ("sport \\= :40000", True),
        ("src\n10.0.0.1\tand\r\ndst 192.0.2.7", True),
    ],
)
def test_condition(expression: str, true: bool) -> None:
    assert matches(expression, mark=0x11, cgroup=12) is true


@pytest.mark.parametrize("number", ["4294967296", "9999999999", "9" * 5000])
def test_unused_interface_index_is_unknown(number: str) -> None:
    assert matches(f"dev {number}") is None
    assert matches(f"dev != {number}") is None


def test_and_and_or_have_equal_precedence() -> None:
    # As ss does: ( dport 443 or src 10.0.0.9 ) and src 10.0.0.9
    assert matches("dport = :443 or src 10.0.0.9 and src 10.0.0.9") is False
    assert matches("dport = :443 or ( src 10.0.0.9 and src 10.0.0.9 )") is True
    assert matches("src 10.0.0.9 and src 10.0.0.9 or dport = :443") is True
    assert matches("src 10.0.0.9 src 10.0.0.9 or dport = :443") is True


def test_long_and_deep_filters() -> None:
    hosts = " or ".join(f"dst 10.{number // 250}.{number % 250}.1" for number in range(5000))
    assert matches(hosts, remote="10.19.249.1") is True
    assert matches(hosts, remote="10.20.0.1") is False
    assert matches("dst 10.0.0.9 or src 10.0.0.1 and " * 8 + "dport = :443") is True
    changing = rejected("dst 10.0.0.9 or src 10.0.0.1 and " * 2000 + "sport = :1")
    assert {"and", "or"} <= set(changing.split())
    deepest = "( dport = :1 or src 10.0.0.1 and " * 15 + "dport = :443" + " )" * 15
    assert matches(deepest) is True


def test_ipv6_prefix_matches_mapped_sockets() -> None:
    mapped = {"family": "inet6", "local": "10.0.0.1", "remote": "192.0.2.7"}
    six = {"family": "inet6", "local": "2001:db8::1", "remote": "2001:db8::9"}
    assert matches("dst 192.0.2.0/24", **mapped) is True
    assert matches("dst ::/0", **mapped) is True
    assert matches("dst [::ffff:0:0/96]", **mapped) is True
    assert matches("dst [::ffff:192.0.2.7]:443", **mapped) is True
    assert matches("dst [::ffff:0:0/96]", **six) is False
    assert matches("dst [2001:db8::/32]:443", **six) is True
    assert matches("dst 2001:db8::9:443", **six) is True
    assert matches("dst 2001:db8::/32", **mapped) is False


def test_backslash_quotes_next_character() -> None:
    snapshot: Any = SampleSnapshot()
    snapshot.cgroup_ids = lambda path: frozenset({13}) if path == "/with blank" else None
    selector = parse_selector({"expression": "cgroup /with\\ blank"}, names=SampleNames())
    assert selector.bind(snapshot)(decoded(facts(cgroup=13), snapshot)) is True


@pytest.mark.parametrize(
    ("expression", "word", "position", "facts"),
    [
        ("dst", None, 3, ["host"]),
        ("dport =", None, 7, ["port"]),
        ("( dport = :80", None, 13, ["closing parenthesis"]),
        ("dport = :80 )", ")", 13, ["parenthesis"]),
        ("( )", ")", 3, ["condition"]),
        ("dport = :80 or", None, 14, ["condition"]),
        ("or dport = :80", "or", 1, ["condition"]),
        ("dport = :80 and and sport = :80", "and", 17, ["condition"]),
        ("dport = and", "and", 9, ["port"]),
        ("(dport = :80)", "(dport", 1, ["parentheses", "blanks"]),
        ("dport=:80", "dport=:80", 1, ["blanks"]),
        ("dports = :80", "dports", 1, ["dport?"]),
        ("dst != 10.0.0.1", "!=", 5, ["compare"]),
        ("dev > eth0", ">", 5, ["compare"]),
        ("dport = :70000", ":70000", 9, ["0 to 65535"]),
        ("dport = :nosuch", ":nosuch", 9, ["port", "service"]),
        ("dport > *", "*", 9, ["any port", ">"]),
        ("dst host.example", "host.example", 5, ["address"]),
        ("dst 10.0.0.256", "10.0.0.256", 5, ["address"]),
        ("dst ::1", "::1", 5, ["address"]),
        ("dst [::1", "[::1", 5, ["closing bracket"]),
        ("dst 10.0.0.0/33", "10.0.0.0/33", 5, ["prefix length"]),
        ("dst 10.0.0.0/255.0.255.0", "10.0.0.0/255.0.255.0", 5, ["prefix length"]),
        ("dst inet6:10.0.0.1", "inet6:10.0.0.1", 5, ["inet6 address"]),
        ("dst unix:/tmp/x", "unix:/tmp/x", 5, ["family unix"]),
        ("src vsock:3:80", "vsock:3:80", 5, ["family vsock"]),
        ("dst inet:10.0.0.1 or dst inet6:[::1]", None, None, ["inet:", "inet6:"]),
        ("fwmark = x", "x", 10, ["mark"]),
        ("fwmark = 0x1ffffffff", "0x1ffffffff", 10, ["mark"]),
        ("fwmark = 1/", "1/", 10, ["mark"]),
        ("state", None, 5, ["state"]),
        ("state nosuch", "nosuch", 7, ["state"]),
        ("state new-syn-recv", "new-syn-recv", 7, ["state"]),
        ("state established,listening", "established,listening", 7, ["`state`"]),
        ("state closed exclude closed", "closed", 22, ["no state"]),
        ("dport = :80 state established", "state", 13, ["beginning"]),
        ("! " * 80 + "dport = :80", "!", None, ["nested"]),
        ("( " * 80 + "dport = :80" + " )" * 80, "(", None, ["nested"]),
    ],
)
def test_error_names_the_word_and_its_position(
    expression: str, word: str | None, position: int | None, facts: list[str]
) -> None:
    problem = rejected(expression)
    if word is not None:
        assert f"`{word}`" in problem
    if position is not None:
        assert re.search(rf"character {position}\b", problem)
    for fact in facts:
        assert fact in problem


_WORDS = (
    "dst src dport sport dev fwmark cgroup autobound state exclude established = != > < >= <= "
    "and or not ! & | ( ) :80 10.0.0.1 [::1]:80 * eth0 0x10/1 /a x \\ [ ] : / inet: 70000"
)


@given(st.lists(st.sampled_from(_WORDS.split()), max_size=12).map(" ".join) | st.text(max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_parses_or_raises_input_error(expression: str) -> None:
    snapshot: Any = SampleSnapshot()
    with contextlib.suppress(InputError):
        selector = parse_selector({"expression": expression}, names=SampleNames())
        assert selector.bind(snapshot)(decoded(facts(), snapshot)) in (True, False, None)
