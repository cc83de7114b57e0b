# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What salt-ssh sends to a host, and the commands salt-call and sys.doc."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import salt.utils.thin

from tests.salt.conftest import Minion


def call(*words: str | Path, root: Path, python: tuple[str, ...]) -> Any:
    """The exit status of salt-call and the result of a function, or the text on standard error."""
    ran = subprocess.run(
        [
            *(sys.executable, *python),
            *("--local", "--config-dir", root, "--out", "json", "--retcode-passthrough"),
            *words,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ran.returncode, json.loads(ran.stdout)["local"] if ran.stdout else ran.stderr


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A directory with the configuration of a minion."""
    (tmp_path / "minion").write_text(
        json.dumps({"id": "minion", "root_dir": str(tmp_path), "file_client": "local"})
    )
    return tmp_path


_SALT_CALL = ("-c", "from salt.scripts import salt_call; salt_call()")


def test_salt_call_parses_arguments_and_passes_the_return_code(configured: Path) -> None:
    words = ("sockets.list", "remote=240.0.0.1/32", "remote_port=[1, 2]", "limit=5")
    code, found = call(*words, root=configured, python=_SALT_CALL)
    assert code == 0, found
    assert (found["matched"], found["sockets"]) == (0, [])

    runtime = f"runtime_directory={configured}"
    assert call("sockets.agent_status", runtime, root=configured, python=_SALT_CALL) == (
        3,
        {"running": False, "last": None},
    )


def test_salt_call_shows_the_sentence_of_an_error_and_no_docstring(configured: Path) -> None:
    code, text = call("sockets.destroy", "remotes=1", root=configured, python=_SALT_CALL)

    assert code == 1
    assert "match.remotes" in text
    assert "CLI Example" not in text


def test_sys_doc_and_sys_argspec(minion: Minion) -> None:
    assert "CLI Example" in minion("sys.doc", "sockets.list")["sockets.list"]
    found = json.loads(json.dumps(minion("sys.argspec", "sockets.list")))
    assert found["sockets.list"]["args"][0] == "match"


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked thin archive."""
    folder = tmp_path_factory.mktemp("thin")
    with tarfile.open(salt.utils.thin.gen_thin(str(folder))) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_salt_ssh_packs_the_core_with_the_extension(thin: Path) -> None:
    packages = thin / "py3"
    assert (packages / "linuxnet_sockets" / "api" / "find_sockets.py").is_file()
    assert (packages / "saltext" / "linuxnet_sockets" / "modules" / "sockets.py").is_file()


def test_salt_call_of_salt_ssh_finds_the_module(thin: Path, configured: Path) -> None:
    # -I -S: without the packages of this environment.
    python = ("-I", "-S", str(thin / "salt-call"))

    code, found = call("sockets.support", root=configured, python=python)

    assert code == 0, found
    assert found["support"]["tcp"]["verdict"] == "supported"
