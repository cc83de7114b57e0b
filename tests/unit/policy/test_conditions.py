# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions: parsing and evaluation."""

from __future__ import annotations

import itertools
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.errors import InputError
from linuxnet_sockets.messages import describe
from linuxnet_sockets.netlink.links import Address, Link
from linuxnet_sockets.policy.conditions import NetworkState, can_hold, parse_condition
from linuxnet_sockets.policy.route_candidates import RouteCandidate
from linuxnet_sockets.selector.prefixes import Prefix

UP = 0x11043
NO_CARRIER = 0x1003
DOWN = 0x1002
POINT_TO_POINT_UP = 0x10091  # as a tunnel: its operstate is unknown


def address(text: str, ifindex: int = 2) -> Address:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return Address(family, socket.inet_pton(family, text), 24, ifindex, 0, 0)


def route(text: str, *ifindexes: int, metric: int = 0, table: int = 254) -> RouteCandidate:
    host, _slash, length = text.partition("/")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    prefix = Prefix(socket.inet_pton(family, host), int(length))
    return RouteCandidate(prefix, frozenset(ifindexes) or None, metric, table)


FACTS = NetworkState(
    [
        Link(1, "lo", 0x10049),
        Link(2, "eth0", UP),
        Link(3, "wlan0", NO_CARRIER),
        Link(4, "wg0", POINT_TO_POINT_UP, kind="wireguard"),
        Link(5, "dummy0", DOWN, kind="dummy"),
    ],
    [address("192.0.2.1"), address("2001:db8::1"), address("10.8.0.2", 4)],
    [
        route("0.0.0.0/0", 2, metric=100),
        route("0.0.0.0/0", 3, metric=600),
        route("::/0", 3, metric=1024),
        route("0.0.0.0/0", 4, table=51820),
        route("10.0.0.0/8", 4),
        route("203.0.113.0/24", 2, 3),
        # Of equal routes the kernel uses the first.
        route("2001:db8:1::/48", 2, metric=1024),
        route("2001:db8:1::/48", 4, metric=1024),
        # The kernel reports the number of a nexthop object only.
        route("172.16.0.0/12"),
    ],
)


def holds(condition: Any, facts: NetworkState = FACTS) -> bool | None:
    return parse_condition(condition, ("while",)).holds(facts)


@pytest.mark.parametrize(
    ("interface", "kind", "present", "up"),
    [
        ("wg0", "wireguard", True, True),
        ("wg0", " wireguard ", True, True),
        # Root of a container can give any interface the name. It counts as missing.
        ("dummy0", "wireguard", False, None),
        ("dummy0", "dummy", True, False),
        ("wg0", "physical", False, None),
        ("eth0", "physical", True, True),
        ("eth0", "wireguard", False, None),
        ("lo", "physical", False, None),
        ("lo", "loopback", True, True),
        ("wg1", "wireguard", False, None),
    ],
)
def test_kind_of_an_interface(interface: str, kind: str, present: bool, up: bool | None) -> None:
    condition = {"interface": interface, "kind": kind}
    assert holds({**condition, "is": "present"}) is present
    assert holds({**condition, "is": "up"}) is up
    assert holds({"not": {**condition, "is": "up"}}) is (None if up is None else not up)


def test_interfaces_of_another_kind_are_named() -> None:
    written = {"interface": "dummy0", "is": "up", "kind": "wireguard"}
    condition = parse_condition({"any": [written, {**written, "interface": "wg1"}]}, ("while",))
    assert condition.other_kinds(FACTS) == ("dummy0 of kind wireguard",)
    assert condition.text.startswith("interface dummy0 is up and of kind wireguard or ")


@pytest.mark.parametrize("kind", ["", " ", "WireGuard", "a b", "x" * 40, 3, None, ["tun"]])
def test_invalid_kind(kind: object) -> None:
    with pytest.raises(InputError) as caught:
        parse_condition({"interface": "wg0", "is": "up", "kind": kind}, ("while",))
    assert caught.value.path == ("while", "kind")
    assert "wireguard" in caught.value.allowed


