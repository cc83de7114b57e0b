# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published tarball, installed by ansible-galaxy outside the checkout."""

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
    """Run a command of Ansible without the caller's settings and return its standard output."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")
    }
    ran = subprocess.run(
        [BIN / str(command[0]), *command[1:]],
        env={**inherited, **variables},
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
    """Environment in which Ansible finds the installed tarball but not the checkout."""
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
    # Link the installed dependencies, so that nothing is downloaded.
    for namespace in ("ansible", "community"):
        link = folder / "ansible_collections" / namespace
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(ROOT / ".build" / "collections" / "ansible_collections" / namespace)
    run("ansible-galaxy", "collection", "install", "--offline", tarball, "-p", folder, **settings)
    return settings


def test_tarball_contents(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = set(archive.getnames())

    top_level = {name.split("/")[0] for name in names}
    files = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("playbooks/**/*.yml")]
    files += ROOT.glob("playbooks/**/*.j2")
    # Template, style sheets and scripts of the page of stuck_report.
    report = ROOT / "plugins" / "plugin_utils" / "_report"
    embedded = [path for kind in ("j2", "css", "js") for path in report.glob(f"*.{kind}")]
    assert len(embedded) == 10
    files += embedded

    assert {str(path.relative_to(ROOT)) for path in files} <= names
    assert {"README.md", "COPYING", "CHANGELOG.md", "meta/runtime.yml"} <= names
    assert not top_level & {
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


def test_installed_module_finds_listener(settings: dict[str, str]) -> None:
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
