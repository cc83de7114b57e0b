# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheel is the core and the Salt extension. The core imports nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "plugins" / "module_utils" / "_core"
SALT = ROOT / "src" / "saltext"
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]

# All modules except the agent, which has dependencies.
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import linuxnet_sockets
for found in pkgutil.walk_packages(linuxnet_sockets.__path__, "linuxnet_sockets."):
    if not found.name.startswith("linuxnet_sockets.agent"):
        importlib.import_module(found.name)
        print(found.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*PIP, "wheel", *offline, "--wheel-dir", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.parametrize(("package", "source"), [("linuxnet_sockets", CORE), ("saltext", SALT)])
def test_wheel_contains_each_package_unchanged(wheel: Path, package: str, source: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            name.split("/", 1)[1]: archive.read(name)
            for name in archive.namelist()
            if name.startswith(f"{package}/")
        }

    assert packed == {
        str(path.relative_to(source)): path.read_bytes()
        for pattern in ("*.py", "*.pyi", "py.typed")
        for path in source.rglob(pattern)
    }


def test_wheel_has_no_other_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}

    assert {name for name in top if not name.endswith(".dist-info")} == {
        "linuxnet_sockets",
        "saltext",
    }


def test_saltext_is_a_namespace_package() -> None:
    assert not (SALT / "__init__.py").exists()


def test_salt_package_has_the_version_of_the_wheel(wheel: Path) -> None:
    text = (ROOT / "packaging" / "saltext" / "pyproject.toml").read_text(encoding="utf-8")
    version = wheel.name.split("-")[1]

    assert f'version = "{version}"' in text.splitlines()
    assert f'dependencies = ["linuxnet-sockets[salt]=={version}"]' in text.splitlines()


def test_wheel_has_no_dependencies(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (
            archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")
        )

    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]

    assert "Name: linuxnet-sockets" in metadata.splitlines()
    assert required
    assert all("; extra == '" in line for line in required)


def test_installed_wheel_imports_without_site_packages(wheel: Path, tmp_path: Path) -> None:
    install = ["install", "--no-deps", "--no-index", "--target", tmp_path, wheel]
    subprocess.run([*PIP, *install], check=True)

    # -I -S: neither the environment, nor this directory, nor site-packages.
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert "linuxnet_sockets.netlink.connection" in ran.stdout.splitlines()
