# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Situations that look like stranded connections, and are not."""

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
    UplinkConnection,
    Uplinks,
    ip,
    link_type_missing,
)
from tests.support.topologies.waiting import until

_ANY4, _ANY6 = "10.77.0.0/16", "2001:db8:77::/64"


def _answered(uplinks: Uplinks) -> None:
    """Let the far host route these networks over eth0."""
    for network in (_ANY4, "10.88.0.0/16"):
        ip(uplinks.far, f"route add {network} via {uplinks.eth4}")
    for network in (_ANY6, "2001:db8:88::/64"):
        ip(uplinks.far, f"route add {network} via {uplinks.eth6}")


def test_anyip_address(uplinks: Uplinks, connections: Connections) -> None:
    """A local route covers a whole network; no interface has its addresses."""
    _answered(uplinks)
    ip(uplinks.host, f"route add local {_ANY4} dev lo", f"route add local {_ANY6} dev lo")
    opened_connections = {
        "tcp": uplinks.tcp(uplinks.service4, "10.77.1.2"),
        "mapped": uplinks.tcp(f"::ffff:{uplinks.service4}", "::ffff:10.77.1.2"),
        "accepted": uplinks.accepted(uplinks.service4, "10.77.3.4"),
        "udp": uplinks.udp(uplinks.service4, "10.77.1.2"),
        # An IPv6 socket can bind to such an address only if it may bind to any.
        "accepted6": uplinks.accepted(uplinks.service6, "2001:db8:77::3:4"),
    }
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        {name: (connection, NOTHING) for name, connection in opened_connections.items()},
    )
    ip(uplinks.host, f"route del local {_ANY4} dev lo", f"route del local {_ANY6} dev lo")
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        {name: (connection, GONE) for name, connection in opened_connections.items()},
    )


def test_address_on_loopback_is_not_rerouted(uplinks: Uplinks, connections: Connections) -> None:
    """A VIP on lo leaves through any link; other verdicts still apply."""
    _answered(uplinks)
    ip(uplinks.host, "addr add 10.88.0.1/32 dev lo", "addr add 2001:db8:88::1/128 dev lo nodad")
    opened_connections = {
        "vip": uplinks.tcp(uplinks.service4, "10.88.0.1"),
        "vip, accepted": uplinks.accepted(uplinks.service4, "10.88.0.1"),
        "vip6": uplinks.tcp(uplinks.service6, "2001:db8:88::1"),
    }

    def assert_verdicts(expected: frozenset[str], vips: frozenset[str]) -> None:
        connections.assert_verdicts(
            expected,
            expected,
            {name: (connection, vips) for name, connection in opened_connections.items()},
        )

    assert_verdicts(NOTHING, NOTHING)
    ip(uplinks.host, f"route replace {uplinks.other4}", f"route add {uplinks.other6} metric 1")
    assert_verdicts(REROUTED, NOTHING)
    ip(uplinks.host, f"route replace {uplinks.default4}", f"route del {uplinks.other6} metric 1")
    ip(uplinks.far, "link set f0 down")
    assert_verdicts(CARRIER, CARRIER)
    ip(uplinks.far, "link set f0 up")
    ip(uplinks.host, f"route del {uplinks.default4}", f"route del {uplinks.default6}")
    assert_verdicts(UNROUTABLE, UNROUTABLE)
    ip(uplinks.host, f"route add {uplinks.default4}", f"route add {uplinks.default6}")
    ip(uplinks.host, "addr del 10.88.0.1/32 dev lo", "addr del 2001:db8:88::1/128 dev lo")
    assert_verdicts(NOTHING, GONE)


def test_address_moved_to_another_link(uplinks: Uplinks, connections: Connections) -> None:
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    connections.assert_verdicts(GONE | UNROUTABLE, GONE)
    ip(
        uplinks.host,
        f"route del {uplinks.default6}",
        f"addr add {uplinks.eth4}/24 dev wlan0",
        f"addr add {uplinks.eth6}/64 dev wlan0 nodad",
        f"route add {uplinks.other4}",
        f"route add {uplinks.other6}",
    )
    connections.assert_verdicts(NOTHING, NOTHING)


def test_address_on_two_links(uplinks: Uplinks, connections: Connections) -> None:
    """Whichever link it leaves through."""
    ip(
        uplinks.host,
        f"addr add {uplinks.eth4}/32 dev wlan0",
        f"addr add {uplinks.eth6}/128 dev wlan0 nodad",
    )
    connections.assert_verdicts(NOTHING, NOTHING)
    ip(uplinks.host, f"route replace {uplinks.other4}", f"route add {uplinks.other6} metric 1")
    connections.assert_verdicts(NOTHING, NOTHING)
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    connections.assert_verdicts(NOTHING, NOTHING)


