# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program's edges: its exit status, and whether its lines carry priorities."""

from __future__ import annotations

import errno
import io
import os
import re
import socket
from pathlib import Path

import pytest

from linuxnet_sockets.agent import cli as program


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


def test_an_agent_that_takes_nobody_for_a_while_runs(tmp_path: Path) -> None:
    """As many as there is room for wait till it accepts them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "events.sock"))
        listener.listen(2)
        asked = ["status", "--runtime-directory", str(tmp_path)]
        assert [program.main(asked, io.StringIO()) for _each in range(5)] == [1] * 5


def test_no_agent_runs(tmp_path: Path) -> None:
    out = io.StringIO()
    assert program.main(["status", "--runtime-directory", str(tmp_path)], out) == 3
    (line,) = out.getvalue().splitlines()
    assert str(tmp_path) in line


def test_what_nobody_can_be_told_is_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with the numbers of errors, nor with the names of temporary files."""
    nowhere = tmp_path / "nowhere"
    assert program.main(["pause", "--state-directory", str(nowhere)]) == 1
    said = capsys.readouterr().err
    assert f"{nowhere}: {os.strerror(errno.ENOENT)}" in said
    assert "Errno" not in said
    assert program.main(["run", "--runtime-directory", str(nowhere)]) == 1
    said = capsys.readouterr().err
    assert f"{nowhere}/events.sock: {os.strerror(errno.ENOENT)}" in said
    assert "Errno" not in said


def test_who_checks_yaml_is_told_where_that_is_read(tmp_path: Path) -> None:
    out = io.StringIO()
    (tmp_path / "policy.yml").write_text("version: 1\n")
    assert program.main(["check", str(tmp_path / "policy.yml")], out) == 1
    assert str(tmp_path / "policy.yml") in out.getvalue()
    assert "JSON" in out.getvalue()
    assert "policy_check" in out.getvalue()


def test_all_that_is_wrong_is_counted_and_each_is_a_line(tmp_path: Path) -> None:
    out = io.StringIO()
    file = tmp_path / "policy.json"
    file.write_text('{"version": 2, "mode": "on", "limits": {"max_sockets": 1}}')
    assert program.main(["check", str(file)], out) == 1
    first, *rest = out.getvalue().splitlines()
    assert first.startswith(f"{file} ")
    assert re.findall(r"\d+", first.removeprefix(str(file))) == ["3"]
    assert [line.split(":")[0] for line in rest] == ["- rules", "- version", "- mode"]


def test_a_file_in_which_nothing_is_and_one_with_a_key_twice(tmp_path: Path) -> None:
    for text, problem in (("", "empty"), ('{"a": 1, "a": 2}', "'a'")):
        out = io.StringIO()
        (tmp_path / "policy.json").write_text(text)
        assert program.main(["check", str(tmp_path / "policy.json")], out) == 1
        assert problem in out.getvalue()
