# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drains of real connections: what ends by itself is not touched, and what is left is told."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from pyroute2 import netns

from linuxnet_sockets import namespaces
from linuxnet_sockets.drain import pauses
from linuxnet_sockets.drain.drain import drain
from linuxnet_sockets.drain.options import DrainOrder
from linuxnet_sockets.drain.report import Report
from linuxnet_sockets.guard.options import Guard, parse_guard
from linuxnet_sockets.host import Host
from linuxnet_sockets.limits import MaxSockets
from linuxnet_sockets.plan import Order
from linuxnet_sockets.record import extensions
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.wire import netlink, notices
from tests.kernel.releases import release, stuck_orphan_may_stay
from tests.lab import proc_net, states
from tests.lab.states import Held, cookie_of
from tests.lab.topology import Lab, LabNamespace, Pair
from tests.lab.waiting import until

# The test holds the sockets itself, so its own and its ancestors' must not be spared.
OPEN = Guard(
    control_connection=False, ssh_sessions=False, loopback=False, listeners=False, kernel=False
)
_SIOCOUTQNSD = 0x894B  # include/uapi/linux/sockios.h
_TIOCOUTQ = 0x5411
_FIONREAD = 0x541B


def order_of(
    where: LabNamespace | Sequence[LabNamespace],
    match: Any,
    *,
    guard: Guard = OPEN,
    max_sockets: MaxSockets | None = None,
    pace_per_second: float | None = None,
    check: bool = False,
    **options: Any,
) -> DrainOrder:
    spaces = [where] if isinstance(where, LabNamespace) else where
    order = Order(
        parse_selector(match, names=Host(), role="destroy"),
        namespaces.resolve([each.name for each in spaces]),
        guard,
        max_sockets=max_sockets,
        pace_per_second=pace_per_second,
        check=check,
        extensions=extensions(()),
    )
    return DrainOrder(order, **options)


def run(where: LabNamespace | Sequence[LabNamespace], match: Any, **options: Any) -> Report:
    return drain(Host(), order_of(where, match, **options))


class Running:
    """A drain in a thread of its own; it has looked for the first time when this is there.

    Its grace is over when the test says so.
    """

    def __init__(self, threads: ThreadPoolExecutor, order: DrainOrder, **seams: Any) -> None:
        self.waits = 0
        self.opened = 0
        self._ahead = 0.0
        host = Host(**seams)
        listened, slept = host.wait_for_notices, host.sleep

        def wait_for_notices(sockets: Sequence[notices.Notices], seconds: float) -> bool:
            self.waits += 1
            return listened(sockets, seconds)

        def sleep(seconds: float) -> None:
            self.waits += 1
            slept(seconds)

        def open_netlink(namespace: namespaces.Namespace, protocol: int) -> netlink.NetlinkSocket:
            self.opened += protocol == netlink.NETLINK_SOCK_DIAG
            return namespaces.open_netlink(namespace, protocol)

        host = dataclasses.replace(
            host,
            open_netlink=open_netlink,
            wait_for_notices=wait_for_notices,
            sleep=sleep,
            monotonic=lambda: time.monotonic() + self._ahead,
        )
        self._report: Future[Report] = threads.submit(drain, host, order)
        until(lambda: self.waits or self._report.done(), "the drain waits")
        assert not self._report.done()

    @property
    def over(self) -> bool:
        return self._report.done()

    def looked(self) -> None:
        """It has looked once more since this was called: the look after that one has begun."""
        before = self.opened
        until(lambda: self.opened > before + 1, "another look")

    def last(self) -> Report:
        """What comes of it when its time is over now."""
        self._ahead = 1000.0
        return self.report()

    def report(self) -> Report:
        return self._report.result(timeout=30)


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    with ThreadPoolExecutor(2) as threads:
        yield lambda *arguments, seams=None, **options: Running(
            threads, order_of(*arguments, **options), **(seams or {})
        )


@pytest.fixture
def only_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that nothing woke would come after the test's time."""
    monkeypatch.setattr(pauses, "_LONGEST", 600.0)
    monkeypatch.setattr(pauses, "_GROWTH", 6000.0)


def close(held: Held) -> None:
    """Both ends, the target's first."""
    for sock in (held.target, held.peer):
        assert sock is not None
        sock.close()


def cookies(report: Report, outcome: str) -> set[int | None]:
    return {result.subject.cookie for result in report.results if result.outcome == outcome}


