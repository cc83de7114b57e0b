# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rtnetlink listener, with the kernel and the installed pyroute2."""

from __future__ import annotations

import gc
import os
import resource
import select
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from linuxnet_sockets.agent import network_events
from linuxnet_sockets.agent.mounts import MountMonitor
from linuxnet_sockets.agent.network_events import OWN, EventBatch
from linuxnet_sockets.agent.nsids import assign_nsid
from linuxnet_sockets.agent.rtnetlink import _MAX_EVENTS, RtnetlinkListener
from linuxnet_sockets.errors import LibraryFailed
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.policy.doubt import NO_CHANGES, NetworkChanges
from linuxnet_sockets.sockets.needs import RTNETLINK_GROUPS, Need
from tests.support import deny_syscalls
from tests.support.topologies.topology import Lab, LabNamespace, Pair
from tests.support.topologies.waiting import until


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A pair for this module alone, since its tests leave changes in it."""
    with Lab() as lab:
        yield Pair(lab)


@pytest.fixture
def listener(pair: Pair, request: pytest.FixtureRequest) -> Iterator[RtnetlinkListener]:
    listener = pair.client.run(RtnetlinkListener, request.param)
    yield listener
    listener.close()


def _readable(listener: RtnetlinkListener, seconds: float = 2.0) -> bool:
    readable, _writable, _failed = select.select([listener], [], [], seconds)
    return bool(readable)


def _address(where: LabNamespace, verb: str, ifname: str, address: str) -> None:
    where.output("ip", "address", verb, address, "dev", ifname)


def _drain(listener: RtnetlinkListener) -> None:
    """Read the events of earlier changes."""
    while _readable(listener, 0.05):
        listener.drain()


@pytest.mark.parametrize("listener", [{Need.ADDRESSES}], indirect=True)
def test_listener_receives_only_its_facts(pair: Pair, listener: RtnetlinkListener) -> None:
    _drain(listener)
    pair.client.output("ip", "rule", "add", "fwmark", "77", "table", "77")
    pair.client.output("ip", "rule", "del", "fwmark", "77", "table", "77")
    assert not _readable(listener, 0.05)
    _address(pair.client, "add", "lo", "127.9.9.9/32")
    assert _readable(listener)
    assert listener.drain().events == 1
    assert not _readable(listener, 0.05)
    _address(pair.client, "del", "lo", "127.9.9.9/32")
    assert _readable(listener)


@pytest.mark.parametrize("listener", [{*RTNETLINK_GROUPS}], indirect=True)
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
def test_each_kind_of_change_is_received(
    pair: Pair, listener: RtnetlinkListener, change: tuple[str, ...]
) -> None:
    _drain(listener)
    pair.client.output("ip", *change)
    assert _readable(listener)


@pytest.mark.parametrize("listener", [{Need.ROUTES}], indirect=True)
def test_event_flood_overflows_into_few_events(pair: Pair, listener: RtnetlinkListener) -> None:
    _drain(listener)
    with pair.client.route() as route:
        for number in range(2000):
            route.route("add", dst=f"198.18.{number >> 8}.{number & 255}/32", oif=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert _readable(listener)
    batch = listener.drain()
    assert 1 <= batch.events < 200
    # Lost route events raise no doubts.
    assert batch.changes == {OWN: NO_CHANGES}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 0.05
    assert not _readable(listener, 0.01)
    pair.client.output("ip", "route", "flush", "root", "198.18.0.0/16")
    assert _readable(listener)


def test_event_of_another_namespace_has_its_id(pair: Pair) -> None:
    """A veth pair assigns ids to the namespaces of its ends. Nothing is kept open there."""
    facts = {Need.ADDRESSES, Need.LINKS, Need.ROUTES}
    listener = pair.client.run(partial(RtnetlinkListener, facts, all_namespaces=True))
    try:
        with Lab() as others:
            other = others.namespace("other")
            device, _far = others.connect(pair.client, other, ["203.0.113.1/32"])
            (namespace,) = namespaces.resolve([other.name])
            nsid = pair.client.run(partial(assign_nsid, Host(), namespace))
            _drain(listener)
            _address(other, "add", "lo", "127.9.9.9/32")
            assert _readable(listener)
            added = NetworkChanges(frozenset({socket.inet_aton("127.9.9.9")}))
            assert listener.drain().changes == {nsid: added}
            _address(pair.client, "add", "lo", "127.9.9.8/32")
            assert _readable(listener)
            added = NetworkChanges(frozenset({socket.inet_aton("127.9.9.8")}))
            assert listener.drain().changes == {OWN: added}
            _address(pair.client, "del", "lo", "127.9.9.8/32")
        until(
            lambda: f" {device}@" not in pair.client.output("ip", "link"),
            "other namespace and veth removed",
        )
    finally:
        listener.close()


def test_flood_in_another_namespace_loses_no_events_of_this_one(pair: Pair) -> None:
    listener = pair.client.run(partial(RtnetlinkListener, {Need.ADDRESSES}, all_namespaces=True))
    try:
        with Lab() as others:
            other = others.namespace("other")
            (namespace,) = namespaces.resolve([other.name])
            assert pair.client.run(partial(assign_nsid, Host(), namespace)) is not None
            _drain(listener)
            with other.route() as route:
                for number in range(_MAX_EVENTS + 100):
                    route.addr("add", index=1, address=f"127.1.{number >> 8}.{number & 255}")
            _address(pair.client, "add", "lo", "127.9.9.8/32")
            batch = EventBatch()
            while _readable(listener, 0.1):
                batch.merge(listener.drain())
            assert batch.others_lost
            assert not batch.changes[OWN].lost
            assert batch.changes[OWN].addresses_added
            _address(pair.client, "del", "lo", "127.9.9.8/32")
    finally:
        listener.close()


def test_burst_of_link_events_is_not_lost(pair: Pair) -> None:
    """As when many containers start while a pass runs."""
    listener = pair.client.run(RtnetlinkListener, {Need.LINKS})
    try:
        _drain(listener)
        for number in range(20):
            pair.client.output("ip", "link", "set", "lo", "mtu", str(61_000 + number))
        batch = listener.drain()
        assert batch.events >= 20
        assert not batch.changes[OWN].lost
    finally:
        listener.close()


def test_naming_and_unnaming_a_namespace_is_reported() -> None:
    """Without a link between the namespaces: only the mount table changes."""
    mounts = MountMonitor()

    def changed() -> bool:
        return bool(select.select([mounts], [], [], 2.0)[0])

    try:
        while select.select([mounts], [], [], 0.05)[0]:
            pass
        with Lab() as others:
            others.namespace("other")
            assert changed()
            while select.select([mounts], [], [], 0.05)[0]:
                pass
        assert changed()
    finally:
        mounts.close()


_SUBSCRIBE = """
from linuxnet_sockets.agent.rtnetlink import RtnetlinkListener
from linuxnet_sockets.errors import SocketsError
from linuxnet_sockets.messages import describe
from linuxnet_sockets.sockets.needs import Need
try:
    RtnetlinkListener({Need.LINKS, Need.ROUTES}, all_namespaces=True)
