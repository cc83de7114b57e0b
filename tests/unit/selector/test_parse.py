# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of selectors: accepted values, defaults and errors."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from linuxnet_sockets.errors import InputError
from linuxnet_sockets.messages import describe
from linuxnet_sockets.netlink import constants
from linuxnet_sockets.selector.keys import KEYS
from linuxnet_sockets.selector.parse import Selector, parse_selector
from linuxnet_sockets.selector.synonyms import SYNONYMS
from linuxnet_sockets.sockets.needs import Need
from tests.support.sample_sockets import SampleNames, SampleSnapshot, decoded, facts


def parse(value: object, role: str = "find") -> Selector:
    return parse_selector(value, names=SampleNames(), role=role)


def rejected(value: object, role: str = "find") -> InputError:
    with pytest.raises(InputError) as caught:
        parse(value, role)
    return caught.value


def matches(value: object, **given: Any) -> bool | None:
    snapshot: Any = SampleSnapshot()
    return parse(value).bind(snapshot)(decoded(facts(**given), snapshot))


def test_empty_selector_matches_like_plain_ss() -> None:
    selector = parse({})
    assert selector.protocols == ("tcp",)
    assert selector.states("tcp") == constants.state_mask(constants.DEFAULT_STATES)
    assert selector.states("udp") == 0
    assert selector.named_protocols == frozenset()


@pytest.mark.parametrize(
    "nested",
    [
        {"not": {"state": "listening"}},
        {"any": [{"local_port": 22}, {"state": "listening"}]},
        {"all": [{"not": {"any": [{"state": "time-wait"}]}}]},
        {"expression": "state listening sport = :22"},
        {"not": {"expression": "exclude established"}},
    ],
)
def test_state_anywhere_removes_its_default(nested: object) -> None:
    selector = parse({"all": [nested, {"local": "10.0.0.0/8"}]})
    assert matches({"any": [nested, {"local": "10.0.0.0/8"}]}, state="time-wait") is True
    assert selector.protocols == ("tcp",)


def test_protocol_anywhere_removes_its_default() -> None:
    selector = parse({"not": {"any": [{"protocol": "tcp"}, {"protocol": "mptcp"}]}})
    assert selector.protocols == ("udp", "udplite", "raw")
    assert selector.named_protocols == {"tcp", "mptcp"}


def test_protecting_selector_has_no_defaults() -> None:
    selector = parse({"remote": "10.0.0.53"}, "protect")
    assert selector.protocols == tuple(constants.PROTOCOLS)
    assert selector.states("tcp") == constants.state_mask(constants.STATES.values())
    assert selector.named_protocols == frozenset()


EMPTY: list[Any] = [
    *({key: []} for key in KEYS),
    *({key: None} for key in KEYS),
    *({key: ""} for key in KEYS),
    *({key: "   "} for key in KEYS),
    *({key: {}} for key in KEYS),
    *({key: [None]} for key in KEYS),
    *({key: [""]} for key in KEYS),
    *({key: [[]]} for key in KEYS),
    *({key: [{}]} for key in KEYS),
    *({key: value} for key in ("any", "all") for value in ([], None, "", {}, [{}], [None], [""])),
    *({"not": value} for value in ({}, None, "", [], [{}], "x")),
]


@pytest.mark.parametrize("role", ["find", "destroy", "protect"])
@pytest.mark.parametrize("emptied", EMPTY, ids=repr)
def test_empty_value_is_rejected_at_any_depth(emptied: Any, role: str) -> None:
    (key,) = emptied
    good = {"remote": "10.0.0.1"}
    for path, selector in (
        ((), emptied),
        ((), {**good, **emptied}) if key != "remote" else ((), emptied),
        (("not",), {"not": emptied}),
        (("any", 1), {"any": [good, emptied]}),
        (("all", 1, "not", "any", 0), {"all": [good, {"not": {"any": [emptied]}}], **good}),
    ):
        error = rejected(selector, role)
        assert error.path[: len(path) + 2] == ("match", *path, key)


