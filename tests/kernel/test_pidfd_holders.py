# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets that several hold, that many hold, that are busy, and that nobody may borrow."""

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
from tests.kernel.asking import ask
from tests.kernel.borrowing import as_predicted, needs_pidfd, outcomes_of, run, with_borrow
from tests.kernel.conftest import StartOwner
from tests.kernel.holding import holder
from tests.support.topologies import states
from tests.support.topologies.topology import Pair

pytestmark = needs_pidfd


def test_socket_of_several_processes_is_one(
    pair: Pair, owner: StartOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    listens = states.listener(pair.server, pair.server4)
    first, second = owner(pair.client), owner(pair.client)
    cookie = first.connect(*listens.getsockname())
    first.ask("fork 3")
    first.give(second)
    accepted = pair.server.keep(listens.accept()[0])
    report = run(pair.client, {"remote_port": listens.getsockname()[1]}, check=True)
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
    report = run(pair.client, {"remote_port": listens.getsockname()[1]})
    assert outcomes_of(report) == {cookie: "destroyed"}
    assert disconnected == [cookie]
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)
    assert second.ask("recv") in ("ECONNRESET", "ENOTCONN")


def test_a_thousand_sockets_of_fifty_processes(
    pair: Pair, owner: StartOwner, capfd: pytest.CaptureFixture[str]
) -> None:
    listens = states.listener(pair.server, pair.server4)
    listens.listen(2048)
    port = listens.getsockname()[1]
    assert owner(pair.client).ask(f"spread {pair.server4} {port} 50 20") == "1000"
    began = time.monotonic()
    report = run(pair.client, {"remote_port": port})
    took = time.monotonic() - began
    assert report.counts == {"destroyed": 1000}
    with capfd.disabled():
        sys.stderr.write(f" [1,000 sockets of 50 processes: {took:.3f} s]")
    # How long it takes in an emulated machine (tests/kernel_matrix) says nothing about others.
    assert took < (20 if os.environ.get("LINUXNET_SOCKETS_EMULATED") else 1)


def test_busy_is_tried_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [states.established(pair) for _each in range(3)]
    busy = dict.fromkeys([held[0].cookie, held[1].cookie], 0)

    class Busy(BorrowedFd):
        """Refuses one for ever, and another twice."""

        def disconnect(self) -> int:
            cookie = self.cookie()
            if cookie in busy:
                busy[cookie] += 1
                if cookie == held[0].cookie or busy[cookie] <= 2:
                    return errno.EBUSY
            return super().disconnect()

    monkeypatch.setattr(pidfd, "BorrowedFd", Busy)
    began = time.monotonic()
    report = run(pair.client, {"remote_port": [each.remote[1] for each in held]})
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
def test_owner_that_may_not_be_traced(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As Yama or a security module has it: its descriptors can be seen, and not borrowed."""
    held = states.established(pair)
    assert held.target is not None

    def refuse(_descriptor: Descriptor) -> BorrowedFd:
        raise OSError(number, os.strerror(number))

    with_borrow(monkeypatch, refuse)
    report = as_predicted(pair.client, {"remote_port": held.remote[1]}, "not_permitted")
    assert report.failed
    held.target.sendall(b"x")


def test_without_the_right_to_trace(pair: Pair) -> None:
    with holder(pair) as process:
        for check in (True, False):
            answer = ask(
                {"remote_port": process.remote_port},
                [pair.client.name],
                protect={"ssh_sessions": False, "kernel": False},
                check=check,
                without=["sys_ptrace"],
                engine="pidfd",
            )
            assert answer["outcomes"] == {process.cookie: "not_permitted"}
            assert answer["rules"] == {process.cookie: "owner_unreadable"}
        assert process.alive()
