# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identification of a guest, required before tests set the clock or suspend the machine."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kernel_matrix import guest_token
from tests.support import guest

_GUEST = Path(guest_token.__file__).parent / "guest"
# Constant, because it is part of test ids.
TOKEN = "0123456789abcdef" * 2
_MOUNTS = "rootfs / rootfs rw,size=1k 0 0\nproc /proc proc rw 0 0\n"


def _root(folder: Path, token: str | None, value: str, mounts: str = _MOUNTS) -> Path:
    (folder / "proc").mkdir()
    (folder / "proc" / "cmdline").write_text(f"console=ttyS0 quiet {value}\n")
    (folder / "proc" / "mounts").write_text(mounts)
    if token is not None:
        (folder / guest_token.FILE).write_text(token)
    return folder


def test_guest_accepted(tmp_path: Path) -> None:
    root = _root(tmp_path, TOKEN, guest_token.command_line(TOKEN, 2))
    assert guest_token.not_a_guest(root) is None
    assert guest_token.start(root) == 2


def test_tokens_are_unique(tmp_path: Path) -> None:
    one, other = guest_token.new_token(), guest_token.new_token()
    assert one != other
    assert guest_token.not_a_guest(_root(tmp_path, one, guest_token.command_line(one, 1))) is None


@pytest.mark.parametrize(
    ("token", "value", "mounts"),
    [
        (None, guest_token.command_line(TOKEN, 1), _MOUNTS),
        (TOKEN, "", _MOUNTS),
        ("", "linuxnet_sockets.guest=", _MOUNTS),
        ("short", guest_token.command_line("short", 1), _MOUNTS),
        (TOKEN, guest_token.command_line(TOKEN[::-1], 1), _MOUNTS),
        (
            TOKEN,
            f"{guest_token.command_line(TOKEN, 1)} {guest_token.command_line(TOKEN, 1)}",
            _MOUNTS,
        ),
        (TOKEN, guest_token.command_line(TOKEN, 1), "/dev/vda / ext4 rw 0 0\n"),
        (TOKEN, guest_token.command_line(TOKEN, 1), _MOUNTS + "overlay / overlay rw 0 0\n"),
    ],
)
def test_doubtful_guest_rejected(
    tmp_path: Path, token: str | None, value: str, mounts: str
) -> None:
    assert "not a guest" in (guest_token.not_a_guest(_root(tmp_path, token, value, mounts)) or "")


def test_environment_is_not_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINUXNET_SOCKETS_EMULATED", "yes")
    assert guest_token.not_a_guest(tmp_path) is not None


@pytest.fixture
def touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Redirect writes to the clock and the power state to a directory."""
    (tmp_path / "power").mkdir()
    monkeypatch.setattr(guest, "_POWER", tmp_path / "power")
    monkeypatch.setattr(guest, "_ALARM", tmp_path / "alarm")
    monkeypatch.setattr(time, "clock_settime", lambda *_arguments: (tmp_path / "clock").touch())
    return tmp_path


@pytest.mark.skipif(guest_token.not_a_guest() is None, reason="this is a guest")
def test_clock_and_power_unchanged_outside_guest(touched: Path) -> None:
    with pytest.raises(guest.NotAGuestError):
        guest.step(0)
    with pytest.raises(guest.NotAGuestError), guest.restored_clock():
        pass
    with pytest.raises(guest.NotAGuestError):
        guest.sleep(1)
    assert [path.relative_to(touched).as_posix() for path in touched.rglob("*")] == ["power"]


@pytest.mark.skipif(guest_token.not_a_guest() is None, reason="this is a guest")
@pytest.mark.parametrize("program", ["run.py", "off.py"])
def test_guest_programs_exit_outside_guest(tmp_path: Path, program: str) -> None:
    """The programs power the machine off. They run in namespaces where they lack the permission."""
    confined = ["unshare", "--user", "--pid", "--fork"]
    if subprocess.run([*confined, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not available")
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
