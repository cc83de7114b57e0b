# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What looks as if it were stranded, and is not."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from tests.kernel.stranded.connections import (
    CARRIER,
    GONE,
    NOTHING,
    REROUTED,
    UNROUTABLE,
    Connections,
    strandings,
)
from tests.support.topologies.networks import (
    FREE_BOUND,
    FREE_BOUND6,
    TRANSPARENT,
    TRANSPARENT6,
    Talk,
    Uplinks,
    ip,
    lacks,
)
from tests.support.topologies.waiting import until

_ANY4, _ANY6 = "10.77.0.0/16", "2001:db8:77::/64"


def _answered(uplinks: Uplinks) -> None:
    """Let the far host answer addresses of these networks by eth0."""
    for network in (_ANY4, "10.88.0.0/16"):
        ip(uplinks.far, f"route add {network} via {uplinks.eth4}")
    for network in (_ANY6, "2001:db8:88::/64"):
        ip(uplinks.far, f"route add {network} via {uplinks.eth6}")


def test_any_ip(uplinks: Uplinks, connections: Connections) -> None:
    """A whole network is local by a route; no interface holds its addresses."""
    _answered(uplinks)
    ip(uplinks.host, f"route add local {_ANY4} dev lo", f"route add local {_ANY6} dev lo")
    talks = {
        "tcp": uplinks.tcp(uplinks.service4, "10.77.1.2"),
        "mapped": uplinks.tcp(f"::ffff:{uplinks.service4}", "::ffff:10.77.1.2"),
        "accepted": uplinks.accepted(uplinks.service4, "10.77.3.4"),
        "udp": uplinks.udp(uplinks.service4, "10.77.1.2"),
        # An IPv6 socket can only be bound to such an address if it may be to any.
        "accepted6": uplinks.accepted(uplinks.service6, "2001:db8:77::3:4"),
    }
    connections.are(NOTHING, NOTHING, {name: (talk, NOTHING) for name, talk in talks.items()})
    ip(uplinks.host, f"route del local {_ANY4} dev lo", f"route del local {_ANY6} dev lo")
    connections.are(NOTHING, NOTHING, {name: (talk, GONE) for name, talk in talks.items()})


def test_addresses_on_loopback_belong_to_no_link(
    uplinks: Uplinks, connections: Connections
) -> None:
    """A VIP on lo leaves by any link; what else can happen to it still can."""
    _answered(uplinks)
    ip(uplinks.host, "addr add 10.88.0.1/32 dev lo", "addr add 2001:db8:88::1/128 dev lo nodad")
    talks = {
        "vip": uplinks.tcp(uplinks.service4, "10.88.0.1"),
        "vip, accepted": uplinks.accepted(uplinks.service4, "10.88.0.1"),
        "vip6": uplinks.tcp(uplinks.service6, "2001:db8:88::1"),
    }

    def are(told: frozenset[str], vips: frozenset[str]) -> None:
        connections.are(told, told, {name: (talk, vips) for name, talk in talks.items()})

    are(NOTHING, NOTHING)
    ip(uplinks.host, f"route replace {uplinks.other4}", f"route add {uplinks.other6} metric 1")
    are(REROUTED, NOTHING)
    ip(uplinks.host, f"route replace {uplinks.default4}", f"route del {uplinks.other6} metric 1")
    ip(uplinks.far, "link set f0 down")
    are(CARRIER, CARRIER)
    ip(uplinks.far, "link set f0 up")
    ip(uplinks.host, f"route del {uplinks.default4}", f"route del {uplinks.default6}")
    are(UNROUTABLE, UNROUTABLE)
    ip(uplinks.host, f"route add {uplinks.default4}", f"route add {uplinks.default6}")
    ip(uplinks.host, "addr del 10.88.0.1/32 dev lo", "addr del 2001:db8:88::1/128 dev lo")
    are(NOTHING, GONE)


