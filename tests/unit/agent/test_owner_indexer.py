# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index of owners that the agent keeps in idle time, against a search of all processes."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from linuxnet_sockets.agent import owner_indexer
from linuxnet_sockets.agent.owner_indexer import OwnerIndexer
from linuxnet_sockets.guard.holders import HolderSearch
from linuxnet_sockets.guard.owner_index import OwnerIndex
from linuxnet_sockets.host.processes import link_of

# Long enough for a first round here.
_ROUND_S = 9.0


class Clock:
    """A monotonic clock, and the CPU time: each reading takes a little."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0

    def monotonic(self) -> float:
        return self.now

    def cpu_s(self) -> float:
        self.cpu += 0.0001
        return self.cpu


class FakeProc:
    """A directory like /proc: processes and their descriptors."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def directory(self, pid: int) -> Path:
        return self.base / str(pid) / "fd"

    def start(self, pid: int) -> None:
        self.directory(pid).mkdir(parents=True)
        (self.base / str(pid) / "task" / str(pid)).mkdir(parents=True)

    def exit(self, pid: int) -> None:
        shutil.rmtree(self.base / str(pid))

    def open(self, pid: int, number: int, inode: int) -> None:
        (self.directory(pid) / str(number)).symlink_to(link_of(inode))

    def close(self, pid: int, number: int) -> None:
        (self.directory(pid) / str(number)).unlink()

    def pids(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self.base))

    def numbers(self, pid: int) -> list[int]:
        return sorted(int(name) for name in os.listdir(self.directory(pid)))

    def holders(self) -> dict[str, set[int]]:
        """All holders of each socket, by link target."""
        found: dict[str, set[int]] = {}
        for pid in self.pids():
            for number in self.numbers(pid):
                link = os.readlink(self.directory(pid) / str(number))
                found.setdefault(link, set()).add(pid)
        return found


class Indexed:
    """An index that is kept for a FakeProc."""

    def __init__(self, base: Path) -> None:
        self.proc = FakeProc(base)
        self.clock = Clock()
        self.index = OwnerIndex()
        self.indexer = OwnerIndexer(
            str(base), self.index, self.clock.monotonic, cpu_s=self.clock.cpu_s
        )

    def run(self, seconds: float) -> None:
        """Do the idle work of this time."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += max(0.001, self.indexer.step())

    def holder(self, inode: int) -> int | None:
        return self.index.holder(str(self.proc.base), link_of(inode))


@pytest.fixture
def indexed(tmp_path: Path) -> Indexed:
    return Indexed(tmp_path)


def test_sockets_are_known_before_anything_asks(indexed: Indexed) -> None:
    indexed.proc.start(10)
    indexed.proc.open(10, 3, 7)
    indexed.run(_ROUND_S)
    assert (indexed.holder(7), indexed.holder(8)) == (10, None)


def test_a_new_process_is_read_in_the_next_round(indexed: Indexed) -> None:
    indexed.run(_ROUND_S)
    indexed.proc.start(10)
    indexed.proc.open(10, 3, 7)
    indexed.run(60)
    assert indexed.holder(7) == 10


def test_a_table_with_the_same_number_of_descriptors_is_read_again(indexed: Indexed) -> None:
    indexed.proc.start(10)
    for number in range(40):
        indexed.proc.open(10, number, 100 + number)
    indexed.run(_ROUND_S)
    indexed.proc.close(10, 39)
    indexed.proc.open(10, 39, 7)
    indexed.run(300)
    assert indexed.holder(7) == 10


def test_a_large_table_is_read_in_chunks(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_indexer, "_CHUNK", 16)
    indexed.proc.start(10)
    for number in range(100):
        indexed.proc.open(10, number, 100 + number)
    indexed.run(_ROUND_S)
    assert all(indexed.holder(100 + number) == 10 for number in range(100))


def test_a_user_with_many_descriptors_does_not_keep_others_out(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_indexer, "_CHUNK", 8)
    monkeypatch.setattr(owner_indexer, "_USER_LIMIT", 32)
    monkeypatch.setattr(owner_indexer, "root_ids", lambda _proc: frozenset({-1}))
    indexed.proc.start(10)
    for number in range(100):
        indexed.proc.open(10, number, 100 + number)
    indexed.run(8)
    known = sum(indexed.holder(100 + number) == 10 for number in range(100))
    assert known == 32
    indexed.run(300)
    assert all(indexed.holder(100 + number) == 10 for number in range(100))


def test_the_share_of_a_core_is_bounded(indexed: Indexed) -> None:
    for pid in range(10, 60):
        indexed.proc.start(pid)
        for number in range(20):
            indexed.proc.open(pid, number, pid * 100 + number)
    indexed.run(200)
    began, cpu_s = indexed.clock.now, indexed.clock.cpu
    indexed.run(1000)
    assert indexed.clock.cpu - cpu_s <= 0.004 * (indexed.clock.now - began)


def test_an_unreadable_proc_is_no_error(tmp_path: Path) -> None:
    indexed = Indexed(tmp_path / "absent")
    indexed.run(100)
    assert indexed.holder(7) is None


def _change(proc: FakeProc, chance: random.Random) -> None:
    """Change something, as processes do."""
    pids = proc.pids()
    action = chance.choice(("start", "exit", "open", "open", "close", "pass", "move", "reuse"))
    if action == "start" or not pids:
        pid = chance.choice([number for number in range(2, 12) if number not in pids] or [0])
        if pid:
            proc.start(pid)
        return
    pid = chance.choice(pids)
    numbers = proc.numbers(pid)
    free = next(number for number in range(64) if number not in numbers)
    if action == "exit":
        proc.exit(pid)
    elif action == "open":
        proc.open(pid, free, chance.randrange(100, 112))
    elif numbers:
        number = chance.choice(numbers)
        link = os.readlink(proc.directory(pid) / str(number))
        inode = int(link[len("socket:[") : -1])
        receiver = chance.choice(pids)
        if action == "pass":
            # SCM_RIGHTS: the receiver holds it too.
            used = proc.numbers(receiver)
            proc.open(receiver, next(each for each in range(64) if each not in used), inode)
        elif action == "move":
            proc.close(pid, number)
            proc.open(pid, free, inode)
        else:
            proc.close(pid, number)
            if action == "reuse":
                proc.open(pid, number, chance.randrange(100, 112))


# Each of them is 40 histories.
@pytest.mark.parametrize("seed", range(3))
def test_random_histories_against_a_search_of_all_processes(tmp_path: Path, seed: int) -> None:
    """A holder from the index is a holder now, and a search with the index finds what one without
    it finds. So no socket is without protection that a search of all processes would protect."""
    chance = random.Random(seed)
    validated = 0
    for history in range(40):
        indexed = Indexed(tmp_path / str(history))
        indexed.proc.base.mkdir()
        for _change_number in range(30):
            _change(indexed.proc, chance)
            if chance.random() < 0.3:
                indexed.run(chance.choice((0.001, 400)))
            if chance.random() < 0.3:
                holders = indexed.proc.holders()
                users = {link_of(inode): 0 for inode in range(100, 112)}
                search = HolderSearch(str(indexed.proc.base), users, indexed.index)
                validated += len(search.holders)
                search.read(indexed.proc.pids())
                assert search.left == users.keys() - holders.keys()
                assert all(pid in holders[link] for link, pid in search.holders.items())
    assert validated > 60
