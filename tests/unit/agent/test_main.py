# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program's edges: its exit status, and whether its lines carry priorities."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from linuxnet_sockets.agent import main as program


def test_priorities_are_for_the_journal_alone(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        status = (tmp_path / "log").stat()
        assert program._is_journal(stream, f"{status.st_dev}:{status.st_ino}")
        assert not program._is_journal(stream, "8:12345")
        assert not program._is_journal(stream, "")
    assert not program._is_journal(io.StringIO(), "8:12345")


def test_check_says_what_is_wrong_and_its_status_says_that(tmp_path: Path) -> None:
    out = io.StringIO()
    file = tmp_path / "policy.json"
    file.write_text("[]")
    assert program.main(["check", str(file)], out) == 1
    assert out.getvalue()


def test_a_wrong_duration_is_a_wrong_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pause", "--for", "soon", "--state-directory", str(tmp_path)]
    assert program.main(words) == program.USAGE
    assert "--for" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_agent_runs(tmp_path: Path) -> None:
    out = io.StringIO()
    assert program.main(["status", "--runtime-directory", str(tmp_path)], out) == 3
    assert out.getvalue() == "not running\n"
