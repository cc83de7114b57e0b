# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The condition `{route: ..., via: ...}` against the route that the kernel uses (ip route get)."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess

import pytest

from linuxnet_sockets.policy.conditions import NetworkState, parse_condition
from linuxnet_sockets.policy.route_candidates import load_candidates
from linuxnet_sockets.selector.prefixes import Prefix
from tests.kernel.stranded.connections import view_of
from tests.support.topologies.networks import Uplinks, ip
from tests.support.topologies.topology import LabNamespace
from tests.support.topologies.waiting import until

LINKS = ("eth0", "wlan0")
DEFAULTS = {"0.0.0.0/0": Prefix(bytes(4), 0), "::/0": Prefix(bytes(16), 0)}
SERVICES = {"0.0.0.0/0": Uplinks.service4, "::/0": Uplinks.service6}


def conditions(where: LabNamespace, prefix: str) -> dict[str, bool | None]:
    """Whether `{route: prefix, via: LINK}` holds, for each link."""
    with view_of(where) as session:
        snapshot = session.snapshot()
        network = NetworkState(snapshot.links, (), load_candidates(snapshot, {DEFAULTS[prefix]}))
        return {
            link: parse_condition({"route": prefix, "via": link}, ()).holds(network)
            for link in LINKS
        }


def used(where: LabNamespace, prefix: str, *how: str) -> str | None:
    """The link of the route that the kernel uses; None: there is no route."""
    with contextlib.suppress(subprocess.CalledProcessError):
        (route,) = json.loads(where.output("ip", "-j", "route", "get", SERVICES[prefix], *how))
        return str(route["dev"]) if route.get("type", "unicast") == "unicast" else None
    return None


def assert_as_used(where: LabNamespace, *done: object) -> None:
    for prefix in DEFAULTS:
        link = used(where, prefix)
        for _attempt in range(5):
            found, before = conditions(where, prefix), link
            link = used(where, prefix)
            # The kernel processes a lost carrier later than the command that causes it.
            if link == before:
                break
        assert found == {each: each == link for each in LINKS}, (prefix, link, done)


def ignore_linkdown(where: LabNamespace, value: int) -> None:
    for family in ("ipv4", "ipv6"):
        for link in ("all", *LINKS):
            where.sysctl(f"{family}/conf/{link}/ignore_routes_with_linkdown", value)


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("kind", ["unreachable", "prohibit", "blackhole", "throw"])
def test_refusing_routes_compete_by_metric(uplinks: Uplinks, family: str, kind: str) -> None:
    assert_as_used(uplinks.host)
    # The metric of an IPv4 route is 0 if none is given.
    ip(
        uplinks.host,
        f"route del {uplinks.default4}",
        f"route add {uplinks.default4} metric 100",
        f"{family} route add {kind} default metric 50",
    )
    assert_as_used(uplinks.host)
    ip(
        uplinks.host,
        f"{family} route del {kind} default metric 50",
        f"{family} route add {kind} default metric 5000",
    )
    assert_as_used(uplinks.host)
    assert used(uplinks.host, "0.0.0.0/0") == "eth0"


def test_routes_of_links_without_carrier(uplinks: Uplinks) -> None:
    uplinks.add_fallback_routes()
    ip(uplinks.far, "link set f0 down")
    assert_as_used(uplinks.host)
    ignore_linkdown(uplinks.host, 1)
    assert_as_used(uplinks.host)
    assert used(uplinks.host, "0.0.0.0/0") == used(uplinks.host, "::/0") == "wlan0"


def test_dead_next_hop(uplinks: Uplinks) -> None:
    host = uplinks.host
    ip(host, f"route del {uplinks.default4}", f"route del {uplinks.default6}")
    for family, first, second in (
        ("-4", uplinks.eth4_gateway, uplinks.wlan4_gateway),
        ("-6", uplinks.eth6_gateway, uplinks.wlan6_gateway),
    ):
        hops = f"nexthop via {first} dev eth0 nexthop via {second} dev wlan0"
        ip(host, f"{family} route add default {hops}")
    for prefix in DEFAULTS:
        assert conditions(host, prefix) == {"eth0": True, "wlan0": True}
    ignore_linkdown(host, 1)
    ip(uplinks.far, "link set f0 down")
    for family in ("-4", "-6"):
        shown = ["ip", family, "route", "show", "default"]
        until(lambda shown=shown: "dead" in host.output(*shown), "the kernel marks the next hop")
    assert_as_used(host)
    ip(host, "link set wlan0 down")
    for prefix in DEFAULTS:
        assert conditions(host, prefix) == {"eth0": False, "wlan0": False}


