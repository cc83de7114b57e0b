# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages of any suite, fetched into a directory of our own; nothing is installed."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cmp_to_key
from pathlib import Path
from typing import NamedTuple

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class FetchError(Exception):
    """What could not be had, and why."""


class Package(NamedTuple):
    """suite, name and version as Debian calls them; debs: the file, and those of its parts."""

    suite: str
    name: str
    version: str
    debs: tuple[Path, ...]


def mirror() -> str:
    """The address that this machine's own apt takes Debian from. Raises FetchError."""
    words = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", words], capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        origin, label, address = line.split("|")
        if (origin, label) == ("Debian", "Debian"):
            return address
    raise FetchError("apt knows no Debian mirror here: is this Debian, and was apt-get update run?")


def sources(suite: str) -> str:
    """The line of sources.list that brings a suite's packages, checked with Debian's keys."""
    signed_by = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    return f"deb {signed_by}{mirror()} {suite} main\n"


class Archive:
    """One suite's packages: apt in a directory of its own."""

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
            # A suite that is no longer renewed still has the packages that it had.
            "Acquire::Check-Valid-Until": "false",
        }
        self._configuration = self._directory / "apt.conf"
        self._configuration.write_text(
            "".join(f'{name} "{value}";\n' for name, value in settings.items())
        )

    def update(self) -> None:
        """Fetch the suite's list. Raises FetchError."""
        self._apt("apt-get", "-qq", "update")

    def fetch(self, pattern: str, parts: str = "") -> Package:
        """The newest package with such a name, as a file, with those that it needs of which the
        name matches `parts`. Raises FetchError."""
        found: list[tuple[str, str]] = []
        for name in self._apt("apt-cache", "pkgnames").splitlines():
            if re.fullmatch(pattern, name):
                shown = re.search(r"^Version: (.*)$", self._shown(name), re.MULTILINE)
                if shown is not None:
                    found.append((name, shown.group(1)))
        if not found:
            raise FetchError(f"{self.suite} has no package with a name like {pattern}")
        name, version = max(found, key=cmp_to_key(_compare))
        depends = re.search(r"^Depends: (.*)$", self._shown(name), re.MULTILINE)
        needed = re.split(r"[,|] ?", depends.group(1)) if depends and parts else []
        names = [name, *(each.split()[0] for each in needed if re.match(parts, each))]
        return Package(self.suite, name, version, tuple(self._file(each) for each in names))

    def _shown(self, name: str) -> str:
        return self._apt("apt-cache", "show", "--no-all-versions", name)

    def _file(self, name: str) -> Path:
        """The newest version's file, fetched unless it is there."""
        debs = self._directory / "debs"
        words = ["apt-get", "-qq", "download", name]
        (_uri, file, *_rest) = self._apt(*words, "--print-uris").split()
        deb = debs / file
        if not deb.exists():
            self._apt(*words, directory=debs)
        if not deb.exists():
            raise FetchError(f"{name} was fetched, but is not at {deb}")
        return deb

    def _apt(self, *words: str, directory: Path | None = None) -> str:
        done = subprocess.run(
            words,
            env={**os.environ, "APT_CONFIG": str(self._configuration), "LC_ALL": "C"},
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise FetchError(f"{' '.join(words)} ({self.suite}): {done.stderr.strip()}")
        return done.stdout


def _compare(one: tuple[str, str], two: tuple[str, str]) -> int:
    """By version; the order of those that are the same does not matter."""
    newer = subprocess.run(["dpkg", "--compare-versions", one[1], "gt", two[1]], check=False)
    return 1 if newer.returncode == 0 else -1


def unpack(package: Package, directory: Path) -> None:
    """The files of a package and its parts, below the directory. Raises CalledProcessError."""
    directory.mkdir(parents=True, exist_ok=True)
    for deb in package.debs:
        subprocess.run(["dpkg-deb", "--extract", str(deb), str(directory)], check=True)
