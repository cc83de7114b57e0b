# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errnos of socket diag on this kernel, and surprises of its netlink interface."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from linuxnet_sockets.errors import HandlerMissing, NetlinkError
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.netlink import attributes, bytecode, inet_diag
from linuxnet_sockets.netlink.connection import NETLINK_SOCK_DIAG
from tests.kernel.conftest import Diag
from tests.support.topologies import states
from tests.support.topologies.topology import Lab, Pair

_FAMILIES = [socket.AF_INET, socket.AF_INET6]
_NOCOOKIE = 0xFFFFFFFF_FFFFFFFF
_ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("family", _FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_probe_destroys_nothing(pair: Pair, diag: Diag, protocol: str, family: int) -> None:
    held = [states.listening(pair), states.listening(pair, v6=True)]
    wildcard = states.listener(pair.server, "0.0.0.0")
    sockets = diag(pair.server)
    before = {sock.cookie for sock in sockets.all(protocol)}
    assert protocol != "tcp" or before >= {target.cookie for target in held}

    assert inet_diag.probe_destroy(sockets.connection, protocol, family) == errno.ENOENT

    assert {sock.cookie for sock in sockets.all(protocol)} == before
    assert wildcard.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_wrong_cookie_is_enoent(pair: Pair, diag: Diag) -> None:
    held = states.established(pair)
    sockets = diag(held.where)
    sock = sockets.of(held)

    assert sockets.destroy(sock._replace(cookie=sock.cookie ^ 1)) == [errno.ENOENT]

    assert sockets.of(held).state == states.ESTABLISHED


def test_destroyed_socket_is_enoent(pair: Pair, diag: Diag) -> None:
    held = states.established(pair)
    sockets = diag(held.where)
    sock = sockets.of(held)
    assert sockets.destroy(sock) == [0]
    assert sockets.destroy(sock) == [errno.ENOENT]


@pytest.mark.parametrize("v6", [False, True], ids=["inet", "inet6"])
def test_stale_tuple_falls_back_to_listener_without_cookie(
    pair: Pair, diag: Diag, v6: bool
) -> None:
    held = states.established_server(pair, v6=v6)
    listens = held.others[0]
    sockets = diag(held.where)
    stale = sockets.of(held)
    assert sockets.destroy(stale) == [0]
    cookie = states.cookie_of(listens)

    # With its cookie, nothing is found.
    assert sockets.destroy(stale) == [errno.ENOENT]
    assert cookie in {sock.cookie for sock in sockets.all(states=1 << states.LISTEN)}

    # Without a cookie (INET_DIAG_NOCOOKIE), which the core never sends, the listener is found.
    assert sockets.destroy(stale._replace(cookie=_NOCOOKIE)) == [0]
    assert cookie not in {sock.cookie for sock in sockets.all(states=1 << states.LISTEN)}


def test_cookie_equals_so_cookie(pair: Pair, diag: Diag) -> None:
    held = states.established(pair)
    assert held.target is not None
    assert diag(held.where).of(held).cookie == states.cookie_of(held.target)


def test_destroy_ignores_states(pair: Pair, diag: Diag) -> None:
    """A socket is destroyed even if the request's states exclude it, so callers filter first."""
    held = states.established(pair)
    sockets = diag(held.where)
    payload = bytearray(inet_diag.destroy_request(sockets.of(held)))
    struct.pack_into("=I", payload, 4, 1 << states.LISTEN)

    answer = sockets.connection.execute("destroy", inet_diag.SOCK_DESTROY, [bytes(payload)])

    assert answer == [0]


_UNPRIVILEGED = """
import os, socket, sys
sys.path.insert(0, {root!r})
import tests.conftest
from linuxnet_sockets.netlink import attributes, bytecode, connection as netlink, inet_diag
from linuxnet_sockets.errors import NetlinkError
connection = netlink.Connection(netlink.open_netlink(netlink.NETLINK_SOCK_DIAG))
socks = inet_diag.dump(connection, "tcp", socket.AF_INET, 1 << 1)
assert socks, "no established socket here"
print("destroy", inet_diag.destroy(connection, socks))
print("wrong cookie", inet_diag.destroy(connection, [socks[0]._replace(cookie=1)]))
print("probe", inet_diag.probe_destroy(connection, "tcp", socket.AF_INET))
print("mark reported", inet_diag.MARK in attributes.parse(socks[0].attributes))
try:
    inet_diag.dump(connection, "tcp", socket.AF_INET, 0, 0, bytecode.mark(0, 0))
    print("mark filter", 0)
except NetlinkError as error:
    print("mark filter", error.errno)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"],
        ["unshare", "--user", "--map-root-user"],
    ],
    ids=["capability dropped", "root of another user namespace"],
)
def test_destroy_without_net_admin(pair: Pair, diag: Diag, words: list[str]) -> None:
    """EPERM comes only after the look-up. The probe works; marks are neither shown nor filtered."""
    held = states.established(pair)
    refused = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if refused.returncode:
        pytest.skip(f"{words[0]} cannot do it here: {refused.stderr.strip()}")
    script = _UNPRIVILEGED.format(root=str(_ROOT))

    printed = pair.client.output(*words, sys.executable, "-c", script)

    assert printed.splitlines() == [
        f"destroy [{errno.EPERM}]",
        f"wrong cookie [{errno.ENOENT}]",
        f"probe {errno.ENOENT}",
        "mark reported False",
        f"mark filter {errno.EPERM}",
    ]
    assert diag(held.where).of(held).state == states.ESTABLISHED


def test_mark_is_reported_to_privileged_caller(pair: Pair, diag: Diag) -> None:
    held = states.established(pair)
    assert held.target is not None
    held.target.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x1234)
    sockets = diag(held.where)

    found = attributes.parse(sockets.of(held).attributes)

    assert found[inet_diag.MARK] == struct.pack("=I", 0x1234)
    for value, expected in ((0x1230, 1), (0x1240, 0)):
        program = bytecode.mark(value, 0xFFF0)
        matched = inet_diag.dump(sockets.connection, "tcp", socket.AF_INET, 1 << 1, 0, program)
        assert len(matched) == expected


def test_dump_of_af_unspec_is_rejected(pair: Pair, diag: Diag) -> None:
    with pytest.raises(HandlerMissing):
        inet_diag.dump(diag(pair.client).connection, "tcp", socket.AF_UNSPEC)


def test_missing_handler_is_reported_in_done(pair: Pair, diag: Diag) -> None:
    """NLMSG_DONE carries the errno (SCTP or raw); the result is not an empty list."""
    connection = diag(pair.client).connection
    missing = 0
    for number in (1, socket.IPPROTO_SCTP, 255):
        payload = struct.pack("=BBBxI", socket.AF_INET, number, 0, inet_diag.ANY_STATE) + bytes(48)
        try:
            connection.dump("list", inet_diag.SOCK_DIAG_BY_FAMILY, payload, lambda *_args: None)
        except NetlinkError as error:
            assert error.errno == errno.ENOENT  # noqa: PT017 - handlers may be there
            missing += 1
        assert connection.execute("destroy", inet_diag.SOCK_DESTROY, [payload]) == [errno.ENOENT]
    # Nothing registers ICMP.
    assert missing >= 1


def test_ipv4_condition_matches_mapped_sockets(pair: Pair, diag: Diag) -> None:
    mapped = states.established(pair, mapped=True)
    states.established(pair, v6=True)
    connection = diag(mapped.where).connection
    server = socket.inet_aton(pair.server4)

    for prefix_length in (0, 8, 32):
        program = bytecode.dst_host(socket.AF_INET, prefix_length, server)
        found = inet_diag.dump(connection, "tcp", socket.AF_INET6, 1 << 1, 0, program)
        assert [each.cookie for each in found] == [mapped.cookie]


def test_filter_with_three_thousand_hosts(pair: Pair, diag: Diag) -> None:
    held, other = states.established(pair), states.established(pair)
    hosts = [
        bytecode.dst_host(socket.AF_INET, 32, bytes((10, 0, n >> 8, n & 255))) for n in range(3269)
    ]
    server = socket.inet_aton(pair.server4)
    hosts.append(bytecode.dst_host(socket.AF_INET, 32, server, held.remote[1]))
    program = bytecode.disjunction(hosts)
    assert len(program) == 65_396
    assert len(program) <= bytecode.MAX_LENGTH

    found = inet_diag.dump(diag(held.where).connection, "tcp", socket.AF_INET, 1 << 1, 0, program)

    assert [each.cookie for each in found] == [held.cookie]
    assert other.cookie != held.cookie


def test_replies_to_one_batch_match_requests(pair: Pair, diag: Diag) -> None:
    """More requests than a batch has, most of them stale: replies match their requests."""
    listens = states.listener(pair.server, pair.server4)
    clients = []
    for _each in range(40):
        client = pair.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.connect(listens.getsockname())
        clients.append(client)
    sockets = diag(pair.client)
    socks = sockets.all(states=1 << states.ESTABLISHED)
    assert len(socks) == 40
    wrong = [each._replace(cookie=0) for each in socks]
    mixed = [each for several in zip(wrong, socks, wrong, wrong, wrong) for each in several]

    answers = sockets.destroy(*mixed)

    assert answers == [errno.ENOENT, 0, errno.ENOENT, errno.ENOENT, errno.ENOENT] * 40
    assert sockets.all(states=1 << states.ESTABLISHED) == []


def test_udp_look_up_swaps_ends_and_destroy_does_not(pair: Pair, diag: Diag) -> None:
    held = states.udp_explicit(pair)
    sockets = diag(held.where)
    sock = sockets.of(held, "udp")
    turned = sock._replace(sport=sock.dport, dport=sock.sport, src=sock.dst, dst=sock.src)

    def one(of: inet_diag.DiagMessage) -> int:
        request = inet_diag.destroy_request(of)
        return sockets.connection.execute("look up", inet_diag.SOCK_DIAG_BY_FAMILY, [request])[0]

    assert (one(turned), one(sock)) == (0, errno.ENOENT)
    assert sockets.destroy(turned) == [errno.ENOENT]
    assert sockets.destroy(sock) == [0]


def test_open_netlink_does_not_move_caller(pair: Pair) -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    (namespace,) = namespaces.resolve([pair.client.name])
    namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG).close()
    assert os.stat("/proc/thread-self/ns/net").st_ino == before
    assert namespace.identity[1] == os.stat(pair.client.path).st_ino != before


def test_destroy_is_limited_to_namespace(lab: Lab, diag: Diag) -> None:
    views, cookies, ends = [], [], []
    for role in ("one", "two"):
        where = lab.namespace(role)
        listens = states.listener(where, "127.0.0.1", 7777)
        client = where.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.bind(("127.0.0.1", 8888))
        client.connect(("127.0.0.1", 7777))
        accepted = where.close_at_end(listens.accept()[0])
        ends.append((client, accepted))
        cookies.append(states.cookie_of(client))
        views.append(diag(where))
    (sock,) = [each for each in views[0].all() if each.cookie == cookies[0]]
    (same,) = [each for each in views[1].all() if each.cookie == cookies[1]]
    assert (sock.src, sock.sport, sock.dst, sock.dport) == (
        same.src,
        same.sport,
        same.dst,
        same.dport,
    )

    # Both namespaces have the tuple, one has the cookie.
    assert views[1].destroy(sock) == [errno.ENOENT]
    assert views[0].destroy(sock) == [0]

    client, accepted = ends[1]
    client.sendall(b"alive")
    assert accepted.recv(5) == b"alive"


def test_destroy_in_own_user_namespace() -> None:
    """The creator of a user namespace may destroy sockets in its network namespaces."""
    probe = ["unshare", "--user", "--map-root-user", "--net", "true"]
    refused = subprocess.run(probe, capture_output=True, text=True, check=False)
    if refused.returncode:
        pytest.skip(f"no user namespaces for this user: {refused.stderr.strip()}")
    script = f"""
import socket, subprocess, sys
sys.path.insert(0, {str(_ROOT)!r})
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
import tests.conftest
from linuxnet_sockets.netlink import connection as netlink, inet_diag
listens = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listens.getsockname())
connection = netlink.Connection(netlink.open_netlink(netlink.NETLINK_SOCK_DIAG))
port = client.getsockname()[1]
(sock,) = [s for s in inet_diag.dump(connection, "tcp", socket.AF_INET) if s.sport == port]
print(inet_diag.destroy(connection, [sock]))
"""
    done = subprocess.run(
        [*probe[:-1], sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("[0]\n", 0), done.stderr