def test_transparent_and_freebind_sockets(uplinks: Uplinks, connections: Connections) -> None:
    """They do not need an address of the host."""
    ip(uplinks.host, "addr add 10.88.0.1/32 dev eth0", "addr add 2001:db8:88::1/128 dev eth0 nodad")
    _answered(uplinks)
    opened_connections = {
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
    protected = {name: (connection, NOTHING) for name, connection in opened_connections.items()}
    ip(
        uplinks.host,
        "addr del 10.88.0.1/32 dev eth0",
        "addr del 2001:db8:88::1/128 dev eth0",
    )
    connections.assert_verdicts(
        NOTHING,
        NOTHING,
        {**protected, **{name: (connection, GONE) for name, connection in tied.items()}},
    )


def test_bind_to_missing_address_does_not_assign_it(
    uplinks: Uplinks, connections: Connections
) -> None:
    """With ip_nonlocal_bind connections are stranded too."""
    for family in ("ipv4", "ipv6"):
        uplinks.host.sysctl(f"{family}/ip_nonlocal_bind", 1)
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    connections.assert_verdicts(GONE | UNROUTABLE, GONE)


def test_connected_to_multicast_group(uplinks: Uplinks) -> None:
    """Route verdicts are unknown for a multicast group."""
    groups = {
        "multicast": uplinks.udp("224.0.0.251", uplinks.eth4),
        "multicast6": uplinks.udp("ff02::fb%eth0"),
        "multicast6, wide": uplinks.udp("ff0e::101", uplinks.eth6),
    }
    ip(uplinks.host, "route add 224.0.0.0/4 dev wlan0")
    ip(uplinks.host, "-6 route add ff0e::/16 dev wlan0 table local metric 1")
    verdicts = strandings(uplinks.host)
    assert {
        name: verdicts[connection.cookie] for name, connection in groups.items()
    } == dict.fromkeys(groups)
    ip(
        uplinks.host,
        f"addr del {uplinks.eth4}/24 dev eth0",
        f"addr del {uplinks.eth6}/64 dev eth0",
    )
    verdicts = strandings(uplinks.host)
    assert verdicts[groups["multicast"].cookie] == GONE
    assert verdicts[groups["multicast6, wide"].cookie] == GONE


def _over(uplinks: Uplinks, link: str, far: str) -> dict[str, UplinkConnection]:
    """Connections over another link of the host; the far host answers through `far`."""
    uplinks.host.address(link, "10.3.0.1/24", "2001:db8:3::1/64")
    uplinks.far.address(far, "10.3.0.2/24", "2001:db8:3::2/64")
    return {
        link: uplinks.tcp("10.3.0.2"),
        f"{link}, accepted": uplinks.accepted("10.3.0.2", "10.3.0.1"),
        f"{link}, 6": uplinks.tcp("2001:db8:3::2"),
        f"{link}, udp": uplinks.udp("10.3.0.2"),
    }


@pytest.mark.parametrize("kind", ["bridge", "macvlan", "vlan", "ipvlan"])
def test_stacked_links(uplinks: Uplinks, connections: Connections, kind: str) -> None:
    """The carrier of the upper link counts; a bridge has one if any member has."""
    host, far = uplinks.host, uplinks.far
    uplinks.link("eth2", "f2")
    added = {
        "bridge": "type bridge",
        "macvlan": "link eth2 type macvlan mode bridge",
        "vlan": "link eth2 type vlan id 5",
        "ipvlan": "link eth2 type ipvlan mode l2",
    }[kind]
    if link_type_missing(host, *added.split()):
        pytest.skip(f"this kernel has no {kind}")
    ip(host, f"link add over0 {added}")
    host.delete_link_at_end("over0")
    answering = "f2"
    if kind == "bridge":
        uplinks.link("eth3", "f3")
        ip(host, *(f"link set {member} master over0" for member in ("eth2", "eth3")))
    if kind == "vlan":
        ip(far, "link add over0 link f2 type vlan id 5", "link set over0 up")
        far.delete_link_at_end("over0")
        answering = "over0"
    ip(host, "link set over0 up")
    opened_connections = _over(uplinks, "over0", answering)

    def assert_verdicts(expected: frozenset[str]) -> None:
        connections.assert_verdicts(
            NOTHING,
            NOTHING,
            {name: (connection, expected) for name, connection in opened_connections.items()},
        )

    def without_carrier() -> bool:
        return "LOWER_UP" not in ip(host, "link show over0")

    assert_verdicts(NOTHING)
    if kind == "bridge":
        ip(far, "link set f3 down")
        until(
            lambda: "disabled" in ip(host, "-d link show eth3"),
            "the bridge leaves eth3 out",
            seconds=20,
        )
        assert_verdicts(NOTHING)
    ip(far, "link set f2 down")
    until(without_carrier, "over0 has no carrier", seconds=20)
    assert_verdicts(CARRIER)


def test_tunnel_with_unknown_operstate(
    uplinks: Uplinks, connections: Connections, tunnel: Callable[..., io.FileIO]
) -> None:
    """operstate is unknown for a working tun device."""
    end = tunnel("tun0")
    ip(uplinks.host, "addr add 10.9.0.1 peer 10.9.0.2 dev tun0")
    connection = uplinks.udp("10.9.0.2")
    assert "state UNKNOWN" in ip(uplinks.host, "link show tun0")
    connections.assert_verdicts(NOTHING, NOTHING, {"tunnel": (connection, NOTHING)})
    connection.sock.send(b"x" * 10)

    def arrives() -> bool:
        return b"x" * 10 in (end.read(2048) or b"")

    until(arrives, "the tunnel's program reads what was sent")


def test_dummy_link(uplinks: Uplinks, connections: Connections) -> None:
    """It has no lower device that could lose its carrier."""
    if link_type_missing(uplinks.host, "type", "dummy"):
        pytest.skip("this kernel has no dummy links")
    ip(uplinks.host, "link add sink0 type dummy", "link set sink0 up")
    uplinks.host.delete_link_at_end("sink0")
    ip(uplinks.host, "addr add 10.4.0.1/24 dev sink0")
    connections.assert_verdicts(NOTHING, NOTHING, {"dummy": (uplinks.udp("10.4.0.9"), NOTHING)})
