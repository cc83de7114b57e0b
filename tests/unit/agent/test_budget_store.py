# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The budget file: what an agent destroyed counts for the next one."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxnet_sockets.agent.budget_store import BudgetFile
from linuxnet_sockets.agent.paths import BUDGET
from linuxnet_sockets.policy.budget import (
    MAX_ENTRIES,
    MAX_KEY_COUNTS,
    MAX_KEYS,
    BudgetKey,
    BudgetSnapshot,
    KeyCount,
)

NOW_MS = 50_000
STORED = BudgetSnapshot(
    ((1_024, 3), (49_152, 2), (50_176, 1)),
    None,
    (
        KeyCount(BudgetKey("one", 1000), 49_152, 2),
        KeyCount(BudgetKey("one", None), 50_176, 1),
        KeyCount(BudgetKey("*", None), 50_176, 3),
    ),
)
# As many rules and users as are counted separately, each with the longest name.
LARGEST = BudgetSnapshot(
    tuple((10**13 - number, 10**9) for number in range(MAX_ENTRIES)),
    10**13,
    tuple(
        KeyCount(
            BudgetKey(f"{number % MAX_KEYS:-<64}", 2**32 - 2), 10**13 - number // MAX_KEYS, 10**9
        )
        for number in range(MAX_KEY_COUNTS)
    ),
)


def _read(directory: Path, boot_id: str = "boot") -> BudgetSnapshot:
    budget_file = BudgetFile(str(directory), boot_id)
    budget = budget_file.read(NOW_MS)
    budget_file.close()
    assert budget_file.corrupt_reason is None
    return budget


@pytest.fixture
def budget_file(tmp_path: Path) -> BudgetFile:
    made = BudgetFile(str(tmp_path), "boot")
    assert made.read(NOW_MS) == BudgetSnapshot()
    made.write(STORED)
    return made


@pytest.mark.parametrize("budget", [STORED, BudgetSnapshot(), BudgetSnapshot((), 7)])
def test_next_agent_reads_last_budget(
    tmp_path: Path, budget_file: BudgetFile, budget: BudgetSnapshot
) -> None:
    """The first agent does not close the file, as if it was killed."""
    assert _read(tmp_path) == STORED
    inode = (tmp_path / BUDGET).stat().st_ino
    budget_file.write(
        BudgetSnapshot(tuple((NOW_MS, number) for number in range(MAX_ENTRIES)), None)
    )
    budget_file.write(budget)
    assert _read(tmp_path) == budget
    # Written in place: no disk space needed, no temporary file left.
    assert (tmp_path / BUDGET).stat().st_ino == inode
    assert os.listdir(tmp_path) == [BUDGET]
    assert stat.S_IMODE((tmp_path / BUDGET).stat().st_mode) == 0o644


def test_reboot_resets_the_budget(tmp_path: Path, budget_file: BudgetFile) -> None:
    assert _read(tmp_path, "another boot") == BudgetSnapshot()
    budget_file.write(BudgetSnapshot((), 7))
    assert _read(tmp_path, "another boot") == BudgetSnapshot()


def test_largest_budget_fits(tmp_path: Path, budget_file: BudgetFile) -> None:
    budget_file.write(LARGEST)
    assert (tmp_path / BUDGET).stat().st_size == 1 << 20
    again = BudgetFile(str(tmp_path), "boot")
    assert again.read(10**13) == LARGEST
    again.close()


@pytest.mark.parametrize("pages", range(113))
def test_killed_while_writing_keeps_the_record_before(
    tmp_path: Path, budget_file: BudgetFile, pages: int
) -> None:
    """The kernel wrote the first pages of a record when the signal arrived."""
    before = LARGEST._replace(unknown_until_ms=1)
    after = LARGEST._replace(unknown_until_ms=2)
    budget_file.write(before)
    old = (tmp_path / BUDGET).read_bytes()
    budget_file.write(after)
    new = (tmp_path / BUDGET).read_bytes()
    half = len(new) // 2
    start = 0 if new[:half] != old[:half] else half
    cut = start + 4096 * pages
    (tmp_path / BUDGET).write_bytes(new[:cut] + old[cut:])
    again = BudgetFile(str(tmp_path), "boot")
    found = again.read(10**13)
    assert found == (after if new[:cut] + old[cut:] == new else before)
    # The next write replaces the incomplete record, not the other one.
    again.write(STORED)
    last = BudgetFile(str(tmp_path), "boot")
    assert last.read(10**13) == STORED
    last.close()
    again.close()


