# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent reads from events: on bytes."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.news import News, Reader
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


def test_an_address_that_comes_is_named_and_one_that_goes_is_not() -> None:
    reader = Reader()
    come = reader.read(address(20, socket.AF_INET, (1, PEER), (2, FOUR)))
    assert come == News(1, frozenset({FOUR, PEER}))
    assert reader.read(address(20, socket.AF_INET6, (1, SIX))) == News(1, frozenset({SIX}))
    assert reader.read(address(21, socket.AF_INET, (1, FOUR), (2, FOUR))) == News(1)


def test_a_link_is_told_when_it_comes_up_and_not_while_it_is() -> None:
    reader = Reader()
    flags = (UP, UP | LOWER_UP, UP | LOWER_UP | RUNNING, UP, UP | LOWER_UP)
    told = [reader.read(link(3, each)).links for each in flags]
    assert told == [False, True, False, False, True]
    # Another one; and an event that was cut off behind its fixed part.
    assert reader.read(link(4, UP | LOWER_UP, b"\xff" * 7)).links


def test_other_events_are_counted() -> None:
    assert Reader().read(event(24, b"\0" * 40)) == News(1)


def test_what_may_end_a_violation() -> None:
    assert not News(9).may_end({FOUR})
    assert News(1, frozenset({FOUR})).may_end({FOUR, SIX})
    assert not News(1, frozenset({SIX})).may_end({FOUR})
    assert News(1, links=True).may_end(())
    assert News(1, lost=True).may_end(())


def test_news_add_up() -> None:
    both = News(2, frozenset({FOUR})) + News(3, frozenset({SIX}), links=True)
    assert both == News(5, frozenset({FOUR, SIX}), links=True)
    assert both + News(1, lost=True) == News(6, frozenset({FOUR, SIX}), links=True, lost=True)


@given(st.binary(max_size=200), st.sampled_from([16, 20, 21, 24]))
def test_nothing_that_comes_is_too_odd_to_read(body: bytes, kind: int) -> None:
    assert Reader().read(event(kind, body)).events == 1
    assert Reader().read(body).events == 1
