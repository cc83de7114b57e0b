# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser of rtnetlink events."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.network_events import OWN, EventBatch, parse_event
from linuxnet_sockets.netlink import attributes
from linuxnet_sockets.policy.doubt import NO_CHANGES, NetworkChanges

FOUR = socket.inet_aton("192.0.2.7")
PEER = socket.inet_aton("192.0.2.8")
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
UP, LOWER_UP, RUNNING = 0x1, 0x10000, 0x40


def event(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def link(index: int, flags: int, rest: bytes = b"") -> bytes:
    return event(16, struct.pack("=BxHiII", 0, 1, index, flags, 0) + rest)


def address(kind: int, family: int, *values: tuple[int, bytes]) -> bytes:
    raw = b"".join(attributes.encode(number, value) for number, value in values)
    return event(kind, struct.pack("=BBBBI", family, 24, 0, 0, 2) + raw)


def test_added_and_removed_addresses_are_reported() -> None:
    added = parse_event(address(20, socket.AF_INET, (1, PEER), (2, FOUR)))
    assert added == NetworkChanges(addresses_added=frozenset({FOUR, PEER}))
    assert parse_event(address(20, socket.AF_INET6, (1, SIX))).addresses_added == {SIX}
    removed = parse_event(address(21, socket.AF_INET, (1, FOUR), (2, FOUR)))
    assert removed == NetworkChanges(addresses_removed=frozenset({FOUR}))


def test_link_is_up_with_carrier_only() -> None:
    up = [
        bool(parse_event(link(3, flags)).links_up)
        for flags in (UP, UP | LOWER_UP, UP | LOWER_UP | RUNNING, 0)
    ]
    assert up == [False, True, True, False]
    assert parse_event(link(3, UP)).links_down == {3}


def test_names_of_a_link_that_is_up() -> None:
    alternative = attributes.encode(53, b"uplink\0")
    attached = attributes.encode(3, b"eth0\0") + attributes.encode(52 | 0x8000, alternative)
    assert parse_event(link(3, UP | LOWER_UP, attached)).names == {(3, "eth0"), (3, "uplink")}
    # Truncated after the first attribute.
    assert parse_event(link(3, UP | LOWER_UP, attached[:-3])).names == {(3, "eth0")}
    # Truncated after the fixed part.
    assert parse_event(link(4, UP | LOWER_UP, b"\xff" * 7)).links_up == {4}


def test_other_events_change_nothing() -> None:
    assert parse_event(event(24, b"\0" * 40)) == NO_CHANGES


def test_batches_add_up_by_namespace() -> None:
    first, second = EventBatch(), EventBatch(mounts=True, others_lost=True)
    first.add(OWN, NetworkChanges(frozenset({FOUR})))
    first.add(7)
    second.add(OWN, NetworkChanges(frozenset({SIX}), links_up=frozenset({3})))
    second.add(OWN)
    first.merge(second)
    own = NetworkChanges(frozenset({FOUR, SIX}), links_up=frozenset({3}))
    assert first == EventBatch(4, {OWN: own, 7: NO_CHANGES}, mounts=True, others_lost=True)


@given(st.binary(max_size=200), st.sampled_from([16, 20, 21, 24]))
def test_any_datagram_is_parsed(body: bytes, kind: int) -> None:
    parse_event(event(kind, body))
    parse_event(body)
