# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download and unpack Debian packages of any suite without installing them."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cmp_to_key
from pathlib import Path
from typing import NamedTuple

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class FetchError(Exception):
    """A package or tool is not available; the message says why."""


class Package(NamedTuple):
    """A downloaded package. debs: its file, and the files of its parts."""

    suite: str
    name: str
    version: str
    debs: tuple[Path, ...]


def mirror() -> str:
    """URL of the Debian mirror in the apt configuration of this machine. Raises FetchError."""
    line_format = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", line_format],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        origin, label, url = line.split("|")
        if (origin, label) == ("Debian", "Debian"):
            return url
    raise FetchError(
        "apt has no Debian mirror configured; use a Debian machine and run apt-get update"
    )


def sources(suite: str) -> str:
    """Line of sources.list(5) for a suite, with Debian's keyring if it is installed."""
    signed_by = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    return f"deb {signed_by}{mirror()} {suite} main\n"


class Archive:
    """Package archive of one suite. apt keeps its state in a separate directory."""

    def __init__(self, suite: str, directory: Path) -> None:
        self.suite = suite
        self._directory = directory.absolute()
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (self._directory / part).mkdir(parents=True, exist_ok=True)
        (self._directory / "status").touch()
        (self._directory / "sources.list").write_text(sources(suite))
        settings = {
            "Dir::State": self._directory,
            "Dir::State::lists": self._directory / "lists",
            "Dir::State::status": self._directory / "status",
            "Dir::Cache": self._directory / "cache",
            "Dir::Etc::SourceList": self._directory / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
            "Acquire::Languages": "none",
            # Suites past their end of life have expired Release files.
            "Acquire::Check-Valid-Until": "false",
        }
        self._configuration = self._directory / "apt.conf"
        self._configuration.write_text(
            "".join(f'{name} "{value}";\n' for name, value in settings.items())
        )

    def update(self) -> None:
        """Download the package lists of the suite. Raises FetchError."""
        self._apt("apt-get", "-qq", "update")

    def fetch(self, pattern: str, parts: str = "") -> Package:
        """Download the newest package whose full name matches the pattern.

        parts: regular expression for the names of its dependencies to download too. Raises
        FetchError.
        """
        found: list[tuple[str, str]] = []
        for name in self._apt("apt-cache", "pkgnames").splitlines():
            if re.fullmatch(pattern, name):
                shown = re.search(r"^Version: (.*)$", self._shown(name), re.MULTILINE)
                if shown is not None:
                    found.append((name, shown.group(1)))
        if not found:
            raise FetchError(f"{self.suite} has no package that matches {pattern}")
        name, version = max(found, key=cmp_to_key(_compare))
        depends = re.search(r"^Depends: (.*)$", self._shown(name), re.MULTILINE)
        needed = re.split(r"[,|] ?", depends.group(1)) if depends and parts else []
        names = [name, *(part.split()[0] for part in needed if re.match(parts, part))]
        return Package(self.suite, name, version, tuple(self._file(part) for part in names))

    def _shown(self, name: str) -> str:
        return self._apt("apt-cache", "show", "--no-all-versions", name)

    def _file(self, name: str) -> Path:
        """Download the newest version unless the file exists."""
        debs = self._directory / "debs"
        command = ["apt-get", "-qq", "download", name]
        (_uri, file, *_rest) = self._apt(*command, "--print-uris").split()
        deb = debs / file
        if not deb.exists():
            self._apt(*command, directory=debs)
        if not deb.exists():
            raise FetchError(f"apt-get download {name} did not create {deb}")
        return deb

    def _apt(self, *command: str, directory: Path | None = None) -> str:
        done = subprocess.run(
            command,
            env={**os.environ, "APT_CONFIG": str(self._configuration), "LC_ALL": "C"},
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise FetchError(f"{' '.join(command)} ({self.suite}): {done.stderr.strip()}")
        return done.stdout


def _compare(first: tuple[str, str], second: tuple[str, str]) -> int:
    """Compare by version. The order of equal versions does not matter."""
    newer = subprocess.run(["dpkg", "--compare-versions", first[1], "gt", second[1]], check=False)
    return 1 if newer.returncode == 0 else -1


def unpack(package: Package, directory: Path) -> None:
    """Extract a package and its parts into the directory. Raises CalledProcessError."""
    directory.mkdir(parents=True, exist_ok=True)
    for deb in package.debs:
        subprocess.run(["dpkg-deb", "--extract", str(deb), str(directory)], check=True)
