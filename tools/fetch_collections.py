# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Download the dependencies of the collection, from the wheel of the package `ansible`.

usage: fetch_collections.py REQUIREMENTS DESTINATION

DESTINATION is a directory named ansible_collections. The wheel is deleted afterwards.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def dependencies() -> list[str]:
    """Names of the dependencies in galaxy.yml."""
    return list(yaml.safe_load((ROOT / "galaxy.yml").read_text())["dependencies"])


def download(requirements: Path, directory: str) -> Path:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--dest", directory]
    subprocess.run([*pip, "download", *options, "--requirement", str(requirements)], check=True)
    (wheel,) = Path(directory).glob("*.whl")
    return wheel


def extract(wheel: Path, names: list[str], destination: Path) -> None:
    """Extract each collection to a temporary directory, then rename it into place."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory(dir=destination) as base:
        for name in names:
            path = name.replace(".", "/")
            members = [
                member
                for member in archive.namelist()
                if member.startswith(f"ansible_collections/{path}/")
            ]
            if not members:
                sys.exit(f"{wheel.name} does not contain {name}")
            archive.extractall(base, members)
            target = destination / path
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            (Path(base) / "ansible_collections" / path).rename(target)


def main() -> None:
    requirements, destination = map(Path, sys.argv[1:])
    destination.mkdir(parents=True, exist_ok=True)
    names = dependencies()
    with tempfile.TemporaryDirectory(dir=destination) as directory:
        extract(download(requirements, directory), names, destination)


if __name__ == "__main__":
    main()