@pytest.mark.parametrize("value", [None, "", [], [{}], "tcp", 5, True, [{"protocol": "tcp"}]])
@pytest.mark.parametrize("role", ["find", "destroy", "protect"])
def test_selector_must_be_a_mapping(value: object, role: str) -> None:
    assert rejected(value, role).path == ("match",)


@pytest.mark.parametrize("role", ["destroy", "protect"])
def test_empty_selector_is_accepted_only_for_find(role: str) -> None:
    error = rejected({}, role)
    assert (error.path, error.value) == (("match",), {})
    assert "empty" in error.problem


@pytest.mark.parametrize("key", [True, False, None, 5, 1.5])
def test_key_that_is_not_a_string_is_rejected(key: object) -> None:
    error = rejected({"any": [{key: "x"}]})
    assert error.path == ("match", "any", 0)
    assert error.value is key


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("remote_prot", ("remote_port",)),
        ("Remote", ("remote",)),
        ("local-port", ("local_port",)),
        ("anny", ("any",)),
        ("NOT", ("not",)),
        ("send-queue", ("send_queue",)),
        ("queue", ("send_queue", "recv_queue")),
        ("Port", ("local_port", "remote_port")),
        *SYNONYMS.items(),
    ],
)
def test_unknown_key_suggests_the_right_ones_and_no_list(
    key: str, expected: tuple[str, ...]
) -> None:
    error = rejected({"not": {key: "x"}})
    assert error.path == ("match", "not", key)
    assert error.problem == f"no such key (did you mean {' or '.join(expected)}?)"
    assert describe(error).endswith("?).")


def test_unknown_key_without_a_similar_one_lists_all_keys() -> None:
    error = rejected({"xyzzy": "x"})
    assert error.problem == "no such key"
    assert set(KEYS) <= set(re.findall(r"\w+", error.allowed))


def test_synonyms_name_existing_keys() -> None:
    assert {key for keys in SYNONYMS.values() for key in keys} <= {*KEYS, "not", "any", "all"}
    assert not SYNONYMS.keys() & KEYS.keys()