except SocketsError as error:
    print(describe(error))
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(not deny_syscalls.SUPPORTED, reason="unknown numbers of system calls")
@pytest.mark.parametrize("kind", ["bind", "datagram-netlink"])
def test_refused_system_call_is_a_typed_error(kind: str) -> None:
    core = Path(network_events.__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(core)!r})\n{_SUBSCRIBE}"
    if core.joinpath("_core").exists():
        code = code.replace("linuxnet_sockets", "_core")
    done = subprocess.run(
        [sys.executable, deny_syscalls.__file__, kind, sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert "pyroute2" in done.stdout


def test_too_few_descriptors_are_a_typed_error_and_leave_none_open(pair: Pair) -> None:
    """Each limit lets another step of the constructor fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    facts = {Need.LINKS, Need.ROUTES}
    pair.client.run(RtnetlinkListener, facts).close()
    gc.collect()
    before = os.listdir("/proc/self/fd")
    # The limit is above the highest number that may be given to a new descriptor.
    free = [number for number in range(len(before) + 40) if str(number) not in before]
    failures = 0
    with warnings.catch_warnings():
        # pyroute2 leaves its own socket to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        for spare in range(20):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], hard))
            try:
                RtnetlinkListener(facts, all_namespaces=True).close()
            except (OSError, LibraryFailed):
                failures += 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) <= len(before)
    assert 2 <= failures < 20
