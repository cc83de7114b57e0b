# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Multipath routes, and sockets bound to a device or a VRF."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.kernel.releases import release
from tests.kernel.stranded.connections import (
    GONE,
    NOTHING,
    REROUTED,
    UNROUTABLE,
    Connections,
    selected,
    strandings,
)
from tests.support.topologies.networks import Uplinks, ip, link_type_missing

_DEFAULTS = (
    ("-4", Uplinks.default4, (Uplinks.eth4_gateway, Uplinks.wlan4_gateway)),
    ("-6", Uplinks.default6, (Uplinks.eth6_gateway, Uplinks.wlan6_gateway)),
)


def _by_both(uplinks: Uplinks) -> None:
    for family, default, gateways in _DEFAULTS:
        hops = " ".join(f"nexthop via {each}" for each in gateways)
        ip(
            uplinks.host,
            f"{family} route del {default}",
            f"{family} route add default {hops}",
        )


def _by_both_as_objects(uplinks: Uplinks) -> None:
    number = 0
    # Before "ipv6: nexthop: release IPv6 per-cpu dsts ..." (5.16; stables differ) a link that was
    # in a group of IPv6 nexthops may never be freed.
    families = _DEFAULTS if release() >= (5, 16) else _DEFAULTS[:1]
    try:
        for family, default, gateways in families:
            for gateway, link in zip(gateways, ("eth0", "wlan0")):
                number += 1
                ip(uplinks.host, f"{family} nexthop add id {number} via {gateway} dev {link}")
            ip(
                uplinks.host,
                f"nexthop add id {number * 10} group {number - 1}/{number}",
                f"{family} route del {default}",
                f"{family} route add default nhid {number * 10}",
            )
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no nexthop objects here: {error.stderr}")


@pytest.mark.parametrize("lead", [_by_both, _by_both_as_objects])
def test_multipath_route(
    uplinks: Uplinks, connections: Connections, lead: Callable[[Uplinks], None]
) -> None:
    """The kernel selects the next hop; the link with the local address is one of them."""
    services = [
        f"{network}{number}"
        for network in ("203.0.113.", "2001:db8:f::")
        for number in range(20, 32)
    ]
    opened_connections = {each: uplinks.udp(each) for each in services}
    lead(uplinks)
    taken = set()
    for service, connection in opened_connections.items():
        words = ip(
            uplinks.host, f"route get {service} from {connection.sock.getsockname()[0]}"
        ).split()
        taken.add(words[words.index("dev") + 1])
    assert taken == {"eth0", "wlan0"}
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        {each: (connection, NOTHING) for each, connection in opened_connections.items()},
    )


def test_multipath_route_with_nexthop_id_only(uplinks: Uplinks) -> None:
    """No connection is rerouted, whatever next hop the kernel selects."""
    opened_connections = [uplinks.udp(f"203.0.113.{number}") for number in range(20, 32)]
    _by_both_as_objects(uplinks)
    uplinks.host.sysctl("ipv4/nexthop_compat_mode", 0)
    verdicts = strandings(uplinks.host)
    assert {verdicts[connection.cookie] for connection in opened_connections} <= {None, NOTHING}


def test_multipath_route_over_other_links(uplinks: Uplinks, connections: Connections) -> None:
    uplinks.link("eth2", "f2")
    uplinks.host.address("eth2", "10.2.0.1/24", "2001:db8:2::1/64")
    for default, gateways in (
        (uplinks.default4, (uplinks.wlan4_gateway, "10.2.0.2")),
        (uplinks.default6, (uplinks.wlan6_gateway, "2001:db8:2::2")),
    ):
        hops = " ".join(f"nexthop via {each}" for each in gateways)
        ip(uplinks.host, f"route del {default}", f"route add default {hops}")
    connections.assert_verdicts(REROUTED, REROUTED)

    def leave_by(*links: str) -> set[int]:
        return selected(uplinks.host, stranded={"verdict": "rerouted", "to": list(links)})

    over_eth0 = {
        connection.cookie for connection in (*connections.four.values(), *connections.six.values())
    }
    assert leave_by("wlan0", "eth2") == over_eth0
    # Each connection may leave through the other link as well.
    assert leave_by("wlan0") == leave_by("eth2") == set()


def test_bound_socket_uses_only_its_device(uplinks: Uplinks, connections: Connections) -> None:
    """IPv4 treats the peer as a neighbour; IPv6 has no route."""
    bound = {
        "bound": uplinks.tcp(uplinks.service4, device="eth0"),
        "bound, mapped": uplinks.tcp(f"::ffff:{uplinks.service4}", device="eth0"),
        "bound, 6": uplinks.tcp(uplinks.service6, device="eth0"),
    }
    for default, other in (
        (uplinks.default4, uplinks.other4),
        (uplinks.default6, uplinks.other6),
    ):
        ip(uplinks.host, f"route del {default}", f"route add {other}")
    more = {name: (connection, NOTHING) for name, connection in bound.items()}
    more["bound, 6"] = bound["bound, 6"], UNROUTABLE
    connections.assert_verdicts(REROUTED, REROUTED, more)
    # The real path of the packets.
    assert bound["bound, 6"].sock.send(b"x") == 1
    with pytest.raises(OSError, match="unreachable"):
        uplinks.udp(uplinks.service6, uplinks.eth6, device="eth0")


def test_vrf(uplinks: Uplinks) -> None:
    host = uplinks.host
    if link_type_missing(host, "type", "vrf", "table", "10"):
        pytest.skip("this kernel has no VRF")
    ip(host, "link add red type vrf table 10", "link set red up", "link set wlan0 master red")
    host.delete_link_at_end("red")
    # The kernel removes IPv6 addresses when a link changes its VRF.
    ip(host, f"addr replace {uplinks.wlan6}/64 dev wlan0 nodad")
    ip(
        host,
        f"route add {uplinks.other4} table 10",
        f"route add {uplinks.other6} table 10",
        # Otherwise a look-up continues in the main table (vrf.rst of the kernel).
        "-4 route add unreachable default metric 4278198272 table 10",
        "-6 route add unreachable default metric 4278198272 table 10",
    )
    connections = Connections(uplinks, over_wlan0=False)
    inside = {
        f"{remote} of {device}": uplinks.tcp(remote, device=device)
        for remote in (uplinks.service4, f"::ffff:{uplinks.service4}", uplinks.service6)
        for device in ("red", "wlan0")
    }
    assert {connection.sock.getsockname()[0] for connection in inside.values()} == {
        uplinks.wlan4,
        f"::ffff:{uplinks.wlan4}",
        uplinks.wlan6,
    }

    def assert_verdicts(four: frozenset[str], six: frozenset[str]) -> None:
        connections.assert_verdicts(
            NOTHING,
            NOTHING,
            {
                name: (connection, six if name.startswith("2001") else four)
                for name, connection in inside.items()
            },
        )

    assert_verdicts(NOTHING, NOTHING)
    ip(host, f"route del {uplinks.other6} table 10")
    assert_verdicts(NOTHING, UNROUTABLE)
    ip(host, f"route add {uplinks.other6} table 10")
    assert_verdicts(NOTHING, NOTHING)
    ip(host, f"addr del {uplinks.wlan4}/24 dev wlan0", f"addr del {uplinks.wlan6}/64 dev wlan0")
    assert_verdicts(GONE | UNROUTABLE, GONE)
    # AnyIP in the table of the VRF.
    ip(host, f"route add local {uplinks.wlan6}/128 dev red table 10")
    assert_verdicts(GONE | UNROUTABLE, NOTHING)