@pytest.mark.parametrize(
    ("first", "second"), [("low", "high"), ("high", "low"), ("medium", "high")]
)
def test_router_preference(uplinks: Uplinks, first: str, second: str) -> None:
    ip(uplinks.host, f"route del {uplinks.default6}")
    for default, preference in ((uplinks.default6, first), (uplinks.other6, second)):
        # Routes of router advertisements are no siblings, unlike appended static ones.
        ip(uplinks.host, f"-6 route append {default} proto ra pref {preference} metric 1024")
    if len(uplinks.host.output("ip", "-6", "route", "show", "default").splitlines()) == 2:
        assert_as_used(uplinks.host)


def test_ipv6_gateway_that_does_not_answer(uplinks: Uplinks) -> None:
    """A host prefers a router that answers, also one of a route with a higher metric."""
    host = uplinks.host
    uplinks.add_fallback_routes()
    neighbour = f"neigh replace {uplinks.eth6_gateway} dev eth0"
    ip(host, f"-6 {neighbour} lladdr 02:00:00:00:00:09 nud reachable", f"-6 {neighbour} nud failed")
    assert used(host, "::/0") == "wlan0"
    assert_as_used(host)
    host.sysctl("ipv6/conf/all/forwarding", 1)
    assert used(host, "::/0") == "eth0"
    assert_as_used(host)


def test_tables_that_no_lookup_reaches(uplinks: Uplinks) -> None:
    host = uplinks.host
    ip(host, f"route add {uplinks.other4} table 77", f"route add {uplinks.other6} table 77")
    for family in ("-4", "-6"):
        ip(host, f"{family} rule add pref 40000 table 77")
    assert_as_used(host)
    for family in ("-4", "-6"):
        ip(host, f"{family} rule add pref 100 table 77")
    assert_as_used(host)
    for family in ("-4", "-6"):
        ip(host, f"{family} rule add pref 90 unreachable")
    assert_as_used(host)
    for family in ("-4", "-6"):
        ip(host, f"{family} rule del pref 90", f"{family} rule del pref 100")
        ip(host, f"{family} rule add pref 100 fwmark 7 table 77")
    for prefix in DEFAULTS:
        # Packets with the mark use one, all others the other.
        assert conditions(host, prefix) == {"eth0": True, "wlan0": True}
    for family in ("-4", "-6"):
        ip(host, f"{family} rule add pref 99 table main suppress_prefixlength 0")
    for prefix in DEFAULTS:
        assert conditions(host, prefix) == {"eth0": True, "wlan0": True}


def _turns(where: str, does: str, undoes: str, *things: str) -> list[tuple[str, str, str]]:
    return [(where, f"{does} {each}", f"{undoes} {each}") for each in things]


_CHANGES = [
    *(
        (where, f"link set {link} down", f"link set {link} up")
        for where, link in (("host", "eth0"), ("host", "wlan0"), ("far", "f0"), ("far", "f1"))
    ),
    *_turns("host", "route del", "route add", Uplinks.default4, Uplinks.default6),
    *_turns(
        "host",
        "route add",
        "route del",
        f"{Uplinks.other4} metric 9000",
        f"{Uplinks.other6} metric 9000",
        f"{Uplinks.other4} table 77",
        f"{Uplinks.other6} table 77",
        "-4 unreachable default metric 5",
        "-4 blackhole default metric 8000",
        "-4 throw default table 77",
        "-6 prohibit default metric 5",
        "-6 unreachable default metric 8000",
        "-6 throw default table 77",
        f"{Uplinks.default4} metric 3 tos 0x10",
    ),
    *(
        (("host"), f"{family} rule add {rule}", f"{family} rule del {rule}")
        for family in ("-4", "-6")
        for rule in (
            "pref 101 table 77",
            "pref 102 unreachable",
            "pref 103 table main suppress_prefixlength 0",
        )
    ),
    ("ignore", "1", "0"),
]


@pytest.mark.parametrize("seed", range(4))
def test_random_changes(uplinks: Uplinks, seed: int) -> None:
    chosen = random.Random(seed)
    done: list[str] = []
    uplinks.far.sysctl("ipv6/conf/all/keep_addr_on_down", 1)
    uplinks.host.sysctl("ipv6/conf/all/keep_addr_on_down", 1)
    for family in ("-4", "-6"):
        ip(uplinks.host, f"{family} rule add pref 40000 table 77")
    for _step in range(25):
        where, *turns = chosen.choice(_CHANGES)
        if where == "ignore":
            value = chosen.choice(turns)
            ignore_linkdown(uplinks.host, int(value))
            done.append(f"ignore {value}")
        else:
            for change in turns:
                with contextlib.suppress(subprocess.CalledProcessError):
                    ip(uplinks.host if where == "host" else uplinks.far, change)
                    done.append(change)
                    break
        assert_as_used(uplinks.host, *done)
