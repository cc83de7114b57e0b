# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one agent destroyed, and the next one finds; in doubt it finds that it does not know."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxnet_sockets.agent.ledger import SPENT, Ledger
from linuxnet_sockets.policy.budget import MAX_ENTRIES, BudgetSnapshot

NOW_MS = 50_000
KEPT = BudgetSnapshot(((1_024, 3), (49_152, 2), (50_176, 1)), None)


def _read(directory: Path, boot_id: str = "boot") -> BudgetSnapshot:
    ledger = Ledger(str(directory), boot_id)
    kept = ledger.read(NOW_MS)
    ledger.close()
    assert ledger.trouble is None
    return kept


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(str(tmp_path), "boot")
    assert made.read(NOW_MS) == BudgetSnapshot()
    made.write(KEPT)
    return made


@pytest.mark.parametrize("kept", [KEPT, BudgetSnapshot(), BudgetSnapshot((), 7)])
def test_the_next_one_finds_what_was_written_last(
    tmp_path: Path, ledger: Ledger, kept: BudgetSnapshot
) -> None:
    """Without the first one having ended, as if it was killed."""
    assert _read(tmp_path) == KEPT
    inode = (tmp_path / SPENT).stat().st_ino
    ledger.write(BudgetSnapshot(tuple((NOW_MS, number) for number in range(MAX_ENTRIES)), None))
    ledger.write(kept)
    assert _read(tmp_path) == kept
    # In place: no room is asked for, and nothing is left beside it.
    assert (tmp_path / SPENT).stat().st_ino == inode
    assert os.listdir(tmp_path) == [SPENT]
    assert stat.S_IMODE((tmp_path / SPENT).stat().st_mode) == 0o644


def test_after_a_reboot_nothing_was_destroyed(tmp_path: Path, ledger: Ledger) -> None:
    assert _read(tmp_path, "another boot") == BudgetSnapshot()
    ledger.write(BudgetSnapshot((), 7))
    assert _read(tmp_path, "another boot") == BudgetSnapshot()


def test_the_most_that_there_can_be_fits(tmp_path: Path, ledger: Ledger) -> None:
    most = BudgetSnapshot(tuple((10**13 - number, 10**9) for number in range(MAX_ENTRIES)), 10**13)
    ledger.write(most)
    again = Ledger(str(tmp_path), "boot")
    assert again.read(10**13) == most
    again.close()


def _in_its_place(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def _changed(**keys: object) -> Callable[[Path], object]:
    def change(file: Path) -> None:
        text = json.dumps({**json.loads(file.read_text()), **keys})
        file.write_text(f"{text:4095}\n")

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
    "nothing": _in_its_place(b""),
    "zeros": _in_its_place(bytes(4096)),
    "no JSON": _in_its_place(b"x" * 4096),
    "deep": _in_its_place(b"[" * 4096),
    "digits": _in_its_place(b"9" * 4096),
    "half": lambda file: os.truncate(file, 100),
    "longer": lambda file: os.truncate(file, 5000),
    "a list": _in_its_place(b"[]".ljust(4096)),
    "no keys": _in_its_place(b"{}".ljust(4096)),
    "no boot": _changed(boot_id=None),
    "number of a boot": _changed(boot_id=1),
    "parts": _changed(entries={}, boot_id=[]),
    "a part of three": _changed(entries=[[1, 2, 3]]),
    "part of a part": _changed(entries=[[1, 2.5]]),
    "less than nothing": _changed(entries=[[1, -5]]),
    "not a number": _changed(entries=[[float("nan"), 1]]),
    "true": _changed(entries=[[True, True]]),
    "of the future": _changed(entries=[[NOW_MS + 10**8, 1]]),
    "unknown till doomsday": _changed(unknown_until_ms=10**14),
    "unknown": _changed(unknown_until_ms="no"),
    "named pipe": _fifo,
    "directory": _directory,
    "link": _link,
    "two names": lambda file: os.link(file, file.with_name("other")),
}


@pytest.mark.parametrize("spoil", GARBAGE.values(), ids=list(GARBAGE))
def test_what_cannot_be_believed_is_not_taken_for_nothing(
    tmp_path: Path, ledger: Ledger, spoil: Callable[[Path], object]
) -> None:
    ledger.close()
    spoil(tmp_path / SPENT)
    again = Ledger(str(tmp_path), "boot")
    assert again.read(NOW_MS) == BudgetSnapshot(unknown_until_ms=NOW_MS)
    assert SPENT in str(again.trouble)
    again.close()


def test_what_is_another_users_is_not_believed(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.close()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    again = Ledger(str(tmp_path), "boot")
    assert again.read(NOW_MS) == BudgetSnapshot(unknown_until_ms=NOW_MS)
    trouble = str(again.trouble).replace(str(tmp_path), "")
    assert re.search(rf"\b{os.getuid()}\b", trouble)


def test_another_one_takes_the_place_of_what_cannot_be_believed(tmp_path: Path) -> None:
    file = tmp_path / SPENT
    file.symlink_to(tmp_path / "passwords")
    (tmp_path / "passwords").write_text("secret")
    ledger = Ledger(str(tmp_path), "boot")
    ledger.write(ledger.read(NOW_MS))
    ledger.close()
    assert _read(tmp_path) == BudgetSnapshot(unknown_until_ms=NOW_MS)
    assert (tmp_path / "passwords").read_text() == "secret"


def test_one_that_was_removed_is_made_anew(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / SPENT).unlink()
    ledger.write(KEPT)
    assert _read(tmp_path) == KEPT


def test_where_it_cannot_be_written_that_is_said(tmp_path: Path) -> None:
    (tmp_path / SPENT).mkdir()
    ledger = Ledger(str(tmp_path), "boot")
    kept = ledger.read(NOW_MS)
    for _each in range(2):
        with pytest.raises(OSError, match=re.escape(str(tmp_path / SPENT))) as failed:
            ledger.write(kept)
        assert failed.value.errno == errno.EISDIR
        assert "restart" in str(failed.value)
    (tmp_path / SPENT).rmdir()
    ledger.write(kept)
    assert _read(tmp_path) == BudgetSnapshot(unknown_until_ms=NOW_MS)
