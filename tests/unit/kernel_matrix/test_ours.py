# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose clock and power the tests may touch: that of a guest, and of nobody in doubt."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kernel_matrix import ours
from tests.support import guest

_GUEST = Path(ours.__file__).parent / "guest"
# Not a new one each time: it is part of the names of tests.
WORD = "0123456789abcdef" * 2
_MOUNTS = "rootfs / rootfs rw,size=1k 0 0\nproc /proc proc rw 0 0\n"


def _root(folder: Path, word: str | None, told: str, mounts: str = _MOUNTS) -> Path:
    (folder / "proc").mkdir()
    (folder / "proc" / "cmdline").write_text(f"console=ttyS0 quiet {told}\n")
    (folder / "proc" / "mounts").write_text(mounts)
    if word is not None:
        (folder / ours.FILE).write_text(word)
    return folder


def test_a_guest_is_ours(tmp_path: Path) -> None:
    root = _root(tmp_path, WORD, ours.command_line(WORD, 2))
    assert ours.not_ours(root) is None
    assert ours.start(root) == 2


def test_each_guest_has_a_word_of_its_own(tmp_path: Path) -> None:
    one, other = ours.new_word(), ours.new_word()
    assert one != other
    assert ours.not_ours(_root(tmp_path, one, ours.command_line(one, 1))) is None


@pytest.mark.parametrize(
    ("word", "told", "mounts"),
    [
        (None, ours.command_line(WORD, 1), _MOUNTS),
        (WORD, "", _MOUNTS),
        ("", "linuxnet_sockets.guest=", _MOUNTS),
        ("short", ours.command_line("short", 1), _MOUNTS),
        (WORD, ours.command_line(WORD[::-1], 1), _MOUNTS),
        (WORD, f"{ours.command_line(WORD, 1)} {ours.command_line(WORD, 1)}", _MOUNTS),
        (WORD, ours.command_line(WORD, 1), "/dev/vda / ext4 rw 0 0\n"),
        (WORD, ours.command_line(WORD, 1), _MOUNTS + "overlay / overlay rw 0 0\n"),
    ],
)
def test_in_doubt_it_is_not(tmp_path: Path, word: str | None, told: str, mounts: str) -> None:
    assert "no guest" in (ours.not_ours(_root(tmp_path, word, told, mounts)) or "")


def test_no_environment_makes_a_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINUXNET_SOCKETS_EMULATED", "yes")
    assert ours.not_ours(tmp_path) is not None


@pytest.fixture
def touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where everything lands that would reach this machine's clock or power if nobody asked."""
    (tmp_path / "power").mkdir()
    monkeypatch.setattr(guest, "_POWER", tmp_path / "power")
    monkeypatch.setattr(guest, "_ALARM", tmp_path / "alarm")
    monkeypatch.setattr(time, "clock_settime", lambda *_told: (tmp_path / "clock").touch())
    return tmp_path


@pytest.mark.skipif(ours.not_ours() is None, reason="this is a guest")
def test_here_nobody_sets_the_clock_or_sends_the_machine_to_sleep(touched: Path) -> None:
    with pytest.raises(guest.NotOursError):
        guest.step(0)
    with pytest.raises(guest.NotOursError), guest.clock_set_right():
        pass
    with pytest.raises(guest.NotOursError):
        guest.sleep(1)
    assert [each.relative_to(touched).as_posix() for each in touched.rglob("*")] == ["power"]


@pytest.mark.skipif(ours.not_ours() is None, reason="this is a guest")
@pytest.mark.parametrize("program", ["run.py", "off.py"])
def test_here_a_guests_programs_do_nothing(tmp_path: Path, program: str) -> None:
    """They switch off, in the end. In namespaces of their own, where they have no right to."""
    confined = ["unshare", "--user", "--pid", "--fork"]
    if subprocess.run([*confined, "true"], capture_output=True, check=False).returncode:
        pytest.skip("there are no user namespaces here to try it in")
    done = subprocess.run(
        [*confined, sys.executable, str(_GUEST / program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "tools/test-kernels" in done.stderr
