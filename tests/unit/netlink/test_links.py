# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links and addresses over rtnetlink."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.errors import MalformedMessage, SocketsError
from linuxnet_sockets.netlink import links
from linuxnet_sockets.netlink.connection import NETLINK_ROUTE, Connection
from tests.support.fake_kernel import FakeAddress, FakeKernel, FakeNamespace, faults


def _open(kernel: FakeKernel) -> Connection:
    return Connection(kernel.open("current", NETLINK_ROUTE), timeout=0.2)


def _addresses(namespace: FakeNamespace) -> set[bytes]:
    return {ipaddress.ip_address(address.local).packed for address in namespace.addresses}


def test_links_and_up() -> None:
    kernel = FakeKernel()
    kernel.current.link(2, "eth0")
    kernel.current.link(3, "eth1", flags=0x1003)  # no carrier
    kernel.current.link(4, "wg0", flags=0x100D1)  # a tunnel, whose operstate is unknown
    kernel.current.link(5, "eth2", flags=0x11002)  # administratively down
    found = links.links(_open(kernel))
    assert [(link.ifindex, link.name, link.up) for link in found] == [
        (1, "lo", True),
        (2, "eth0", True),
        (3, "eth1", False),
        (4, "wg0", True),
        (5, "eth2", False),
    ]


def test_addresses_of_both_families() -> None:
    kernel = FakeKernel()
    kernel.current.link(2, "eth0", "192.0.2.1/24", "2001:db8::1/64", "fe80::1/64")
    found = links.addresses(_open(kernel))
    assert {address.address for address in found} == _addresses(kernel.current)
    (own,) = [address for address in found if address.address == socket.inet_aton("192.0.2.1")]
    assert (own.family, own.prefix_length, own.ifindex) == (socket.AF_INET, 24, 2)


@pytest.mark.parametrize(
    ("local", "peer"), [("10.8.0.2", "10.8.0.1"), ("2001:db8::2", "2001:db8::1")]
)
def test_point_to_point_address_is_local(local: str, peer: str) -> None:
    kernel = FakeKernel()
    kernel.current.link(2, "tun0")
    kernel.current.addresses.append(FakeAddress(local, 32, 2, peer=peer))
    found = {address.address for address in links.addresses(_open(kernel)) if address.ifindex == 2}
    assert found == {ipaddress.ip_address(local).packed}


def test_addresses_in_many_datagrams() -> None:
    kernel = FakeKernel()
    texts = [f"10.{n >> 8}.{n & 255}.1/32" for n in range(2000)]
    kernel.current.link(2, "eth0", *texts)
    assert {address.address for address in links.addresses(_open(kernel))} == _addresses(
        kernel.current
    )


def test_address_flags_beyond_eight_bits() -> None:
    kernel = FakeKernel()
    kernel.current.addresses.append(FakeAddress("192.0.2.9", 24, 1, flags=0x280))
    found = {address.address: address.flags for address in links.addresses(_open(kernel))}
    assert found[socket.inet_aton("192.0.2.9")] == 0x280


@given(st.binary(max_size=80))
def test_any_bytes_decode_or_raise(body: bytes) -> None:
    kernel = FakeKernel()
    for dump in (links.links, links.addresses):
        kernel.current.faults.append(faults.bodies(lambda _body: body))
        try:
            found = dump(_open(kernel))
        except SocketsError:
            continue
        for item in found:
            if isinstance(item, links.Address):
                assert len(item.address) == (4 if item.family == socket.AF_INET else 16)
            else:
                assert item.name.encode("utf-8", "surrogateescape") in body


def test_link_without_name_is_malformed() -> None:
    kernel = FakeKernel()
    kernel.current.faults.append(faults.bodies(lambda body: body[:16]))
    with pytest.raises(MalformedMessage):
        links.links(_open(kernel))