def test_an_address_moved_to_another_link(uplinks: Uplinks, connections: Connections) -> None:
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    connections.are(GONE | UNROUTABLE, GONE)
    ip(
        uplinks.host,
        f"route del {uplinks.default6}",
        f"addr add {uplinks.eth4}/24 dev wlan0",
        f"addr add {uplinks.eth6}/64 dev wlan0 nodad",
        f"route add {uplinks.other4}",
        f"route add {uplinks.other6}",
    )
    connections.are(NOTHING, NOTHING)


def test_an_address_that_is_on_a_second_link_too(
    uplinks: Uplinks, connections: Connections
) -> None:
    """Whichever of them it leaves by."""
    ip(
        uplinks.host,
        f"addr add {uplinks.eth4}/32 dev wlan0",
        f"addr add {uplinks.eth6}/128 dev wlan0 nodad",
    )
    connections.are(NOTHING, NOTHING)
    ip(uplinks.host, f"route replace {uplinks.other4}", f"route add {uplinks.other6} metric 1")
    connections.are(NOTHING, NOTHING)
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    connections.are(NOTHING, NOTHING)


def test_transparent_and_free_bound_sockets(uplinks: Uplinks, connections: Connections) -> None:
    """They are not tied to an address of the host."""
    ip(uplinks.host, "addr add 10.88.0.1/32 dev eth0", "addr add 2001:db8:88::1/128 dev eth0 nodad")
    _answered(uplinks)
    talks = {
        name: uplinks.tcp(remote, local, options=options)
        for name, remote, local, options in (
            ("transparent", uplinks.service4, "10.88.0.1", TRANSPARENT),
            ("free-bound", uplinks.service4, "10.88.0.1", FREE_BOUND),
            ("transparent6", uplinks.service6, "2001:db8:88::1", TRANSPARENT6),
            ("free-bound6", uplinks.service6, "2001:db8:88::1", FREE_BOUND6),
            ("mapped", f"::ffff:{uplinks.service4}", "::ffff:10.88.0.1", FREE_BOUND6),
        )
    }
    tied = {
        "tied": uplinks.tcp(uplinks.service4, "10.88.0.1"),
        "tied6": uplinks.tcp(uplinks.service6, "2001:db8:88::1"),
    }
    protected = {name: (talk, NOTHING) for name, talk in talks.items()}
    ip(
        uplinks.host,
        "addr del 10.88.0.1/32 dev eth0",
        "addr del 2001:db8:88::1/128 dev eth0",
    )
    connections.are(
        NOTHING, NOTHING, {**protected, **{name: (talk, GONE) for name, talk in tied.items()}}
    )


def test_binding_to_addresses_that_nobody_holds_does_not_hold_them(
    uplinks: Uplinks, connections: Connections
) -> None:
    """Where any socket may bind to what is not local, connections are stranded all the same."""
    for family in ("ipv4", "ipv6"):
        uplinks.host.sysctl(f"{family}/ip_nonlocal_bind", 1)
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    connections.are(GONE | UNROUTABLE, GONE)


def test_connected_to_a_group(uplinks: Uplinks) -> None:
    """Where a group is reached is no matter of one address: nothing is known of that."""
    groups = {
        "multicast": uplinks.udp("224.0.0.251", uplinks.eth4),
        "multicast6": uplinks.udp("ff02::fb%eth0"),
        "multicast6, wide": uplinks.udp("ff0e::101", uplinks.eth6),
    }
    ip(uplinks.host, "route add 224.0.0.0/4 dev wlan0")
    ip(uplinks.host, "-6 route add ff0e::/16 dev wlan0 table local metric 1")
    told = strandings(uplinks.host)
    assert {name: told[talk.cookie] for name, talk in groups.items()} == dict.fromkeys(groups)
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    told = strandings(uplinks.host)
    assert told[groups["multicast"].cookie] == GONE
    assert told[groups["multicast6, wide"].cookie] == GONE


