# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounded searches for holders, and what an index remembers of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxnet_sockets.guard import owner_index
from linuxnet_sockets.guard.holders import HolderSearch
from linuxnet_sockets.guard.owner_index import OwnerIndex, Quota
from linuxnet_sockets.host.processes import FdDirectory, link_of

ALICE, BOB = 1000, 1001
ROOT = 0


class Proc:
    """A procfs with processes of several users. reads: descriptors read since the last reset."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = base
        self.users: dict[int, int] = {}
        self.reads = 0
        proc = self

        def read(self: FdDirectory, *arguments: int) -> tuple[object, list[str]]:
            numbers, links = original(self, *arguments)
            proc.reads += len(links)
            return numbers, links

        original = FdDirectory.read
        monkeypatch.setattr(FdDirectory, "read", read)
        monkeypatch.setattr(Quota, "user", lambda _quota, pid: self.users[pid])
        monkeypatch.setattr(owner_index, "root_ids", lambda _proc: frozenset({ROOT}))

    def process(self, pid: int, user: int, descriptors: int, sockets: Mapping[int, int]) -> None:
        """A process with this many descriptors. sockets: inodes by number of the descriptor."""
        directory = self.base / str(pid) / "fd"
        directory.mkdir(parents=True)
        (self.base / str(pid) / "task" / str(pid)).mkdir(parents=True)
        self.users[pid] = user
        for number in range(descriptors):
            target = link_of(sockets[number]) if number in sockets else "/dev/null"
            (directory / str(number)).symlink_to(target)

    def search(self, index: OwnerIndex | None, sockets: Mapping[int, int]) -> HolderSearch:
        """A search for the holders of sockets. sockets: users by inode."""
        self.reads = 0
        users = {link_of(inode): user for inode, user in sockets.items()}
        search = HolderSearch(str(self.base), users, index)
        search.read(sorted(self.users))
        return search


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    monkeypatch.setattr(owner_index, "USER_QUOTA", 50)
    monkeypatch.setattr(owner_index, "ALL_USERS_QUOTA", 120)
    monkeypatch.setattr(owner_index, "QUOTA_PER_SOCKET", 1)
    return Proc(tmp_path, monkeypatch)


def test_a_user_has_a_quota(proc: Proc) -> None:
    proc.process(10, ALICE, 500, {})
    search = proc.search(OwnerIndex(), {7: ALICE})
    assert (search.left, search.not_reached) == ({link_of(7)}, 1)
    assert proc.reads < 50


def test_root_has_no_quota(proc: Proc) -> None:
    proc.process(10, ROOT, 500, {499: 7})
    search = proc.search(OwnerIndex(), {7: ALICE})
    assert (search.holders, search.not_reached) == ({link_of(7): 10}, 0)


def test_without_an_index_everything_is_read(proc: Proc) -> None:
    proc.process(10, ALICE, 500, {499: 7})
    assert proc.search(None, {7: ALICE}).holders == {link_of(7): 10}


def test_users_do_not_take_the_quota_of_others(proc: Proc) -> None:
    proc.process(10, ALICE, 500, {})
    proc.process(20, BOB, 5, {4: 7})
    assert proc.search(OwnerIndex(), {7: BOB, 8: ALICE}).holders == {link_of(7): 20}


def test_many_users_do_not_take_the_quota_of_the_users_of_the_sockets(proc: Proc) -> None:
    for user in range(2000, 2010):
        proc.process(user, user, 60, {})
    proc.process(5000, BOB, 30, {29: 7})
    search = proc.search(OwnerIndex(), {7: BOB})
    assert search.holders == {link_of(7): 5000}
    search = proc.search(OwnerIndex(), {8: BOB})
    assert proc.reads <= 30 + 120
    assert search.not_reached > 5


def test_the_next_search_goes_on_where_the_last_one_stopped(proc: Proc) -> None:
    proc.process(10, ALICE, 200, {150: 7})
    proc.process(20, ALICE, 10, {9: 8})
    index = OwnerIndex()
    found: list[set[str]] = []
    for _search in range(8):
        search = proc.search(index, {7: ALICE, 8: ALICE})
        assert proc.reads < 100
        found.append(set(search.holders))
    assert found[0] == set()
    assert found[-1] == {link_of(7), link_of(8)}


def test_a_known_holder_costs_one_validation(proc: Proc) -> None:
    proc.process(10, ALICE, 40, {30: 7})
    index = OwnerIndex()
    proc.search(index, {7: ALICE})
    search = proc.search(index, {7: ALICE})
    assert (search.holders, proc.reads) == ({link_of(7): 10}, 0)


@pytest.mark.parametrize("target", [link_of(8), None])
def test_a_holder_that_closed_the_socket_is_forgotten(proc: Proc, target: str | None) -> None:
    proc.process(10, ALICE, 40, {30: 7})
    index = OwnerIndex()
    proc.search(index, {7: ALICE})
    descriptor = proc.base / "10" / "fd" / "30"
    descriptor.unlink()
    if target is not None:
        descriptor.symlink_to(target)
    assert index.holder(str(proc.base), link_of(7)) is None
    assert proc.search(index, {7: ALICE}).left == {link_of(7)}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_index, "_MAX_HOLDERS", 10)
    monkeypatch.setattr(owner_index, "_MAX_USERS", 10)
    index = OwnerIndex()
    for number in range(100):
        index.remember(link_of(number), number, 3)
        index.stopped_at(number, 1, 1)
    assert index.continue_at(0) == (0, 0)
    assert index.continue_at(99) == (1, 1)
    assert len(index._holders) == len(index._next) == 10


@given(
    tables=st.lists(st.integers(0, 120), min_size=1, max_size=6),
    place=st.tuples(st.integers(0, 5), st.integers(0, 119)),
)
@settings(max_examples=40, deadline=None)
def test_a_socket_is_found_in_a_bounded_number_of_searches(
    tmp_path_factory: pytest.TempPathFactory, tables: list[int], place: tuple[int, int]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(owner_index, "USER_QUOTA", 40)
        monkeypatch.setattr(owner_index, "QUOTA_PER_SOCKET", 1)
        proc = Proc(tmp_path_factory.mktemp("proc"), monkeypatch)
        process, number = place[0] % len(tables), place[1]
        for position, count in enumerate(tables):
            sockets = {number: 7} if position == process else {}
            proc.process(10 + position, ALICE, count, sockets)
        held = number < tables[process]
        index = OwnerIndex()
        found = [bool(proc.search(index, {7: ALICE}).holders) for _each in range(40)]
        assert found[-1] == held
        assert os.path.isdir(proc.base)