@pytest.mark.usefixtures("only_woken")
@pytest.mark.parametrize("v6", [False, True])
def test_notices_wake_it(pair: Pair, start: Start, v6: bool) -> None:
    held = [states.established(pair, v6=v6) for _each in range(3)]
    running = start(pair.client, {"state": "established"}, grace=300.0)
    for each in held:
        close(each)
    report = running.report()
    assert (report.progress.ended, report.matched, report.drained) == (3, 3, True)
    assert not report.changed
    assert report.elapsed < 20


@pytest.mark.usefixtures("only_woken")
def test_notices_of_udp_wake_it(pair: Pair, start: Start) -> None:
    held = states.udp_autobound(pair)
    running = start(pair.client, {"protocol": "udp", "state": "connected"}, grace=300.0)
    assert held.target is not None
    held.target.close()
    assert running.report().progress.ended == 1


def test_notices_are_those_of_their_namespace(pair: Pair) -> None:
    here, there = (namespaces.resolve([each.name])[0] for each in (pair.client, pair.server))
    listening = [namespaces.inside(each, notices.open_notices) for each in (here, there)]
    try:
        held = [states.established(pair), states.established(pair, v6=True)]
        assert not notices.wait(listening, 0.0)
        meant = {each.cookie for each in held}
        told: set[int] = set()
        for each in held:
            close(each)

        def heard() -> bool:
            told.update(listening[0].cookies() or ())
            return meant <= told

        until(heard, "notices of the sockets that were closed")
        assert meant.isdisjoint(listening[1].cookies() or ())
    finally:
        for each in listening:
            each.close()


def test_without_notices_it_looks_by_itself(pair: Pair, start: Start) -> None:
    def deaf(_namespace: namespaces.Namespace) -> notices.Notices:
        raise OSError(errno.EPERM, "not here")

    held = states.established(pair)
    running = start(pair.client, {"state": "established"}, seams={"open_notices": deaf})
    close(held)
    report = running.report()
    assert report.progress.ended == 1
    assert report.elapsed < 10


def test_a_reset_of_which_no_notice_comes_is_seen(pair: Pair, start: Start) -> None:
    """The application still holds its descriptor, so the socket is not destroyed."""
    held = states.established(pair)
    running = start(pair.client, {"state": "established"})
    assert held.peer is not None
    states.linger_reset(held.peer)
    held.peer.close()
    report = running.report()
    assert report.progress.ended == 1
    assert held.target is not None
    with pytest.raises(ConnectionResetError):
        held.target.recv(1)


def test_time_wait_does_not_stall_it(pair: Pair, start: Start) -> None:
    """ansible.builtin.wait_for waits for TIME_WAIT to pass, a minute for each connection."""
    old, held = states.time_wait(pair), states.established(pair)
    running = start(pair.client, {"state": "connected", "remote": pair.server4}, grace=20.0)
    close(held)
    report = running.report()
    assert (report.matched, report.progress.ended, report.counts) == (1, 1, {})
    assert report.elapsed < 15
    for each in (old, held):
        states.wait_for(pair.client, states.TIME_WAIT, each.local, each.remote[1])


def test_ipv6_that_is_off_does_not_blind_it(pair: Pair, start: Start) -> None:
    """ansible.builtin.wait_for sees no IPv4 connection of a host without IPv6."""
    for which in ("all", "default"):
        pair.client.sysctl(f"ipv6/conf/{which}/disable_ipv6", 1)
    held, mapped = states.established(pair), states.established(pair, mapped=True)
    running = start(pair.client, {"remote": pair.server4}, grace=20.0)
    close(held)
    assert not running.over
    close(mapped)
    assert running.report().progress.ended == 2


@pytest.mark.parametrize(
    "name", ["close-wait", "last-ack", "closing", "fin-wait-1", "fin-wait-2", "syn-sent"]
)
def test_what_is_closing_has_not_ended(pair: Pair, name: str) -> None:
    """ansible.builtin.wait_for takes CLOSE_WAIT, LAST_ACK and CLOSING for drained."""
    held = states.TCP_STATES[name](pair)
    match = {"local_port": held.local[1], "remote_port": held.remote[1]}
    report = run(held.where, match, grace=0.3, destroy=False)
    assert report.by_state == {name: 1}
    assert not report.drained
    assert not report.failed
    assert report.elapsed >= 0.3
    report = run(held.where, match, grace=0.0)
    if held.target is None and release() < (6, 11):
        # Such a kernel might make it immortal.
        assert report.counts == {"kernel_defect": 1}
        assert not report.drained
        return
    assert report.counts == {"destroyed": 1}
    assert report.drained
    # A second run finds nothing, and does not wait.
    report = run(held.where, match, grace=20.0)
    assert (report.matched, report.changed) == (0, False)
    assert report.elapsed < 5