def test_type_is_the_kind() -> None:
    with pytest.raises(InputError) as caught:
        parse_condition({"interface": "wg0", "is": "up", "type": "wireguard"}, ("while",))
    assert "kind" in describe(caught.value)
    with pytest.raises(InputError, match="no such key"):
        parse_condition({"address": "10.8.0.2", "is": "present", "kind": "tun"}, ("while",))


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [(("tun", "tun"), True), (("tun", None), True), (("tun", "wireguard"), False)],
)
def test_an_interface_has_one_kind(kinds: tuple[str | None, str | None], expected: bool) -> None:
    facts = [
        {"interface": "vpn", "is": "up", **({} if kind is None else {"kind": kind})}
        for kind in kinds
    ]
    assert can_hold(parse_condition({"all": facts}, ("while",))) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"interface": "eth0", "is": "present"}, True),
        ({"interface": "dummy0", "is": "present"}, True),
        ({"interface": "wgO", "is": "present"}, False),
        ({"interface": "eth0", "is": "up"}, True),
        ({"interface": "wg0", "is": "up"}, True),
        ({"interface": "wlan0", "is": "up"}, False),
        ({"interface": "dummy0", "is": "up"}, False),
        ({"interface": "wgO", "is": "up"}, None),
        ({"address": "192.0.2.1", "is": "present"}, True),
        ({"address": "::ffff:192.0.2.1", "is": "present"}, True),
        ({"address": "2001:db8:0::1", "is": "present"}, True),
        ({"address": "192.0.2.2", "is": "present"}, False),
        # The preferred route of a table.
        ({"route": "default", "via": "eth0"}, True),
        ({"route": "0.0.0.0/0", "via": "wlan0"}, False),
        # The IPv6 default route.
        ({"route": "default", "via": "wlan0"}, True),
        ({"route": "::/0", "via": "wlan0"}, True),
        ({"route": "::/0", "via": "eth0"}, False),
        # A route in any table counts.
        ({"route": "0.0.0.0/0", "via": "wg0"}, True),
        ({"route": "10.0.0.0/8", "via": "wg0"}, True),
        ({"route": "10.0.0.0/8", "via": "eth0"}, False),
        # Only a route to exactly this prefix counts.
        ({"route": "10.1.0.0/16", "via": "wg0"}, False),
        # One of several next hops.
        ({"route": "203.0.113.0/24", "via": "wlan0"}, True),
        ({"route": "10.0.0.0/8", "via": "wgO"}, None),
        ({"route": "2001:db8:1::/48", "via": "eth0"}, True),
        ({"route": "2001:db8:1::/48", "via": "wg0"}, False),
        ({"route": "2001:db8:1::/48", "via": "wlan0"}, False),
        ({"route": "172.16.0.0/12", "via": "wg0"}, None),
    ],
)
def test_condition_on_network(condition: Any, expected: bool | None) -> None:
    assert holds(condition) is expected
    # Unknown stays unknown under not: a misspelled name destroys nothing.
    assert holds({"not": condition}) is (None if expected is None else not expected)


def test_default_route_of_each_family() -> None:
    def by_family(condition: Any) -> dict[int, bool | None]:
        return parse_condition(condition, ("while",)).holds_by_family(FACTS)

    assert by_family({"route": "default", "via": "eth0"}) == {4: True, 16: False}
    assert by_family({"route": "default", "via": "wlan0"}) == {4: False, 16: True}
    assert by_family({"not": {"route": "default", "via": "wlan0"}}) == {4: True, 16: False}
    assert by_family({"route": "0.0.0.0/0", "via": "eth0"}) == {4: True, 16: True}
    assert by_family({"interface": "eth0", "is": "up"}) == {4: True, 16: True}


def test_routes_that_are_not_loaded_are_unknown() -> None:
    facts = NetworkState([Link(2, "eth0", UP)], [])
    assert holds({"route": "default", "via": "eth0"}, facts) is None


LEAVES: dict[bool | None, Any] = {
    True: {"interface": "eth0", "is": "up"},
    False: {"interface": "wlan0", "is": "up"},
    None: {"interface": "wgO", "is": "up"},
}


@pytest.mark.parametrize("values", list(itertools.product(LEAVES, repeat=2)))
def test_any_and_all_follow_kleene_logic(values: tuple[bool | None, bool | None]) -> None:
    children = [LEAVES[value] for value in values]
    any_of = True if True in values else None if None in values else False
    all_of = False if False in values else None if None in values else True
    assert holds({"any": children}) is any_of
    assert holds({"all": children}) is all_of


