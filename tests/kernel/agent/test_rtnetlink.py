# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What wakes the agent, on the real kernel, with whichever pyroute2 is there."""

from __future__ import annotations

import resource
import select
from collections.abc import Iterator
from functools import partial

import pytest

from linuxnet_sockets.agent.rtnetlink import NetlinkEvents
from linuxnet_sockets.sockets.needs import RTNETLINK_GROUPS, Need
from tests.support.topologies.topology import Lab, LabNamespace, Pair
from tests.support.topologies.waiting import until


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """One of this module's own: what is changed in it is not changed back."""
    with Lab() as lab:
        yield Pair(lab)


@pytest.fixture
def events(pair: Pair, request: pytest.FixtureRequest) -> Iterator[NetlinkEvents]:
    events = pair.client.run(NetlinkEvents, request.param)
    yield events
    events.close()


def _woken(events: NetlinkEvents, seconds: float = 2.0) -> bool:
    readable, _writable, _failed = select.select([events], [], [], seconds)
    return bool(readable)


def _address(where: LabNamespace, verb: str, ifname: str, address: str) -> None:
    where.output("ip", "address", verb, address, "dev", ifname)


def _quiet(events: NetlinkEvents) -> None:
    """Until what went before has been heard."""
    while _woken(events, 0.05):
        events.drain()


@pytest.mark.parametrize("events", [{Need.ADDRESSES}], indirect=True)
def test_an_address_wakes_and_a_rule_does_not(pair: Pair, events: NetlinkEvents) -> None:
    _quiet(events)
    pair.client.output("ip", "rule", "add", "fwmark", "77", "table", "77")
    pair.client.output("ip", "rule", "del", "fwmark", "77", "table", "77")
    assert not _woken(events, 0.05)
    _address(pair.client, "add", "lo", "127.9.9.9/32")
    assert _woken(events)
    assert events.drain().events == 1
    assert not _woken(events, 0.05)
    _address(pair.client, "del", "lo", "127.9.9.9/32")
    assert _woken(events)


@pytest.mark.parametrize("events", [{*RTNETLINK_GROUPS}], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        ("rule", "add", "fwmark", "78", "table", "78"),
        ("-6", "rule", "add", "fwmark", "78", "table", "78"),
        ("route", "add", "203.0.113.0/24", "dev", "lo"),
        ("-6", "route", "add", "2001:db8:99::/64", "dev", "lo"),
        ("link", "set", "lo", "mtu", "60000"),
    ],
)
def test_every_kind_of_change(pair: Pair, events: NetlinkEvents, change: tuple[str, ...]) -> None:
    _quiet(events)
    pair.client.output("ip", *change)
    assert _woken(events)


@pytest.mark.parametrize("events", [{Need.ROUTES}], indirect=True)
def test_a_storm_is_one_event_that_costs_nothing(pair: Pair, events: NetlinkEvents) -> None:
    _quiet(events)
    with pair.client.route() as route:
        for number in range(2000):
            route.route("add", dst=f"198.18.{number >> 8}.{number & 255}/32", oif=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert _woken(events)
    news = events.drain()
    assert 1 <= news.events < 200
    assert not news.lost
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 0.05
    assert not _woken(events, 0.01)
    pair.client.output("ip", "route", "flush", "root", "198.18.0.0/16")
    assert _woken(events)


def test_foreign_namespaces_are_heard_and_not_held(pair: Pair) -> None:
    """By the ids that the wire between the two gives them."""
    events = pair.client.run(partial(NetlinkEvents, {Need.ADDRESSES}, foreign=True))
    try:
        with Lab() as others:
            other = others.namespace("other")
            device, _far = others.wire(pair.client, other, ["203.0.113.1/32"])
            _quiet(events)
            _address(other, "add", "lo", "127.9.9.9/32")
            assert _woken(events)
        until(
            lambda: f" {device}@" not in pair.client.output("ip", "link"),
            "the other namespace is gone, and the wire to it",
        )
    finally:
        events.close()


def test_a_namespace_that_gets_a_name_and_loses_it(pair: Pair) -> None:
    """No wire leads to it, so that no link and no address tells of it."""
    events = pair.client.run(partial(NetlinkEvents, {Need.ADDRESSES}, foreign=True))
    try:
        _quiet(events)
        with Lab() as others:
            others.namespace("other")
            assert _woken(events)
            _quiet(events)
        assert _woken(events)
    finally:
        events.close()