BAD: list[tuple[str, Any, str]] = [
    ("protocol", "tpc", "tcp"),
    ("protocol", "sctp", "protocol"),
    ("family", "ipx", "family"),
    ("state", "listenning", "listening"),
    ("state", "new-syn-recv", "state"),
    ("state", True, "boolean"),
    ("local", "host.example", "address"),
    ("local", "10.0.0.256", "address"),
    ("local", "010.0.0.1", "address"),
    ("local", "10.0.0", "address"),
    ("local", 10.0, "number"),
    ("local", "10.0.0.1/33", "0 to 32"),
    ("local", "10.0.0.1/", "prefix length"),
    ("local", "10.0.0.1/24", "prefix length"),
    ("local", "2001:db8::1/32", "prefix length"),
    ("local", "10.0.0.1:", "port"),
    ("local", "10.0.0.1:70000", "port"),
    ("local", "10.0.0.1:80-90", "port"),
    ("local", "[::1", "bracket"),
    ("local", "[::1]80", "bracket"),
    ("local", "*:80", "address"),
    ("local", "interface:", "interface"),
    ("local", "interface:a/b", "interface"),
    ("local", f"interface:{'n' * 128}", "interface"),
    ("local", "interface:eth0:70 000", "port"),
    ("local", "2001:db8::1%eth0", "link-local"),
    ("local", "10.0.0.1%eth0", "link-local"),
    ("local", "fe80::1%", "interface"),
    ("remote_port", 70000, "0 to 65535"),
    ("remote_port", -1, "0 to 65535"),
    ("remote_port", "8100-8000", "before"),
    ("remote_port", "80-70000", "outside"),
    ("remote_port", "nosuch", "service"),
    ("remote_port", True, "boolean"),
    ("remote_port", 80.5, "whole number"),
    ("remote_port", "9" * 25, "port"),
    ("device", "eth0/1", "cannot be"),
    ("device", 3, "number"),
    ("mark", "0xfffffffff", "32 bits"),
    ("mark", 2**32, "outside"),
    ("mark", "x", "mark"),
    ("mark", "0x11/0x0f", "leaves out"),
    ("mark", "1/", "mark"),
    ("user", "nobody-here", "user"),
    ("user", 2**32 - 1, "outside"),
    ("user", "60000-1000", "before"),
    ("user", -1, "outside"),
    ("cgroup", "/a/../b", "climbs"),
    ("process", 1234, "number"),
    ("pid", "nginx", "not a number"),
    ("pid", "1.5", "whole number"),
    ("pid", 0, "outside"),
    ("idle", "0", "1 ms"),
    ("idle", "50d", "longer than"),
    ("idle", "5 months", "no such unit: months"),
    ("idle", ["5m"], "list"),
    ("send_queue", ">", "cannot be read"),
    ("send_queue", "> 5 6", "cannot be read"),
    ("send_queue", "5 > 3", "cannot be read"),
    ("send_queue", "=> 5", "cannot be read"),
    ("send_queue", "> 5 <= 5", "holds for no number"),
    ("send_queue", "= 5 != 5", "holds for no number"),
    ("send_queue", "< 0", "holds for no number"),
    ("send_queue", True, "boolean"),
    ("retransmits", "> 1.5", "whole number"),
    ("retransmits", "> 1k", "whole number"),
    ("rtt", "> 5 parsecs", "no such unit"),
    ("rtt", float("nan"), "cannot be read"),
    ("stuck", "zero_windows", "zero_window"),
    ("stuck", "address_gone", "stranded"),
    ("stuck", 5, "number"),
    ("stranded", "orphaned", "stuck"),
    ("stranded", True, "boolean"),
]


@pytest.mark.parametrize(("key", "value", "problem"), BAD)
def test_invalid_value_is_rejected_with_its_path(key: str, value: Any, problem: str) -> None:
    error = rejected({"any": [{"not": {key: value}}]})
    assert error.path == ("match", "any", 0, "not", key)
    assert error.value is value
    assert problem in error.problem
    assert error.allowed or "(" in error.problem
    if key != "idle":
        listed = rejected({"any": [{"not": {key: [value]}}]})
        assert listed.path == ("match", "any", 0, "not", key, 0)
        assert problem in listed.problem


@pytest.mark.parametrize("value", [error for error in BAD if error[0] == "local"], ids=repr)
def test_local_and_remote_accept_the_same_values(value: tuple[str, Any, str]) -> None:
    assert value[2] in rejected({"remote": value[1]}).problem


def test_error_message_has_path_value_and_allowed_values() -> None:
    text = describe(rejected({"any": [{"remote": ["10.0.0.0/8", "192.0.2.1/24"]}]}))
    assert text.startswith("match.any[0].remote[1]: '192.0.2.1/24': ")
    assert "prefix length" in text
    # Allowed: the whole network, or the one address.
    assert re.findall(r"[\d./]+\d", text)[-2:] == ["192.0.2.0/24", "192.0.2.1"]


def test_deep_nesting_is_rejected() -> None:
    endless: dict[str, Any] = {}
    endless["not"] = endless
    assert "deep" in rejected(endless).problem


@pytest.mark.parametrize("joined", [{"not": "any"}, {"all": None}])
def test_thousands_of_branches_parse_fast(joined: dict[str, Any]) -> None:
    """Validation takes linear time; quadratic time would be a minute."""
    branches = [{"remote": f"10.0.{n >> 8}.{n & 255}", "remote_port": 443} for n in range(6_000)]
    ((key, under),) = joined.items()
    selector = {key: branches if under is None else {under: branches}, "local_port": 1}
    before = time.process_time()
    parse(selector, "destroy")
    assert time.process_time() - before < 10


