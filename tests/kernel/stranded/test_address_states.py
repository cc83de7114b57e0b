# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""States of local addresses: deprecated, temporary, tentative, and duplicate ones."""

from __future__ import annotations

from linuxnet_sockets.policy.conditions import NetworkState, parse_condition
from tests.kernel.stranded.connections import selected, strandings, view_of
from tests.support.topologies.networks import Uplinks, ip
from tests.support.topologies.waiting import until

DUPLICATE = "2001:db8:a::66"


def duplicate(uplinks: Uplinks) -> None:
    """Let duplicate address detection fail for an address of eth0."""
    ip(uplinks.far, f"addr add {DUPLICATE}/64 dev f0 nodad")
    for which in ("all", "eth0"):
        uplinks.host.sysctl(f"ipv6/conf/{which}/accept_dad", 1)
    uplinks.host.sysctl("ipv6/conf/eth0/dad_transmits", 1)
    ip(uplinks.host, f"addr add {DUPLICATE}/64 dev eth0")
    until(lambda: "dadfailed" in ip(uplinks.host, "-6 addr show dev eth0"), "the address fails")


def is_present(uplinks: Uplinks) -> bool | None:
    with view_of(uplinks.host) as session:
        network = NetworkState((), session.snapshot().addresses)
    return parse_condition({"address": DUPLICATE, "is": "present"}, ()).holds(network)


def test_duplicate_address_is_gone(uplinks: Uplinks) -> None:
    host = uplinks.host
    ip(host, f"addr add {DUPLICATE}/64 dev eth0 nodad")
    connection = uplinks.tcp(uplinks.service6, DUPLICATE)
    other = uplinks.tcp(uplinks.service6, uplinks.eth6)
    assert not strandings(host)[connection.cookie]
    assert is_present(uplinks)
    ip(host, f"addr del {DUPLICATE}/64 dev eth0")
    duplicate(uplinks)
    assert selected(host, local_state="dadfailed") == {connection.cookie}
    assert "address_gone" in (strandings(host)[connection.cookie] or ())
    assert not strandings(host)[other.cookie]
    assert is_present(uplinks) is False
    # Another interface has the address, and the kernel uses it there.
    ip(host, f"addr add {DUPLICATE}/128 dev wlan0 nodad")
    assert "address_gone" not in (strandings(host)[connection.cookie] or ())
    assert is_present(uplinks)
    assert selected(host, local_state="dadfailed") == set()
    assert connection.cookie not in selected(host, **{"not": {"local_state": "dadfailed"}})


def test_tentative_address_is_present(uplinks: Uplinks) -> None:
    host = uplinks.host
    ip(host, f"addr add {DUPLICATE}/64 dev eth0 nodad")
    connection = uplinks.tcp(uplinks.service6, DUPLICATE)
    ip(host, f"addr del {DUPLICATE}/64 dev eth0")
    for which in ("all", "eth0"):
        host.sysctl(f"ipv6/conf/{which}/accept_dad", 1)
    host.sysctl("ipv6/conf/eth0/dad_transmits", 100)
    ip(host, f"addr add {DUPLICATE}/64 dev eth0")
    assert "tentative" in ip(host, "-6 addr show dev eth0")
    assert "address_gone" not in (strandings(host)[connection.cookie] or ())
    assert selected(host, local_state="tentative") == {connection.cookie}
    assert selected(host, local_state="dadfailed") == set()


def test_deprecated_and_temporary(uplinks: Uplinks) -> None:
    host = uplinks.host
    lifetime = "valid_lft 3600 preferred_lft 0"
    ip(
        host,
        f"addr add 2001:db8:a::77/64 dev eth0 nodad {lifetime}",
        f"addr add 192.0.2.77/24 dev eth0 {lifetime}",
        # A secondary address has the flag that means temporary for IPv6.
        "addr add 192.0.2.78/24 dev eth0",
    )
    old6 = uplinks.tcp(uplinks.service6, "2001:db8:a::77")
    old4 = uplinks.tcp(uplinks.service4, "192.0.2.77")
    mapped = uplinks.tcp(f"::ffff:{uplinks.service4}", "::ffff:192.0.2.77")
    secondary = uplinks.tcp(uplinks.service4, "192.0.2.78")
    current = uplinks.tcp(uplinks.service6, uplinks.eth6)
    deprecated = {old6.cookie, old4.cookie, mapped.cookie}
    assert selected(host, local_state=["deprecated", "temporary"]) == deprecated
    assert selected(host, local_state="temporary") == set()
    ours = {*deprecated, secondary.cookie, current.cookie}
    others = selected(host, **{"not": {"local_state": "deprecated"}})
    assert ours & others == {secondary.cookie, current.cookie}
    ip(host, "addr del 192.0.2.77/24 dev eth0")
    # Unknown: no interface has the address.
    assert old4.cookie not in selected(host, local_state="deprecated")
    assert old4.cookie not in selected(host, **{"not": {"local_state": "deprecated"}})


def test_privacy_address(uplinks: Uplinks) -> None:
    """The kernel makes temporary addresses from the prefix of a router advertisement."""
    host = uplinks.host
    host.sysctl("ipv6/conf/eth0/use_tempaddr", 2)
    ip(host, "addr add 2001:db8:a::5054:ff:fe12:3456/64 dev eth0 nodad mngtmpaddr")
    shown = until(
        lambda: [
            line
            for line in ip(host, "-6 -o addr show dev eth0").splitlines()
            if "temporary" in line and "tentative" not in line
        ],
        "a temporary address",
    )
    address = shown[0].split()[3].partition("/")[0]
    connection = uplinks.tcp(uplinks.service6, address)
    assert selected(host, local_state="temporary") == {connection.cookie}
