# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is published works: the collection's tarball, installed by ansible-galaxy elsewhere."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(*command: object, **variables: str) -> str:
    """Standard output of a command of Ansible, run with none of the caller's settings for it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    ran = subprocess.run(
        [BIN / str(command[0]), *command[1:]],
        env={**kept, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run("ansible-galaxy", "collection", "build", "--output-path", folder, ROOT)
    (built,) = folder.glob("linuxnet-sockets-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def settings(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of an Ansible that knows the installed tarball, and not the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    config = folder / "ansible.cfg"
    config.touch()
    settings = {
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_COLLECTIONS_PATH": str(folder),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_REMOTE_TMP": str(folder / "remote"),
    }
    # What it depends on is there already: nothing is fetched.
    for namespace in ("ansible", "community"):
        there = folder / "ansible_collections" / namespace
        there.parent.mkdir(exist_ok=True)
        there.symlink_to(ROOT / ".build" / "collections" / "ansible_collections" / namespace)
    run("ansible-galaxy", "collection", "install", "--offline", tarball, "-p", folder, **settings)
    return settings


def test_the_tarball_holds_what_a_user_needs_and_no_more(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = set(archive.getnames())

    tops = {name.split("/")[0] for name in names}
    files = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("playbooks/**/*.yml")]
    files += ROOT.glob("playbooks/**/*.j2")
    # The page of the report is a template, a style and a script beside the code.
    report = ROOT / "plugins" / "plugin_utils" / "_report"
    files += [report / name for name in ("page.html.j2", "style.css", "script.js")]

    assert {str(path.relative_to(ROOT)) for path in files} <= names
    assert {"README.md", "COPYING", "CHANGELOG.md", "meta/runtime.yml"} <= names
    assert not tops & {
        ".build",
        ".ci",
        ".git",
        ".venv",
        "Makefile",
        "demo",
        "requirements",
        "tools",
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_a_module_of_the_installed_tarball_finds_a_listener(settings: dict[str, str]) -> None:
    module = "linuxnet.sockets.socket_diag_info"
    documented = json.loads(run("ansible-doc", "--json", module, **settings))
    found_in = Path(documented[module]["doc"]["filename"])
    assert found_in.is_relative_to(settings["ANSIBLE_COLLECTIONS_PATH"])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        options = json.dumps({"match": {"state": "listening", "local_port": port}})
        output = run("ansible", "localhost", "-o", "-m", module, "-a", options, **settings)

    status, result = output.split(" => ", 1)
    assert status == "localhost | SUCCESS"
    (found,) = json.loads(result)["sockets"]
    assert (found["local"], found["local_port"]) == ("127.0.0.1", port)