def test_error_path_starts_with_given_path() -> None:
    with pytest.raises(InputError) as caught:
        parse_selector({"x": 1}, names=SampleNames(), path=("rules", 2, "match"))
    assert caught.value.path == ("rules", 2, "match", "x")


def test_unknown_role_raises_value_error() -> None:
    with pytest.raises(ValueError, match="burn"):
        parse({}, "burn")


@pytest.mark.parametrize(
    "selector",
    [
        {"protocol": "tcp"},
        {"protocol": ["tcp", "udp"], "family": "inet"},
        {"not": {"protocol": "udp"}},
        {"any": [{"remote": "10.0.0.1"}, {"protocol": "udp"}]},
        {"any": [{"remote": "10.0.0.1"}, {"any": [{"family": "inet"}]}]},
        {"not": {"all": [{"remote": "10.0.0.1"}, {"family": "inet"}]}},
        {"not": {"not": {"family": "inet"}}},
        {"expression": "dst *"},
        {"expression": "dst inet:*"},
        {"expression": "dst 10.0.0.1 or sport *"},
    ],
)
def test_unrestricted_selector_is_rejected_for_destroy(selector: Any) -> None:
    parse(selector)
    assert rejected(selector, "destroy").path == ("match",)


@pytest.mark.parametrize(
    "selector",
    [
        {"remote": "10.0.0.1"},
        {"state": "all"},
        {"protocol": "tcp", "state": "listening"},
        {"not": {"remote": "10.0.0.1"}},
        {"protocol": "udp", "not": {"remote": "10.0.0.1"}},
        {"any": [{"remote": "10.0.0.1"}, {"protocol": "udp", "local_port": 53}]},
        {"any": [{"family": "inet"}, {"family": "inet6"}], "user": "alice"},
        {"not": {"any": [{"remote": "10.0.0.1"}, {"family": "inet"}]}},
        {"not": {"not": {"remote": "10.0.0.1"}}},
        {"expression": "state established"},
        {"expression": "dst 10.0.0.1 sport *"},
        {"send_queue": ">0"},
    ],
)
def test_restricted_selector_is_accepted_for_destroy(selector: Any) -> None:
    parse(selector, "destroy")


@pytest.mark.parametrize(
    ("selector", "path", "sockets"),
    [
        ({"protocol": "udp", "idle": "5m"}, ("idle",), "udp"),
        ({"protocol": ["udp", "raw"], "rtt": ">1s"}, ("rtt",), "raw udp"),
        ({"protocol": "mptcp", "unacked": ">0"}, ("unacked",), "mptcp"),
        ({"protocol": "udp", "retransmits": ">0"}, ("retransmits",), "udp"),
        ({"protocol": "udp", "congestion": "bbr"}, ("congestion",), "udp"),
        ({"protocol": "udp", "state": "listening"}, ("state",), "udp"),
        ({"protocol": "udp", "not": {"idle": "5m"}}, ("not", "idle"), "udp"),
        (
            {"any": [{"protocol": "tcp"}, {"protocol": "udp", "idle": "5m"}]},
            ("any", 1, "idle"),
            "udp",
        ),
        ({"not": {"protocol": ["tcp", "mptcp"]}, "idle": "1s"}, ("idle",), "raw udp"),
    ],
)
def test_inapplicable_key_is_rejected(selector: Any, path: Any, sockets: str) -> None:
    error = rejected(selector)
    assert error.path == ("match", *path)
    named = re.findall(r"\b(?:tcp|udp|raw|mptcp)\b", error.problem)
    assert set(named) == set(sockets.split())


@pytest.mark.parametrize(
    "selector",
    [
        {"protocol": ["tcp", "udp"], "idle": "5m"},
        {"any": [{"protocol": "udp"}, {"idle": "5m"}]},
        {"protocol": "udp", "state": ["established", "listening"]},
        {"protocol": "udp", "state": "connected"},
        {"protocol": "udp", "send_queue": ">0"},
        {"protocol": "mptcp", "retransmits": ">0"},
    ],
)
def test_key_that_applies_to_some_protocols_is_accepted(selector: Any) -> None:
    parse(selector)


