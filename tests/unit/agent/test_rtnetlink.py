# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event parser."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.rtnetlink import EventBatch, EventParser
from linuxnet_sockets.netlink import attributes

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


def test_added_address_is_reported_and_removed_one_is_not() -> None:
    parser = EventParser()
    added = parser.parse(address(20, socket.AF_INET, (1, PEER), (2, FOUR)))
    assert added == EventBatch(1, frozenset({FOUR, PEER}))
    assert parser.parse(address(20, socket.AF_INET6, (1, SIX))) == EventBatch(1, frozenset({SIX}))
    assert parser.parse(address(21, socket.AF_INET, (1, FOUR), (2, FOUR))) == EventBatch(1)


def test_link_is_reported_only_when_it_comes_up() -> None:
    parser = EventParser()
    flags = (UP, UP | LOWER_UP, UP | LOWER_UP | RUNNING, UP, UP | LOWER_UP)
    reported = [parser.parse(link(3, each)).link_up for each in flags]
    assert reported == [False, True, False, False, True]
    # Another link, in an event truncated after its fixed part.
    assert parser.parse(link(4, UP | LOWER_UP, b"\xff" * 7)).link_up


def test_other_events_are_only_counted() -> None:
    assert EventParser().parse(event(24, b"\0" * 40)) == EventBatch(1)


def test_events_that_may_have_healed_a_violation() -> None:
    assert not EventBatch(9).may_have_healed({FOUR})
    assert EventBatch(1, frozenset({FOUR})).may_have_healed({FOUR, SIX})
    assert not EventBatch(1, frozenset({SIX})).may_have_healed({FOUR})
    assert EventBatch(1, link_up=True).may_have_healed(())
    assert EventBatch(1, overflow=True).may_have_healed(())


def test_batches_add_up() -> None:
    both = EventBatch(2, frozenset({FOUR})) + EventBatch(3, frozenset({SIX}), link_up=True)
    assert both == EventBatch(5, frozenset({FOUR, SIX}), link_up=True)
    assert both + EventBatch(1, overflow=True) == EventBatch(
        6, frozenset({FOUR, SIX}), link_up=True, overflow=True
    )


@given(st.binary(max_size=200), st.sampled_from([16, 20, 21, 24]))
def test_any_datagram_is_parsed(body: bytes, kind: int) -> None:
    assert EventParser().parse(event(kind, body)).events == 1
    assert EventParser().parse(body).events == 1
