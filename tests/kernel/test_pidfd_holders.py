# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptors shared by processes, many sockets, busy sockets and denied borrowing."""

from __future__ import annotations

import errno
import os
import sys
import time

import pytest

from linuxnet_sockets.host import namespaces, pidfd
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.pidfd import BorrowedFd, Descriptor
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.kernel.conftest import StartOwner
from tests.kernel.destroy_subprocess import destroy_in_subprocess
from tests.kernel.holder import holder
from tests.kernel.pidfd_calls import check_then_run, needs_pidfd, outcomes_of, replace_borrow, run
from tests.support.topologies import states
from tests.support.topologies.topology import Pair

pytestmark = needs_pidfd


def test_shared_socket_disconnected_once(
    pair: Pair, owner: StartOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = states.listener(pair.server, pair.server4)
    first, second = owner(pair.client), owner(pair.client)
    cookie = first.connect(*listening.getsockname())
    first.ask("fork 3")
    first.share(second)
    accepted = pair.server.close_at_end(listening.accept()[0])
    report = run(pair.client, {"remote_port": listening.getsockname()[1]}, check=True)
    with NamespaceSession(Host(), *namespaces.resolve([pair.client.name])) as session:
        (result,) = report.results
        inode = result.socket.inode
        held = pidfd.find_descriptors(session.host.proc, [inode]).descriptors[inode]
    assert len({descriptor.pid for descriptor in held}) == 5

    disconnected: list[int] = []

    class Counted(BorrowedFd):
        def disconnect(self) -> int:
            disconnected.append(self.cookie())
            return super().disconnect()

    monkeypatch.setattr(pidfd, "BorrowedFd", Counted)
    report = run(pair.client, {"remote_port": listening.getsockname()[1]})
    assert outcomes_of(report) == {cookie: "destroyed"}
    assert disconnected == [cookie]
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)
    assert second.ask("recv") in ("ECONNRESET", "ENOTCONN")


def test_thousand_sockets_of_fifty_processes(
    pair: Pair, owner: StartOwner, capfd: pytest.CaptureFixture[str]
) -> None:
    listening = states.listener(pair.server, pair.server4)
    listening.listen(2048)
    port = listening.getsockname()[1]
    assert owner(pair.client).ask(f"spread {pair.server4} {port} 50 20") == "1000"
    began = time.monotonic()
    report = run(pair.client, {"remote_port": port})
    elapsed = time.monotonic() - began
    assert report.counts == {"destroyed": 1000}
    with capfd.disabled():
        sys.stderr.write(f" [1,000 sockets of 50 processes: {elapsed:.3f} s]")
    # The limit does not apply to the emulated guests of tests/kernel_matrix.
    assert elapsed < (20 if os.environ.get("LINUXNET_SOCKETS_EMULATED") else 1)


def test_busy_retried(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [states.established(pair) for _connection in range(3)]
    busy = dict.fromkeys([held[0].cookie, held[1].cookie], 0)

    class Busy(BorrowedFd):
        """Returns EBUSY for one socket always, and for another twice."""

        def disconnect(self) -> int:
            cookie = self.cookie()
            if cookie in busy:
                busy[cookie] += 1
                if cookie == held[0].cookie or busy[cookie] <= 2:
                    return errno.EBUSY
            return super().disconnect()

    monkeypatch.setattr(pidfd, "BorrowedFd", Busy)
    began = time.monotonic()
    report = run(pair.client, {"remote_port": [connection.remote[1] for connection in held]})
    assert outcomes_of(report) == {
        held[0].cookie: "busy",
        held[1].cookie: "destroyed",
        held[2].cookie: "destroyed",
    }
    assert busy == {held[0].cookie: 6, held[1].cookie: 3}
    assert time.monotonic() - began < 2
    assert report.failed
    assert held[0].target is not None
    held[0].target.sendall(b"x")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_borrow_denied_not_permitted(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Yama or an LSM can deny pidfd_getfd(2) although the descriptors are visible."""
    held = states.established(pair)
    assert held.target is not None

    def refuse(_descriptor: Descriptor) -> BorrowedFd:
        raise OSError(number, os.strerror(number))

    replace_borrow(monkeypatch, refuse)
    report = check_then_run(pair.client, {"remote_port": held.remote[1]}, "not_permitted")
    assert report.failed
    held.target.sendall(b"x")


def test_without_cap_sys_ptrace_not_permitted(pair: Pair) -> None:
    with holder(pair) as process:
        for check in (True, False):
            result = destroy_in_subprocess(
                {"remote_port": process.remote_port},
                [pair.client.name],
                protect={"ssh_sessions": False, "kernel": False},
                check=check,
                without=["sys_ptrace"],
                engine="pidfd",
            )
            assert result["outcomes"] == {process.cookie: "not_permitted"}
            assert result["rules"] == {process.cookie: "owner_unreadable"}
        assert process.alive()