def test_autobound_is_rejected_unless_the_kernel_decides_it() -> None:
    for good in (
        {"expression": "autobound"},
        {"expression": "not ( autobound or dst 10.0.0.1 )", "user": "alice"},
        {"not": {"expression": "autobound"}, "idle": "5m"},
    ):
        parse(good)
    for bad in (
        {"any": [{"user": "alice"}, {"expression": "autobound"}]},
        {"not": {"expression": "autobound", "user": "alice"}},
        {"expression": "autobound or fwmark = 1"},
    ):
        assert "autobound" in rejected(bad).problem
    assert "autobound" in rejected({"expression": "autobound"}, "protect").problem


def test_numeric_strings_are_numbers() -> None:
    for key, one, other in (
        ("local_port", 5000, "5000"),
        ("user", 33, "33"),
        ("pid", 7, " 7 "),
        ("mark", 16, "0x10"),
        ("send_queue", 5, "5"),
        ("send_queue", 2048, "2k"),
        ("rtt", 2, "2s"),
    ):
        for number in (4, 5, 7, 16, 33, 2048, 5000):
            given: dict[str, Any] = {
                "local_port": number,
                "uid": number,
                "processes": [(number, "x")],
                "mark": number,
                "send_queue": number,
            }
            assert matches({key: one}, **given) is matches({key: other}, **given)


def test_unknown_interface_under_not_matches_nothing() -> None:
    for wrong in (
        {"local": "interface:wg00"},
        {"remote": "interface:wg00:443"},
        {"local": ["interface:wg00", "192.0.2.0/24"]},
        {"local": "interface:tun0"},
        {"device": "wg00"},
        {"device": ["wg00", "eth0"]},
        {"local": "fe80::1%wg00"},
        {"expression": "dev = wg00"},
        {"cgroup": "/nowhere"},
    ):
        assert matches({"not": wrong}) is None
        assert matches({"not": {"not": wrong}}) is None


def test_needs_and_extensions_of_keys() -> None:
    selector = parse({"any": [{"local": "interface:wg0"}, {"not": {"idle": "5m"}}]})
    assert selector.needs == {Need.ADDRESSES, Need.LINKS}
    assert selector.extensions == 1 << (2 - 1)
    selector = parse({"congestion": "bbr", "process": "x", "mark": 1, "cgroup": "/a"})
    assert selector.needs == {Need.OWNERS, Need.CGROUPS}
    assert selector.extensions == 1 << (4 - 1)
    assert parse({"local_port": 22}).needs == frozenset()


def test_dump_has_only_states_and_families_that_can_match() -> None:
    selector = parse({"remote": "2001:db8::/32", "state": ["established", "time-wait"]})
    assert selector.families == ("inet6",)
    assert selector.states("tcp") == 1 << 1 | 1 << 6
    assert parse({"idle": "5m", "state": "all"}).states("tcp") & 1 << 10 == 0
    nested = parse({"any": [{"state": "listening", "local_port": 22}, {"state": "syn-recv"}]})
    assert nested.states("tcp") == 1 << 10 | 1 << 3 | 1 << 12
    assert parse({"not": {"family": "inet"}}).families == ("inet6",)
    assert parse({"all": [{"protocol": "tcp"}, {"not": {"protocol": "tcp"}}]}).protocols == ()


def test_constant_selector_binds_to_constant() -> None:
    snapshot: Any = SampleSnapshot()
    bound = parse({"not": {"local": "interface:nowhere0"}}, "protect").bind(snapshot)
    assert bound(decoded(facts())) is None
    assert parse({"expression": "dst *"}, "protect").bind(snapshot)(decoded(facts())) is True
