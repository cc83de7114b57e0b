# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheel in a virtual environment of its own, used by an ordinary user."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.controller import uid_is_mapped
from tests.integration.test_python import interpreters

ROOT = Path(__file__).resolve().parents[2]
# The oldest supported Python, a recent one, and the one of this environment, which always exists.
VERSIONS = sorted({"3.9", "3.13", f"3.{sys.version_info.minor}"})
NOBODY = 65534

# Runs a command, then prints where each imported module comes from.
REPORT_IMPORTS = """
import contextlib, io, json, sys, sysconfig
before = set(sys.modules)
from linuxnet_sockets.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    assert main(sys.argv[1:]) == 0
assert out.getvalue()
files = {name: getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before}
print(json.dumps({"stdlib": sysconfig.get_path("stdlib"), "files": files}))
"""


def run(*command: object) -> str:
    """Return the standard output of a command that must succeed."""
    ran = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


class Installed:
    """A virtual environment that holds the wheel and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def as_ordinary_user(self, *command: object) -> str:
        """Run a command of the environment, without privileges."""
        name, *arguments = command
        return run(*_drop_privileges(), self.folder / "bin" / str(name), *arguments)


def _drop_privileges() -> list[str]:
    if os.getuid() != 0:
        return []
    if not uid_is_mapped(NOBODY):
        # Root of a user namespace: an ordinary user, except for its capabilities.
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    # The interpreter may be in a home directory. Nothing else needs this capability.
    kept = "-all,+dac_read_search"
    return [
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *(f"--bounding-set={kept}", f"--inh-caps={kept}", f"--ambient-caps={kept}"),
    ]


@pytest.fixture(scope="module", params=VERSIONS)
def installed(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    python = interpreters().get(request.param)
    if python is None:
        pytest.skip(f"Python {request.param} is not installed")
    folder = tmp_path_factory.mktemp("environment")
    run(python, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--no-index", wheel)
    run(*pip, "uninstall", "--yes", "pip", "setuptools")
    return Installed(folder)


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a service on this host that has one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0]:
            yield port


def test_socketctl_lists_sockets(installed: Installed, port: int) -> None:
    text = installed.as_ordinary_user("socketctl", "list", f"local_port={port}", "--json")

    (record,) = json.loads(text)["sockets"]
    assert (record["state"], record["local_port"]) == ("established", port)
    assert str(port) in installed.as_ordinary_user("socketctl", "list", f"remote_port={port}")


def test_socketctl_shows_the_support_of_the_kernel(installed: Installed) -> None:
    support = json.loads(installed.as_ordinary_user("socketctl", "support", "--json"))

    assert support["kernel"] == os.uname().release
    assert support["support"]["tcp"]["verdict"]
    assert "tcp" in installed.as_ordinary_user("socketctl", "support")


@pytest.mark.parametrize(
    "words", [("list", "local_port={}"), ("support",)], ids=["list", "support"]
)
def test_nothing_but_the_standard_library_is_imported(
    installed: Installed, port: int, words: tuple[str, ...]
) -> None:
    arguments = [word.format(port) for word in words]
    report = json.loads(installed.as_ordinary_user("python", "-c", REPORT_IMPORTS, *arguments))
    package = str(next(installed.folder.glob("lib/python*/site-packages/linuxnet_sockets")))
    allowed = (f"{report['stdlib']}/", f"{package}/")

    assert f"{package}/api/__init__.py" in report["files"].values()
    others = {name: file for name, file in report["files"].items() if file is not None}
    assert {
        name: file
        for name, file in others.items()
        if not file.startswith(allowed) or "/site-packages/" in file.replace(package, "")
    } == {}


def test_the_commands_have_their_manual_pages(installed: Installed) -> None:
    for name in ("socketctl", "socket-agent"):
        assert name in installed.as_ordinary_user(name, "--version")
        assert list((installed.folder / "share" / "man").glob(f"man?/{name}.?")) != []


def test_the_agent_runs_as_a_module(installed: Installed) -> None:
    text = installed.as_ordinary_user("python", "-m", "linuxnet_sockets.agent.cli", "--help")

    assert "events" in text
