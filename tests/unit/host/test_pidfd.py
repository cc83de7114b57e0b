# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptors of other processes: found on a fake /proc, borrowed from this process."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxnet_sockets.host import pidfd
from linuxnet_sockets.host.pidfd import BorrowedFd, Descriptor, End
from linuxnet_sockets.host.processes import FdDirectory
from tests.unit.host.test_processes import process

needs_getfd = pytest.mark.skipif(
    not pidfd.available(), reason="this kernel has no pidfd_getfd (Linux 5.6 has)"
)


def test_find_descriptors_of_all_processes(tmp_path: Path) -> None:
    process(tmp_path, 10, [501, 502, 501])
    process(tmp_path, 11, [501])
    found = pidfd.find_descriptors(str(tmp_path), [501, 599, 0])
    assert found.descriptors == {501: [Descriptor(10, 3), Descriptor(10, 5), Descriptor(11, 3)]}
    assert found.readable


def test_unreadable_process_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process(tmp_path, 10, [501])
    process(tmp_path, 11, [501])

    def opened(proc: str, pid: int) -> FdDirectory:
        if pid == 10:
            raise PermissionError(errno.EACCES, "no")
        return FdDirectory(proc, pid)

    monkeypatch.setattr(pidfd, "FdDirectory", opened)
    found = pidfd.find_descriptors(str(tmp_path), [501])
    assert found.descriptors == {501: [Descriptor(11, 3)]}
    assert not found.readable


def test_sockets_without_inode_read_nothing() -> None:
    assert pidfd.find_descriptors("/nowhere", [0]) == ({}, True)


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    address = str(request.param)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        if ":" in address:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            sock.bind((address, 0))
        except OSError as error:
            pytest.skip(f"no such address here: {error}")
        sock.listen()
        yield sock


def end(sock: socket.socket, name: tuple[str, int]) -> End:
    return End(socket.inet_pton(sock.family, name[0]).ljust(16, b"\0"), name[1])


def borrow(sock: socket.socket) -> BorrowedFd:
    return pidfd.borrow_fd(Descriptor(os.getpid(), sock.fileno()))


@needs_getfd
def test_borrowed_descriptor_identifies_socket(listener: socket.socket) -> None:
    with socket.socket(listener.family) as client:
        with borrow(client) as held:
            assert held.remote(client.family) is None
            assert held.tcp_state() == 7
        client.connect(listener.getsockname())
        cookie = client.getsockopt(socket.SOL_SOCKET, 57, 8)
        with borrow(client) as held:
            assert held.cookie() == int.from_bytes(cookie, "little")
            assert held.local() == end(client, client.getsockname()[:2])
            assert held.remote(client.family) == end(client, client.getpeername()[:2])
            assert held.tcp_state() == 1
    with borrow(listener) as held:
        assert held.remote(listener.family) is None
        assert held.local() == end(listener, listener.getsockname()[:2])
        assert held.tcp_state() == 10


@needs_getfd
def test_disconnect_resets_both_ends(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        accepted, _address = listener.accept()
        with borrow(client) as held:
            assert held.disconnect() == 0
            assert held.tcp_state() == 7
        with accepted, pytest.raises(ConnectionResetError):
            accepted.recv(1)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@needs_getfd
def test_default_timeout_does_not_reach_the_owner(listener: socket.socket) -> None:
    socket.setdefaulttimeout(1)
    try:
        with borrow(listener) as held:
            held.cookie()
    finally:
        socket.setdefaulttimeout(None)
    assert os.get_blocking(listener.fileno())


@needs_getfd
def test_descriptors_are_closed(listener: socket.socket) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _attempt in range(10):
        with borrow(listener) as held:
            held.cookie()
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.EBADF))):
            pidfd.borrow_fd(Descriptor(os.getpid(), 1 << 20))
    assert len(os.listdir("/proc/self/fd")) == before


@needs_getfd
def test_borrow_from_ended_process_fails() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError):
        pidfd.borrow_fd(Descriptor(child, 0))


@needs_getfd
def test_borrowed_descriptor_without_socket() -> None:
    reads, writes = os.pipe()
    try:
        with pidfd.borrow_fd(Descriptor(os.getpid(), reads)) as held:
            for read in (held.cookie, held.local, held.tcp_state):
                with pytest.raises(OSError, match="non-socket"):
                    read()
            assert held.disconnect() == errno.ENOTSOCK
    finally:
        os.close(reads)
        os.close(writes)


def test_unavailable_without_pidfd_getfd(monkeypatch: pytest.MonkeyPatch) -> None:
    # A number that no architecture gives to a system call.
    monkeypatch.setattr(pidfd, "_PIDFD_GETFD", 9999)
    assert not pidfd.available()