def test_closed_by_its_application_and_not_by_the_peer(pair: Pair, start: Start) -> None:
    """It keeps its cookie when the kernel keeps no more of it than a timer."""
    held = states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, destroy=False)
    assert held.target is not None
    held.target.close()
    states.wait_for(pair.client, states.FIN_WAIT2, held.local, held.remote[1])
    running.looked()
    report = running.last()
    assert report.by_state == {"fin-wait-2": 1}
    assert report.progress.arrived == 0
    assert set(report.left) == {(pair.client.name, "tcp", held.cookie)}


def test_what_leaves_the_selector_is_still_waited_for(pair: Pair, start: Start) -> None:
    held = states.established(pair)
    running = start(pair.client, {"state": "established"})
    assert held.peer is not None
    assert held.target is not None
    held.peer.close()
    states.wait_for(pair.client, states.CLOSE_WAIT, held.local, held.remote[1])
    running.looked()
    report = running.last()
    assert report.progress.ended == 0
    assert cookies(report, "destroyed") == {held.cookie}
    (result,) = report.results
    assert result.subject.state == "close-wait"
    with pytest.raises(ConnectionAbortedError):
        held.target.send(b"x")


def test_each_is_destroyed_in_its_quiet_moment(pair: Pair, start: Start) -> None:
    quiet, unread, silent = (states.established(pair) for _each in range(3))
    for each in (quiet, unread):
        assert each.peer is not None
        each.peer.sendall(b"0123456789")
    assert quiet.target is not None
    assert quiet.peer is not None
    assert silent.peer is not None
    assert unread.target is not None
    # All that was sent arrives, also what was sent while it waited.
    running = start(pair.client, {"remote": pair.server4}, until="sent", settle=0.4)
    quiet.target.sendall(b"an answer")
    assert quiet.target.recv(100) == b"0123456789"

    def is_reset() -> bool:
        assert silent.peer is not None
        try:
            silent.peer.send(b"")
            return not silent.peer.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    until(is_reset, "the silent one is reset before the time is over")
    until(lambda: not _is_established(pair, quiet), "the other one is still as well")
    report = running.last()
    assert quiet.peer.recv(100) == b"an answer"
    with pytest.raises(ConnectionResetError):
        quiet.peer.recv(1)
    assert report.counts == {"destroyed": 3}
    assert report.progress.sent == 2
    marks = {cookie: mark for (_label, _protocol, cookie), mark in report.marks.items()}
    assert marks[unread.cookie].sent is False
    assert report.progress.lost == (0, 0, 10)
    assert not report.failed


def _is_established(pair: Pair, held: Held) -> bool:
    return any(
        (line.state, line.local_port) == (states.ESTABLISHED, held.local[1])
        for line in proc_net.read(pair.client)
    )


def test_reporting_alone_ends_when_all_is_still(pair: Pair) -> None:
    held = [states.established(pair) for _each in range(2)]
    report = run(
        pair.client,
        {"remote": pair.server4},
        until="sent",
        settle=0.3,
        grace=20.0,
        destroy=False,
    )
    assert {cookie for _label, _protocol, cookie in report.left} == {each.cookie for each in held}
    assert report.drained
    assert not report.changed
    assert report.elapsed < 10


def test_bytes_that_are_lost_are_those_of_the_ioctls(pair: Pair) -> None:
    """SIOCOUTQ counts what is not acknowledged, SIOCOUTQNSD what is not sent, FIONREAD unread."""
    held = states.zero_window(pair)
    assert held.target is not None
    assert held.peer is not None
    held.peer.sendall(bytes(1234))
    target = held.target
    until(lambda: _ioctl(target, _FIONREAD) == 1234, "the peer's bytes are there")
    unsent = _ioctl(target, _SIOCOUTQNSD)
    queued = _ioctl(target, _TIOCOUTQ)
    report = run(pair.client, {"remote": pair.server4}, grace=0.0)
    assert unsent > 0
    assert report.progress.lost == (unsent, queued - unsent, 1234)


@pytest.mark.parametrize("name", ["close-wait", "fin-wait-2"])
def test_a_fin_is_no_byte(pair: Pair, name: str) -> None:
    held = states.TCP_STATES[name](pair)
    report = run(held.where, {"state": name}, grace=0.0)
    ((result,), (mark,)) = report.results, report.marks.values()
    assert result.subject.recv_queue == (1 if name == "close-wait" else 0)
    assert mark.lost == (0, 0, 0)


