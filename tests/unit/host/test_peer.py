# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The peer of a unix socket, as the kernel and the group database know it."""

from __future__ import annotations

import errno
import os
import pwd
import socket
from collections.abc import Iterator

import pytest

from linuxnet_sockets.host import peer


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def test_peer_is_this_process(connection: socket.socket) -> None:
    found = peer.peer_of(connection)
    assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
    assert found.groups == {os.getegid(), *os.getgroups()}
    assert sorted(peer.peer_groups(connection)) == sorted(os.getgroups())


def _fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_groups_come_from_the_database_on_kernels_before_4_13(
    connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = pwd.getpwall()[0]
    monkeypatch.setattr(peer, "peer_groups", lambda _connection: _fail(errno.ENOPROTOOPT))
    monkeypatch.setattr(peer.pwd, "getpwuid", lambda _uid: entry)
    monkeypatch.setattr(peer.os, "getgrouplist", lambda name, gid: [gid, 951, len(name)])
    groups = peer.peer_of(connection).groups
    assert groups == {os.getegid(), 951, len(entry.pw_name)}


def test_user_that_the_database_lacks_has_only_the_primary_group(
    connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(peer, "peer_groups", lambda _connection: _fail(errno.ENOPROTOOPT))
    monkeypatch.setattr(peer.pwd, "getpwuid", unknown)
    assert peer.peer_of(connection).groups == {os.getegid()}


def test_other_errors_are_raised(
    connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "peer_groups", lambda _connection: _fail(errno.EBADF))
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        peer.peer_of(connection)