def _replaced_with(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def _with(**keys: object) -> Callable[[Path], object]:
    def change(file: Path) -> None:
        record = json.loads(file.read_text().splitlines()[0])
        text = json.dumps({**record, **keys})
        file.write_text(2 * f"{text:4095}\n")

    return change


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _link(file: Path) -> None:
    file.symlink_to(file.rename(file.with_name("elsewhere")))


GARBAGE: dict[str, Callable[[Path], object]] = {
    "empty": _replaced_with(b""),
    "zeros": _replaced_with(bytes(8192)),
    "no JSON": _replaced_with(b"x" * 8192),
    "deep": _replaced_with(b"[" * 8192),
    "digits": _replaced_with(b"9" * 8192),
    "truncated": lambda file: os.truncate(file, 100),
    "longer": lambda file: os.truncate(file, 9000),
    "far too long": lambda file: os.truncate(file, 1 << 40),
    "a list": _replaced_with(2 * b"[]".ljust(4096)),
    "empty mapping": _replaced_with(2 * b"{}".ljust(4096)),
    "incomplete": _with(end=7),
    "sequence is a string": _with(sequence="1", end="1"),
    "null boot id": _with(boot_id=None),
    "boot id is a number": _with(boot_id=1),
    "entries are a mapping": _with(entries={}, boot_id=[]),
    "entry of three": _with(entries=[[1, 2, 3]]),
    "fractional count": _with(entries=[[1, 2.5]]),
    "negative count": _with(entries=[[1, -5]]),
    "NaN": _with(entries=[[float("nan"), 1]]),
    "booleans": _with(entries=[[True, True]]),
    "future time": _with(entries=[[NOW_MS + 10**8, 1]]),
    "unknown until the far future": _with(unknown_until_ms=10**14),
    "unknown is a string": _with(unknown_until_ms="no"),
    "unknown rule": _with(by_rule_and_user=[[7, 1000, NOW_MS, 1]]),
    "negative rule": _with(by_rule_and_user=[[-1, 1000, NOW_MS, 1]]),
    "rule is a number": _with(rules=[1], by_rule_and_user=[[0, 1000, NOW_MS, 1]]),
    "rules are null": _with(rules=None),
    "uid is text": _with(by_rule_and_user=[[0, "root", NOW_MS, 1]]),
    "negative sockets": _with(by_rule_and_user=[[0, 0, NOW_MS, -1]]),
    "sockets of the future": _with(by_rule_and_user=[[0, 0, NOW_MS + 10**8, 1]]),
    "too many sockets": _with(by_rule_and_user=[[0, 0, 1, 1]] * (MAX_KEY_COUNTS + 1)),
    "named pipe": _fifo,
    "directory": _directory,
    "symlink": _link,
    "hard link": lambda file: os.link(file, file.with_name("other")),
}


@pytest.mark.parametrize("corrupt", GARBAGE.values(), ids=list(GARBAGE))
def test_corrupt_file_makes_the_budget_unknown(
    tmp_path: Path, budget_file: BudgetFile, corrupt: Callable[[Path], object]
) -> None:
    budget_file.close()
    corrupt(tmp_path / BUDGET)
    again = BudgetFile(str(tmp_path), "boot")
    assert again.read(NOW_MS) == BudgetSnapshot(unknown_until_ms=NOW_MS)
    assert BUDGET in str(again.corrupt_reason)
    again.close()


def test_file_of_another_user_is_not_trusted(
    tmp_path: Path, budget_file: BudgetFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget_file.close()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    again = BudgetFile(str(tmp_path), "boot")
    assert again.read(NOW_MS) == BudgetSnapshot(unknown_until_ms=NOW_MS)
    reason = str(again.corrupt_reason).replace(str(tmp_path), "")
    assert re.search(rf"\b{os.getuid()}\b", reason)


def test_write_replaces_an_untrusted_file(tmp_path: Path) -> None:
    file = tmp_path / BUDGET
    file.symlink_to(tmp_path / "passwords")
    (tmp_path / "passwords").write_text("secret")
    budget_file = BudgetFile(str(tmp_path), "boot")
    budget_file.write(budget_file.read(NOW_MS))
    budget_file.close()
    assert _read(tmp_path) == BudgetSnapshot(unknown_until_ms=NOW_MS)
    assert (tmp_path / "passwords").read_text() == "secret"


def test_write_recreates_a_removed_file(tmp_path: Path, budget_file: BudgetFile) -> None:
    (tmp_path / BUDGET).unlink()
    budget_file.write(STORED)
    assert _read(tmp_path) == STORED


def test_failed_write_raises_with_the_path(tmp_path: Path) -> None:
    (tmp_path / BUDGET).mkdir()
    budget_file = BudgetFile(str(tmp_path), "boot")
    budget = budget_file.read(NOW_MS)
    for _attempt in range(2):
        with pytest.raises(OSError, match=re.escape(str(tmp_path / BUDGET))) as failed:
            budget_file.write(budget)
        assert failed.value.errno == errno.EISDIR
        assert "restart" in str(failed.value)
    (tmp_path / BUDGET).rmdir()
    budget_file.write(budget)
    assert _read(tmp_path) == BudgetSnapshot(unknown_until_ms=NOW_MS)