@pytest.mark.parametrize(
    ("condition", "path"),
    [
        (None, ""),
        ("", ""),
        ({}, ""),
        ("wg0", ""),
        ([{"interface": "wg0", "is": "up"}], ""),
        ({"interface": "wg0"}, "is"),
        ({"interface": "", "is": "up"}, "interface"),
        ({"interface": "a name that is far too long", "is": "up"}, "interface"),
        ({"interface": "wg0", "is": "down"}, "is"),
        ({"interface": "wg0", "is": "up", "via": "eth0"}, "via"),
        ({"interface": "wg0", "is": "up", "address": "10.0.0.1"}, "address"),
        ({"address": "10.0.0.1", "is": "up"}, "is"),
        ({"address": "10.0.0.0/8", "is": "present"}, "address"),
        ({"address": "fe80::1%eth0", "is": "present"}, "address"),
        ({"address": "somewhere", "is": "present"}, "address"),
        ({"route": "10.0.0.1/8", "via": "wg0"}, "route"),
        ({"route": "somewhere", "via": "wg0"}, "route"),
        ({"route": "default"}, "via"),
        ({"route": "default", "via": None}, "via"),
        ({"any": []}, "any"),
        ({"any": {"interface": "wg0", "is": "up"}}, "any"),
        ({"all": ""}, "all"),
        ({"all": [{"interface": "wg0", "is": "up"}, {}]}, "all.1"),
        ({"not": None}, "not"),
        ({"not": [{"interface": "wg0", "is": "up"}]}, "not"),
        ({"iface": "wg0", "is": "up"}, "iface"),
        ({"not": {"not": {"interfaces": "wg0"}}}, "not.not.interfaces"),
    ],
)
def test_invalid_condition_is_rejected_with_its_path(condition: Any, path: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_condition(condition, ())
    assert ".".join(map(str, caught.value.path)) == path
    assert describe(caught.value)


def test_conditions_nest_so_deep_and_no_deeper() -> None:
    condition: Any = {"interface": "eth0", "is": "up"}
    for _level in range(16):
        condition = {"not": condition}
    assert holds(condition) is True
    with pytest.raises(InputError):
        holds({"not": condition})


UP_, PRESENT, ROUTED = (
    {"interface": "wg0", "is": "up"},
    {"interface": "wg0", "is": "present"},
    {"route": "default", "via": "wg0"},
)
ADDRESS = {"address": "10.0.0.1", "is": "present"}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"all": [UP_, {"not": UP_}]}, False),
        ({"all": [UP_, {"not": PRESENT}]}, False),
        ({"all": [ROUTED, {"not": PRESENT}]}, False),
        # is: up is unknown for a missing interface.
        ({"all": [{"not": UP_}, {"not": PRESENT}]}, False),
        ({"all": [ADDRESS, {"not": ADDRESS}]}, False),
        ({"not": {"any": [ADDRESS, {"not": ADDRESS}]}}, False),
        ({"any": [{"all": [UP_, {"not": UP_}]}, {"all": [ADDRESS, {"not": ADDRESS}]}]}, False),
        ({"all": [PRESENT, {"not": UP_}]}, True),
        ({"all": [UP_, {"not": ROUTED}]}, True),
        ({"not": PRESENT}, True),
        ({"any": [UP_, {"not": UP_}]}, True),
        ({"all": [UP_, {"not": {"interface": "wg1", "is": "up"}}]}, True),
    ],
)
def test_can_hold(condition: Any, expected: bool) -> None:
    assert can_hold(parse_condition(condition, ())) is expected


def test_can_hold_accepts_too_many_combinations() -> None:
    many: list[Any] = [{"interface": f"eth{number}", "is": "up"} for number in range(200)]
    assert can_hold(parse_condition({"all": [*many, {"not": many[0]}]}, ()))


_NAMES = st.sampled_from(["eth0", "wlan0", "dummy0", "wgO"])
_ONE = st.one_of(
    st.builds(
        lambda name, state: {"interface": name, "is": state},
        _NAMES,
        st.sampled_from(["up", "present"]),
    ),
    st.sampled_from([{"address": "192.0.2.1", "is": "present"}, ADDRESS]),
    st.builds(lambda name: {"route": "default", "via": name}, _NAMES),
)
CONDITIONS = st.recursive(
    _ONE,
    lambda inner: st.one_of(
        st.builds(lambda child: {"not": child}, inner),
        st.builds(lambda children: {"any": children}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda children: {"all": children}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)


@given(CONDITIONS)
def test_condition_that_holds_can_hold(condition: Any) -> None:
    if holds(condition):
        assert can_hold(parse_condition(condition, ()))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"interface": "wg0", "is": "up"}, "interface wg0 is up"),
        ({"address": "2001:DB8::1", "is": "present"}, "address 2001:db8::1 is present"),
        ({"route": "10.0.0.0/8", "via": "wg0"}, "route 10.0.0.0/8 via wg0"),
        ({"route": "default", "via": "wg0"}, "route default via wg0"),
        (
            {
                "any": [
                    {"not": {"interface": "wg0", "is": "present"}},
                    {
                        "all": [
                            {"interface": "wg0", "is": "up"},
                            {"route": "::/0", "via": "eth0"},
                        ]
                    },
                ]
            },
            "not (interface wg0 is present) or (interface wg0 is up and route ::/0 via eth0)",
        ),
    ],
)
def test_condition_as_text(written: dict[str, Any], words: str) -> None:
    assert parse_condition(written, ()).text == words