@stuck_orphan_may_stay
def test_what_was_lost_is_what_the_peer_misses(pair: Pair) -> None:
    """A FIN waits behind the data, and counts for one byte of the send queue.

    Of what is not acknowledged some may have come: the peer has not said so yet.
    """
    client, accepted, _listens = states.connected(
        pair, server_options=states.SMALL, client_options=states.SMALL
    )
    written = states.fill(client, accepted)
    local, remote = client.getsockname(), client.getpeername()
    client.close()
    states.wait_for(pair.client, states.FIN_WAIT1, local, remote[1])
    report = run(pair.client, {"remote": pair.server4}, grace=0.0)
    assert report.counts == {"destroyed": 1}
    got = 0
    with contextlib.suppress(ConnectionResetError):
        while part := accepted.recv(1 << 20):
            got += len(part)
    lost = report.progress.lost
    assert lost.unsent > 0
    missed = written - got
    assert lost.unsent <= missed <= lost.unsent + lost.unacknowledged


def _ioctl(sock: socket.socket, request: int) -> int:
    (value,) = struct.unpack("=i", fcntl.ioctl(sock, request, bytes(4)))
    return int(value)


def test_newcomers_are_drained_too(pair: Pair, start: Start) -> None:
    first = states.established(pair)
    running = start(pair.client, {"remote": pair.server4})
    later = states.established(pair)
    close(first)
    running.looked()
    report = running.last()
    assert (report.progress.ended, report.progress.arrived, report.matched) == (1, 1, 2)
    assert cookies(report, "destroyed") == {later.cookie}
    (mark,) = report.marks.values()
    assert mark.arrived


def test_newcomers_are_left_alone(pair: Pair, start: Start) -> None:
    first = states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, arrivals="ignore")
    later = states.established(pair)
    running.looked()
    close(first)
    report = running.report()
    assert (report.progress.ended, report.progress.arrived, report.matched) == (1, 1, 1)
    assert report.drained
    assert not report.changed
    assert later.target is not None
    later.target.sendall(b"x")


def test_newcomers_end_it(pair: Pair, start: Start) -> None:
    first = states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, grace=20.0, arrivals="fail")
    later = states.established(pair)
    report = running.report()
    assert [subject.cookie for subject in report.refused] == [later.cookie]
    assert report.failed
    assert not report.changed
    assert report.elapsed < 10
    assert {cookie for _label, _protocol, cookie in report.left} == {first.cookie, later.cookie}
    for each in (first, later):
        assert each.target is not None
        each.target.sendall(b"x")


def test_what_is_protected_is_not_waited_for(pair: Pair) -> None:
    held, kept = states.established(pair), states.established(pair)
    guard = parse_guard(
        {
            **dict.fromkeys(("control_connection", "ssh_sessions", "kernel"), False),
            "selectors": [{"remote_port": kept.remote[1]}],
        },
        names=Host(),
        files=None,
    )
    report = run(pair.client, {"remote": pair.server4}, grace=0.2, guard=guard)
    assert report.counts == {"destroyed": 1, "protected": 1}
    assert cookies(report, "destroyed") == {held.cookie}
    report = run(pair.client, {"remote": pair.server4}, grace=20.0, guard=guard)
    assert report.counts == {"protected": 1}
    assert report.drained
    assert report.elapsed < 5
    assert kept.target is not None
    kept.target.sendall(b"x")


def test_too_many_are_refused_before_it_waits(pair: Pair) -> None:
    for _each in range(3):
        states.established(pair)
    limit = MaxSockets(number=2)
    report = run(pair.client, {"remote": pair.server4}, grace=20.0, max_sockets=limit)
    assert report.counts == {"limit": 3}
    assert report.excess == (3, limit, None)
    assert report.elapsed < 5


def test_newcomers_count_for_the_limit(pair: Pair, start: Start) -> None:
    states.established(pair)
    running = start(pair.client, {"remote": pair.server4}, max_sockets=MaxSockets(number=1))
    later = states.established(pair)
    running.looked()
    report = running.last()
    assert report.counts == {"limit": 2}
    assert later.target is not None
    later.target.sendall(b"x")


