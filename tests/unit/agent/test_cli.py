# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: exit statuses, error messages, log priorities."""

from __future__ import annotations

import errno
import io
import os
import re
import socket
from pathlib import Path

import pytest

from linuxnet_sockets.agent import cli


def test_only_journal_lines_have_a_priority(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        status = (tmp_path / "log").stat()
        assert cli._is_journal(stream, f"{status.st_dev}:{status.st_ino}")
        assert not cli._is_journal(stream, "8:12345")
        assert not cli._is_journal(stream, "")
    assert not cli._is_journal(io.StringIO(), "8:12345")


def test_check_of_an_invalid_policy_fails(tmp_path: Path) -> None:
    out = io.StringIO()
    file = tmp_path / "policy.json"
    file.write_text("[]")
    assert cli.main(["check", str(file)], out) == 1
    assert out.getvalue()


def test_invalid_duration_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pause", "--for", "soon", "--state-directory", str(tmp_path)]
    assert cli.main(arguments) == cli.USAGE
    assert "--for" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_agent_with_a_full_listen_queue_is_running(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen(2)
        arguments = ["status", "--runtime-directory", str(tmp_path)]
        assert [cli.main(arguments, io.StringIO()) for _client in range(5)] == [1] * 5


def test_status_without_agent(tmp_path: Path) -> None:
    out = io.StringIO()
    assert cli.main(["status", "--runtime-directory", str(tmp_path)], out) == 3
    (line,) = out.getvalue().splitlines()
    assert str(tmp_path) in line


def test_os_errors_are_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without error numbers and names of temporary files."""
    nowhere = tmp_path / "nowhere"
    assert cli.main(["pause", "--state-directory", str(nowhere)]) == 1
    text = capsys.readouterr().err
    assert f"{nowhere}: {os.strerror(errno.ENOENT)}" in text
    assert "Errno" not in text
    assert cli.main(["run", "--runtime-directory", str(nowhere)]) == 1
    assert capsys.readouterr().err == (
        f"socket-agent: Cannot use the directory {nowhere} of its status and socket: "
        f"{os.strerror(errno.ENOENT)}. Create it, or name another directory with "
        "--runtime-directory.\n"
    )


def test_check_of_yaml_names_what_reads_it(tmp_path: Path) -> None:
    out = io.StringIO()
    (tmp_path / "policy.yml").write_text("version: 1\n")
    assert cli.main(["check", str(tmp_path / "policy.yml")], out) == 1
    assert str(tmp_path / "policy.yml") in out.getvalue()
    assert "JSON" in out.getvalue()
    assert "policy_check" in out.getvalue()


def test_check_counts_and_lists_all_errors(tmp_path: Path) -> None:
    out = io.StringIO()
    file = tmp_path / "policy.json"
    file.write_text('{"version": 2, "mode": "on", "limits": {"max_sockets": 1}}')
    assert cli.main(["check", str(file)], out) == 1
    first, *rest = out.getvalue().splitlines()
    assert first.startswith(f"{file} ")
    assert re.findall(r"\d+", first.removeprefix(str(file))) == ["3"]
    assert [line.split(":")[0] for line in rest] == ["- rules", "- version", "- mode"]


def test_check_rejects_an_empty_file_and_a_repeated_key(tmp_path: Path) -> None:
    for text, problem in (("", "empty"), ('{"a": 1, "a": 2}', "'a'")):
        out = io.StringIO()
        (tmp_path / "policy.json").write_text(text)
        assert cli.main(["check", str(tmp_path / "policy.json")], out) == 1
        assert problem in out.getvalue()
