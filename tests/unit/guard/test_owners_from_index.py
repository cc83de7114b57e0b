# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard with an index of owners protects what it protects with a search of all processes."""

from __future__ import annotations

import random
from itertools import count
from pathlib import Path

import pytest

from linuxnet_sockets.agent.owner_indexer import OwnerIndexer
from linuxnet_sockets.guard.holders import load_one_owner
from linuxnet_sockets.guard.owner_index import OwnerIndex
from linuxnet_sockets.host.processes import link_of
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_machine import FakeMachine, connection

_PORT = 40_000


def rules(machine: FakeMachine, index: OwnerIndex | None) -> dict[int, str | None]:
    """The rule that protects each socket, by inode. None: all processes are read."""
    guard = machine.guard()
    with NamespaceSession(machine.host, machine.namespace) as session:
        snapshot = session.snapshot()
        sockets = [
            Socket(message, snapshot)
            for message in inet_diag.dump(session.diag, "tcp", 2, extensions=guard.extensions)
        ]
        if index is not None:
            users = {sock.message.inode: sock.message.uid for sock in sockets}
            load_one_owner(snapshot, users, index)
        reasons = guard.evaluator(snapshot).evaluate(sockets)
        return {
            sock.message.inode: None if reason is None else reason.rule
            for sock, reason in zip(sockets, reasons)
        }


def indexed(machine: FakeMachine) -> OwnerIndex:
    """An index after the first round."""
    index = OwnerIndex()
    OwnerIndexer(str(machine.proc), index, lambda: 0.0, cpu_s=lambda: 0.0).step()
    return index


def test_a_known_holder_does_not_hide_ssh(machine: FakeMachine) -> None:
    """The index knows the process that shares the socket with sshd, and not sshd."""
    sock = machine.add(connection(), holder=500)
    index = indexed(machine)
    assert index.holder(str(machine.proc), link_of(sock.inode)) == 500
    assert rules(machine, index) == {sock.inode: None}
    machine.process(600, program="/usr/sbin/sshd")
    machine.hold(600, sock)
    assert rules(machine, index) == {sock.inode: "ssh_sessions"}


def test_a_known_holder_does_not_hide_an_ancestor(machine: FakeMachine) -> None:
    sock = machine.add(connection(), holder=500)
    index = indexed(machine)
    machine.hold(1, sock)
    assert rules(machine, index) == {sock.inode: "control_connection"}


def test_a_socket_without_a_holder_stays_protected(machine: FakeMachine) -> None:
    sock = machine.add(connection(), holder=500)
    index = indexed(machine)
    for entry in (machine.proc / "500" / "fd").iterdir():
        entry.unlink()
    assert rules(machine, index) == {sock.inode: "kernel"}


@pytest.mark.parametrize("seed", range(3))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    """Processes receive and close descriptors, run other programs and end; the index is older."""
    chance = random.Random(seed)
    protected = unprotected = 0
    for history in range(10):
        machine = FakeMachine(tmp_path / str(history))
        sockets = [
            machine.add(connection(local_port=_PORT + number), holder=None) for number in range(6)
        ]
        index = OwnerIndex()
        indexer = OwnerIndexer(
            str(machine.proc), index, count(0.0, 5.0).__next__, cpu_s=count(0.0, 0.001).__next__
        )
        for _change_number in range(20):
            _change(machine, chance, sockets)
            if chance.random() < 0.3:
                # A part of the index is from before the next changes, and a part from after them.
                indexer.step()
            if chance.random() < 0.2:
                index = indexed(machine)
            if chance.random() < 0.4:
                expected = rules(machine, None)
                assert rules(machine, index) == expected
                protected += sum(rule is not None for rule in expected.values())
                unprotected += sum(rule is None for rule in expected.values())
    assert min(protected, unprotected) > 20


def _change(machine: FakeMachine, chance: random.Random, sockets: list[FakeSocket]) -> None:
    pids = [600, 601, 602, 603]
    pid = chance.choice(pids)
    base = machine.proc / str(pid)
    if not base.exists():
        name = chance.choice(("/usr/sbin/sshd", "/usr/bin/app", "/usr/bin/app"))
        machine.process(pid, program=name)
        return
    action = chance.choice(("open", "open", "open", "close", "exec", "exit"))
    descriptors = sorted((base / "fd").iterdir())
    if action == "open":
        free = next(number for number in range(99) if not (base / "fd" / str(number)).is_symlink())
        link = link_of(chance.choice(sockets).inode)
        (base / "fd" / str(free)).symlink_to(link)
    elif action == "close" and descriptors:
        chance.choice(descriptors).unlink()
    elif action == "exec":
        (base / "exe").unlink()
        (base / "exe").symlink_to(chance.choice(("/usr/sbin/sshd", "/usr/bin/app")))
    elif action == "exit":
        base.rename(machine.proc.parent / f"ended-{pid}-{chance.random()}")