def test_udp_ends_when_it_has_no_remote_any_more(pair: Pair, start: Start) -> None:
    gone, other = states.udp_explicit(pair), states.udp_explicit(pair, v6=True)
    match = {"protocol": "udp", "state": "connected"}
    running = start(pair.client, match)
    for each in (gone, other):
        assert each.target is not None
        # AF_UNSPEC takes the remote away (connect(2)).
        _disconnect(each.target)
    report = running.report()
    assert (report.progress.ended, report.drained) == (2, True)
    stays = states.udp_explicit(pair)
    report = run(pair.client, match, grace=0.2)
    assert cookies(report, "disconnected") == {stays.cookie}
    assert report.drained
    assert report.marks[pair.client.name, "udp", stays.cookie or 0].lost is None


def _disconnect(sock: socket.socket) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    address = struct.pack("=H14x", socket.AF_UNSPEC)
    assert libc.connect(sock.fileno(), address, len(address)) == 0


def test_udp_that_is_quiet_is_sent(pair: Pair) -> None:
    states.udp_autobound(pair)
    match = {"protocol": "udp", "state": "connected"}
    report = run(pair.client, match, grace=20.0, until="sent", settle=0.3)
    assert report.counts == {"destroyed": 1}
    assert report.progress.sent == 1
    assert 0.3 <= report.elapsed < 10


def test_several_namespaces_of_which_one_goes(pair: Pair, lab: Lab, start: Start) -> None:
    """Nothing is left open in a namespace in which nothing is left."""
    here, there = states.established(pair), states.established_server(pair)
    assert there.where is pair.server
    match = {"any": [{"local_port": here.local[1]}, {"local_port": there.local[1]}]}
    third = lab.namespace("third")
    running = start([pair.client, third, pair.server], match, grace=20.0)
    close(here)
    third.close()
    close(there)
    report = running.report()
    assert report.progress.ended == 2
    assert report.drained


def test_a_namespace_without_its_name_is_the_same(pair: Pair, start: Start) -> None:
    """Deleting the name leaves processes in it, and their connections."""
    process = pair.client.spawn("sleep", "60")
    held = states.established(pair)
    running = start(pair.client, {"remote": pair.server4})
    netns.remove(pair.client.name)
    report = running.last()
    assert process.poll() is None
    assert cookies(report, "destroyed") == {held.cookie}


def test_check_mode_does_not_wait_and_names_them(pair: Pair) -> None:
    held = [states.established(pair) for _each in range(3)]
    for until_ in ("closed", "sent"):
        report = run(pair.client, {"remote": pair.server4}, grace=20.0, check=True, until=until_)
        assert cookies(report, "destroyed") == {each.cookie for each in held}
        assert report.elapsed < 5
    for each in held:
        assert each.target is not None
        each.target.sendall(b"x")
    report = run(pair.client, {"remote": pair.server4}, grace=0.0)
    assert cookies(report, "destroyed") == {each.cookie for each in held}


def test_pace_spreads_what_is_destroyed(pair: Pair) -> None:
    for _each in range(6):
        states.established(pair)
    report = run(pair.client, {"remote": pair.server4}, grace=0.0, pace_per_second=20.0)
    assert report.counts == {"destroyed": 6}
    assert report.elapsed >= 0.2


def test_of_many_only_those_are_reset_that_stay(pair: Pair, start: Start) -> None:
    """200 connections: 40 of health checks are left out, 100 end in time, 60 do not."""
    listens = states.listener(pair.server, pair.server4)
    checks = states.listener(pair.server, pair.server4)
    pairs: dict[str, list[tuple[socket.socket, socket.socket]]] = {}
    for name, count, where in (
        ("ends", 100, listens),
        ("stays", 60, listens),
        ("check", 40, checks),
    ):
        for _each in range(count):
            client = pair.client.socket()
            client.connect(where.getsockname())
            pairs.setdefault(name, []).append((client, pair.server.keep(where.accept()[0])))
    guard = parse_guard(
        {
            **dict.fromkeys(("control_connection", "ssh_sessions", "kernel"), False),
            "selectors": [{"local_port": checks.getsockname()[1]}],
        },
        names=Host(),
        files=None,
    )
    running = start(pair.server, {"local": pair.server4}, guard=guard)
    for client, accepted in pairs["ends"]:
        client.sendall(b"bye")
        client.close()
        assert accepted.recv(10) == b"bye"
        assert accepted.recv(10) == b""
        accepted.close()
    running.looked()
    report = running.last()
    assert report.progress.ended == 100
    assert report.counts == {"destroyed": 60, "protected": 40}
    assert report.matched == 200
    stays = {cookie_of(accepted) for _client, accepted in pairs["stays"]}
    assert cookies(report, "destroyed") == stays
    for client, _accepted in pairs["stays"]:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    for client, accepted in pairs["check"]:
        client.sendall(b"x")
        assert accepted.recv(1) == b"x"
