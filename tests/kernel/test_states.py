# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Effect of both ways to abort a socket on the application and the peer, for each state."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable

import pytest

from linuxnet_sockets.errors import HandlerMissing
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.kernel.bpf_calls import BOTH_ENGINES, netlink_only
from tests.kernel.conftest import Diag
from tests.kernel.releases import may_xfail_stuck_orphan, xfail_time_wait
from tests.support.topologies import proc_net, states
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import Lab, Pair
from tests.support.topologies.waiting import until


@pytest.fixture(params=BOTH_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _error(operation: Callable[[], object]) -> int:
    """Run the operation, which must fail, and return its errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the caller compares the errno
        operation()
    assert caught.value.errno is not None
    return caught.value.errno


def _destroy(held: HeldSocket, diag: Diag) -> None:
    """Destroy the socket and check that it is gone."""
    sockets = diag(held.where)
    sock = sockets.of(held)
    assert sockets.destroy(sock) == [0]
    assert not sockets.alive(sock)


def _refused(held: HeldSocket, diag: Diag) -> None:
    """Try to destroy a socket that is no struct sock, which engine bpf leaves alone."""
    sockets = diag(held.where)
    sock = sockets.of(held)
    assert sockets.destroy(sock) == [errno.EOPNOTSUPP]
    assert sockets.of(held).state == sock.state


@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
@pytest.mark.parametrize("receives", [True, False], ids=["recv", "send"])
def test_established(pair: Pair, diag: Diag, v6: bool, receives: bool) -> None:
    held = states.established(pair, v6=v6)
    assert held.target is not None
    assert held.peer is not None
    target, peer = held.target, held.peer

    _destroy(held, diag)

    first = (lambda: target.recv(1)) if receives else (lambda: target.send(b"x"))
    assert _error(first) == errno.ECONNABORTED
    assert target.recv(1) == b""
    assert _error(lambda: target.send(b"x")) == errno.EPIPE
    assert _error(lambda: peer.recv(1)) == errno.ECONNRESET


def test_established_mapped(pair: Pair, diag: Diag) -> None:
    held = states.established(pair, mapped=True)
    assert held.target is not None
    assert held.peer is not None

    _destroy(held, diag)

    assert _error(lambda: held.target.recv(1)) == errno.ECONNABORTED
    assert _error(lambda: held.peer.recv(1)) == errno.ECONNRESET


def test_blocked_recv_fails(pair: Pair, diag: Diag) -> None:
    held = states.established(pair)
    assert held.target is not None
    blocked = held.where.start(held.target.recv, 1)
    time.sleep(0.05)
    assert not blocked.done()

    _destroy(held, diag)

    assert _error(lambda: blocked.result(timeout=5)) == errno.ECONNABORTED


def test_other_connection_unaffected(pair: Pair, diag: Diag) -> None:
    held, other = states.established(pair), states.established(pair)
    assert other.target is not None
    assert other.peer is not None

    _destroy(held, diag)

    other.target.sendall(b"ping")
    assert other.peer.recv(4) == b"ping"


@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_syn_sent_blocked_connect(pair: Pair, diag: Diag, v6: bool) -> None:
    address = pair.silent6 if v6 else pair.silent
    sock = pair.client.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(None)
    connecting = pair.client.start(sock.connect, (address, 7))
    sockets = diag(pair.client)
    (half,) = until(lambda: sockets.all(states=1 << states.SYN_SENT), "a socket in SYN_SENT")

    assert sockets.destroy(half) == [0]

    assert _error(lambda: connecting.result(timeout=5)) == errno.ECONNABORTED
    assert not sockets.alive(half)


def test_listen(pair: Pair, diag: Diag) -> None:
    held = states.listening(pair)
    assert held.target is not None
    held.target.setblocking(False)
    poll = select.poll()
    poll.register(held.target, select.POLLIN)
    assert poll.poll(0) == []

    _destroy(held, diag)

    # The descriptor stays ready: a daemon that retries accept() without a pause uses a full CPU.
    for _attempt in range(3):
        ((_descriptor, events),) = poll.poll(0)
        assert events == select.POLLIN | select.POLLERR | select.POLLHUP
        assert _error(held.target.accept) == errno.EINVAL


def test_destroyed_listener_stays_bound(pair: Pair, diag: Diag) -> None:
    """The dump may still list its cookie as a bound socket in CLOSE. It no longer listens."""
    held = states.listening(pair)
    sockets = diag(held.where)
    sock = sockets.of(held)

    assert sockets.destroy(sock) == [0]

    listed = [other for other in sockets.all() if other.cookie == sock.cookie]
    assert [other.state for other in listed] in ([], [states.CLOSE])
    assert sockets.destroy(sock) == [errno.ENOENT]


@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_new_syn_recv(pair: Pair, diag: Diag, engine: str, v6: bool) -> None:
    held = states.new_syn_recv(pair, v6=v6)
    (listening,) = held.others
    sockets = diag(held.where)
    sock = sockets.of(held)
    assert (sock.state, sock.uid, sock.inode) == (states.SYN_RECV, 0, 0)

    if engine == "bpf":
        _refused(held, diag)
        return
    assert sockets.destroy(sock) == [0]

    assert not sockets.alive(sock)
    # The kernel sends no reset: the client still considers itself connected.
    assert held.peer is not None
    held.peer.settimeout(0.1)
    with pytest.raises(TimeoutError):
        held.peer.recv(1)
    assert any(other.inode == _inode(listening) for other in sockets.all())


def _inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


@xfail_time_wait
@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_time_wait(pair: Pair, diag: Diag, engine: str, v6: bool) -> None:
    held = states.time_wait(pair, v6=v6)
    sockets = diag(held.where)
    sock = sockets.of(held)
    assert (sock.state, sock.uid, sock.inode, sock.timer) == (states.TIME_WAIT, 0, 0, 3)

    if engine == "bpf":
        _refused(held, diag)
        return
    assert sockets.destroy(sock) == [0]

    assert not sockets.alive(sock)
    assert not [line for line in proc_net.read(held.where) if line.local_port == held.local[1]]


@pytest.mark.parametrize(
    ("make", "state"),
    [
        pytest.param(states.fin_wait_1_orphan, states.FIN_WAIT1, marks=may_xfail_stuck_orphan),
        pytest.param(states.last_ack, states.LAST_ACK, marks=may_xfail_stuck_orphan),
        pytest.param(states.fin_wait_2_orphan, states.FIN_WAIT2, marks=xfail_time_wait),
    ],
)
def test_orphans(
    pair: Pair, diag: Diag, engine: str, make: Callable[[Pair], HeldSocket], state: int
) -> None:
    held = make(pair)
    sockets = diag(held.where)
    sock = sockets.of(held)
    assert (sock.state, sock.inode) == (state, 0)

    if engine == "bpf" and sock.timer == 3:
        _refused(held, diag)
        return
    assert sockets.destroy(sock) == [0]

    assert not sockets.alive(sock)


def test_orphan_uid(pair: Pair, diag: Diag) -> None:
    """Older kernels report UID 0 for an orphan. The record must not contain it."""
    held = states.zero_window(pair)
    assert held.target is not None
    try:
        os.fchown(held.target.fileno(), 1234, -1)
    except OSError as error:
        pytest.skip(f"fchown() of a socket to another user fails: {error}")
    held.target.close()
    states.wait_for_state(held.where, states.FIN_WAIT1, held.local, held.remote[1])
    sock = diag(held.where).of(held)
    (namespace,) = namespaces.resolve([held.where.name])
    with NamespaceSession(Host(), namespace) as session:
        assert Socket(sock, session.snapshot()).uid in (1234, None)


@may_xfail_stuck_orphan
def test_orphan_resets_peer(pair: Pair, diag: Diag) -> None:
    held = states.fin_wait_1_orphan(pair)
    assert held.peer is not None
    peer = held.peer

    _destroy(held, diag)

    def drained() -> bool:
        while peer.recv(65536):
            pass
        return True

    assert _error(drained) == errno.ECONNRESET


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (states.fin_wait_2, states.FIN_WAIT2),
        (states.close_wait, states.CLOSE_WAIT),
        (states.closing, states.CLOSING),
        (states.zero_window, states.ESTABLISHED),
    ],
)
def test_owned_sockets_in_other_states(
    pair: Pair, diag: Diag, make: Callable[[Pair], HeldSocket], state: int
) -> None:
    held = make(pair)
    sockets = diag(held.where)
    sock = sockets.of(held)
    assert sock.state == state
    assert sock.inode == _inode(held.target)  # type: ignore[arg-type]

    _destroy(held, diag)

    ends = (held.local[1], held.remote[1])
    listed = [(line.local_port, line.remote_port) for line in proc_net.read(held.where)]
    assert ends not in listed


def test_zero_window_blocked_send_fails(pair: Pair, diag: Diag) -> None:
    held = states.zero_window(pair)
    assert held.target is not None
    blocked = held.where.start(held.target.send, b"x")
    time.sleep(0.05)
    assert not blocked.done()

    _destroy(held, diag)

    assert _error(lambda: blocked.result(timeout=5)) in (errno.ECONNABORTED, errno.EPIPE)


@netlink_only
def test_mptcp_cannot_be_destroyed(pair: Pair, diag: Diag) -> None:
    try:
        held = states.mptcp(pair)
    except OSError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")
    assert held.target is not None
    assert held.peer is not None
    sockets = diag(held.where)
    msk = sockets.of(held, "mptcp")

    assert sockets.destroy(msk) == [errno.EOPNOTSUPP]

    (subflow,) = [sock for sock in sockets.all("tcp") if sock.sport == msk.sport]
    assert subflow.cookie != msk.cookie
    assert sockets.destroy(subflow) == [0]
    assert sockets.alive(msk)
    assert sockets.of(held, "mptcp").state == states.ESTABLISHED


@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_udp_explicit_port_disconnected(pair: Pair, diag: Diag, v6: bool) -> None:
    held = states.udp_explicit(pair, v6=v6)
    assert held.target is not None
    assert held.peer is not None
    sockets = diag(held.where)
    sock = sockets.of(held, "udp")
    assert (sock.state, sock.dport) == (states.ESTABLISHED, held.remote[1])

    assert sockets.destroy(sock) == [0]

    after = sockets.of(held, "udp")
    assert (after.cookie, after.sport) == (sock.cookie, sock.sport)
    # The dump of an IPv6 socket still contains the remote address: __udp_disconnect clears only the
    # port and the IPv4 address.
    assert (after.state, after.dport, any(after.dst)) == (states.CLOSE, 0, v6)
    (namespace,) = namespaces.resolve([held.where.name])
    with NamespaceSession(Host(), namespace) as session:
        snapshot = session.snapshot()
        assert Socket(sock, snapshot).has_remote
        assert not Socket(after, snapshot).has_remote
    assert _error(lambda: held.target.recv(1)) == errno.ECONNABORTED
    held.peer.sendto(b"x", held.local)
    assert held.target.recv(1) == b"x"


def test_udp_autobound_stops_receiving(pair: Pair, diag: Diag) -> None:
    held = states.udp_autobound(pair)
    assert held.target is not None
    assert held.peer is not None
    sockets = diag(held.where)
    sock = sockets.of(held, "udp")

    assert sockets.destroy(sock) == [0]

    assert not sockets.alive(sock)
    assert _error(lambda: held.target.recv(1)) == errno.ECONNABORTED
    with contextlib.suppress(ConnectionRefusedError):
        held.peer.sendto(b"x", held.local)
    held.target.settimeout(0.1)
    with pytest.raises(TimeoutError):
        held.target.recv(1)


def test_udp_unconnected_unchanged(pair: Pair, diag: Diag) -> None:
    held = states.udp_unconnected(pair)
    sockets = diag(held.where)
    sock = sockets.of(held, "udp")

    assert sockets.destroy(sock) == [0]

    assert sockets.of(held, "udp")._replace(attributes=b"") == sock._replace(attributes=b"")


@netlink_only
def test_udplite_cannot_be_destroyed(pair: Pair, diag: Diag) -> None:
    """The probe returns ENOENT because a handler exists, but the protocol has no diag_destroy."""
    try:
        held = states.udplite_connected(pair)
    except OSError as error:
        pytest.skip(f"this kernel has no UDP-Lite: {error}")
    sockets = diag(held.where)
    sock = sockets.of(held, "udplite")

    assert inet_diag.probe_destroy(sockets.connection, "udplite", socket.AF_INET) == errno.ENOENT
    assert sockets.destroy(sock) == [errno.EOPNOTSUPP]

    assert sockets.of(held, "udplite") == sock


@netlink_only
def test_udp_reuseport_never_converges(pair: Pair, diag: Diag) -> None:
    group = states.reuseport(pair.server, pair.server4, socket.SOCK_DGRAM, 4)
    cookies = {states.cookie_of(sock) for sock in group}
    sockets = diag(pair.server)
    for _pass in range(3):
        found = [sock for sock in sockets.all("udp") if sock.cookie in cookies]
        assert len(found) == 4
        assert sorted(sockets.destroy(*found)) == [0, errno.ENOENT, errno.ENOENT, errno.ENOENT]


@netlink_only
def test_tcp_reuseport_listeners_need_several_passes(lab: Lab, diag: Diag) -> None:
    """The number of passes depends on a hash seed of the namespace. Measured: 1 to 9 for 16."""
    passes: list[int] = []
    for role in ("a", "b", "c", "d"):
        where = lab.namespace(role)
        group = states.reuseport(where, "127.0.0.1", socket.SOCK_STREAM, 16)
        cookies = {states.cookie_of(sock) for sock in group}
        sockets = diag(where)
        passes.append(0)
        while found := sockets.all(states=1 << states.LISTEN):
            assert {sock.cookie for sock in found} <= cookies
            errors = sockets.destroy(*found)
            assert 0 in errors
            assert set(errors) <= {0, errno.ENOENT}
            passes[-1] += 1
    assert 1 < max(passes) <= 16


def test_bound_inactive_is_not_found(pair: Pair, diag: Diag) -> None:
    held = states.bound_inactive(pair)
    sockets = diag(held.where)
    found = [sock for sock in sockets.all() if sock.cookie == held.cookie]
    if not found:
        pytest.skip("this kernel does not list bound-inactive sockets (Linux 6.8 does)")

    assert found[0].state == states.CLOSE
    assert sockets.destroy(found[0]) == [errno.ENOENT]
    assert held.target is not None
    held.target.listen(1)


@netlink_only
def test_raw(pair: Pair, diag: Diag) -> None:
    held = states.raw(pair)
    sockets = diag(held.where)
    try:
        (sock,) = [sock for sock in sockets.all("raw") if sock.cookie == held.cookie]
    except HandlerMissing:
        pytest.skip("this kernel has no diag handler for raw sockets (CONFIG_INET_RAW_DIAG)")
    assert sock.sport == socket.IPPROTO_ICMP

    assert sockets.destroy(sock) == [0]

    assert held.target is not None
    assert _error(lambda: held.target.recv(1)) == errno.ECONNABORTED