def _over(uplinks: Uplinks, link: str, far: str) -> dict[str, Talk]:
    """Connections over one more link of the host, which the far host answers by `far`."""
    uplinks.host.address(link, "10.3.0.1/24", "2001:db8:3::1/64")
    uplinks.far.address(far, "10.3.0.2/24", "2001:db8:3::2/64")
    return {
        link: uplinks.tcp("10.3.0.2"),
        f"{link}, accepted": uplinks.accepted("10.3.0.2", "10.3.0.1"),
        f"{link}, 6": uplinks.tcp("2001:db8:3::2"),
        f"{link}, udp": uplinks.udp("10.3.0.2"),
    }


@pytest.mark.parametrize("kind", ["bridge", "macvlan", "vlan", "ipvlan"])
def test_links_over_links(uplinks: Uplinks, connections: Connections, kind: str) -> None:
    """The upper link's carrier counts, which a bridge has while any member has."""
    host, far = uplinks.host, uplinks.far
    uplinks.link("eth2", "f2")
    added = {
        "bridge": "type bridge",
        "macvlan": "link eth2 type macvlan mode bridge",
        "vlan": "link eth2 type vlan id 5",
        "ipvlan": "link eth2 type ipvlan mode l2",
    }[kind]
    if lacks(host, *added.split()):
        pytest.skip(f"this kernel has no {kind}")
    ip(host, f"link add over0 {added}")
    host.own("over0")
    answering = "f2"
    if kind == "bridge":
        uplinks.link("eth3", "f3")
        ip(host, *(f"link set {member} master over0" for member in ("eth2", "eth3")))
    if kind == "vlan":
        ip(far, "link add over0 link f2 type vlan id 5", "link set over0 up")
        far.own("over0")
        answering = "over0"
    ip(host, "link set over0 up")
    talks = _over(uplinks, "over0", answering)

    def are(told: frozenset[str]) -> None:
        connections.are(NOTHING, NOTHING, {name: (talk, told) for name, talk in talks.items()})

    def without_carrier() -> bool:
        return "LOWER_UP" not in ip(host, "link show over0")

    are(NOTHING)
    if kind == "bridge":
        ip(far, "link set f3 down")
        until(
            lambda: "disabled" in ip(host, "-d link show eth3"),
            "the bridge leaves eth3 out",
            seconds=20,
        )
        are(NOTHING)
    ip(far, "link set f2 down")
    until(without_carrier, "over0 has no carrier", seconds=20)
    are(CARRIER)


def test_tunnels_whose_state_nobody_knows(
    uplinks: Uplinks, connections: Connections, tunnel: Callable[..., io.FileIO]
) -> None:
    """operstate says unknown of a tun device that works."""
    end = tunnel("tun0")
    ip(uplinks.host, "addr add 10.9.0.1 peer 10.9.0.2 dev tun0")
    talk = uplinks.udp("10.9.0.2")
    assert "state UNKNOWN" in ip(uplinks.host, "link show tun0")
    connections.are(NOTHING, NOTHING, {"tunnel": (talk, NOTHING)})
    talk.sock.send(b"x" * 10)

    def arrives() -> bool:
        return b"x" * 10 in (end.read(2048) or b"")

    until(arrives, "the tunnel's program reads what was sent")


def test_a_dummy_link(uplinks: Uplinks, connections: Connections) -> None:
    """It has no lower layer to lose."""
    if lacks(uplinks.host, "type", "dummy"):
        pytest.skip("this kernel has no dummy links")
    ip(uplinks.host, "link add sink0 type dummy", "link set sink0 up")
    uplinks.host.own("sink0")
    ip(uplinks.host, "addr add 10.4.0.1/24 dev sink0")
    connections.are(NOTHING, NOTHING, {"dummy": (uplinks.udp("10.4.0.9"), NOTHING)})
