# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs on this machine. Each has a directory, and a lock while it runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import cgroups
from .errors import LabError
from .paths import LabPaths, remove_tree

_LOCK = "lock"
_DESCRIPTION = "lab.json"


def claim_name(paths: LabPaths, name: str | None) -> tuple[str, int]:
    """Create the directory of a lab and lock it. Returns its name and the lock's descriptor.

    name: None for a random name. The lab counts as running while a process holds the descriptor.
    Raises LabError.
    """
    name = name or secrets.token_hex(4)
    directory = paths.lab(name)
    with _registry(paths):
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            raise LabError(f"lab {name} already exists; list labs with: lab list") from None
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return name, lock


def names(paths: LabPaths) -> list[str]:
    """Names of the labs that have a directory, whether they run or not."""
    if not paths.run.is_dir():
        return []
    return sorted(entry.name for entry in paths.run.iterdir() if entry.is_dir())


@contextmanager
def liveness(paths: LabPaths, name: str) -> Iterator[Callable[[], bool]]:
    """Return a function that checks whether the lab runs, even after its directory is removed."""
    try:
        lock = os.open(paths.lab(name) / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield lambda: False
        return
    try:
        yield lambda: _is_locked(lock)
    finally:
        os.close(lock)


def is_alive(paths: LabPaths, name: str) -> bool:
    """Whether the lab runs, starts or stops."""
    with liveness(paths, name) as held:
        return held()


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def describe(paths: LabPaths, name: str, description: dict[str, Any]) -> None:
    """Write the description of the lab, atomically."""
    path = paths.lab(name) / _DESCRIPTION
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    temporary.rename(path)


def description(paths: LabPaths, name: str) -> dict[str, Any]:
    """Read the description of the lab. Raises LabError if it does not run."""
    try:
        text = (paths.lab(name) / _DESCRIPTION).read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(names(paths)) or "none"
        raise LabError(f"lab {name} does not run (labs: {known})") from None
    found: dict[str, Any] = json.loads(text)
    return found


def remove_lab(paths: LabPaths, name: str) -> None:
    """Remove the cgroups and the directory of a lab. Idempotent."""
    with _registry(paths):
        _remove(paths, name)


def reap(paths: LabPaths) -> list[str]:
    """Remove labs whose processes were killed. Returns their names."""
    reaped = []
    if names(paths):
        with _registry(paths):
            for name in names(paths):
                if not is_alive(paths, name):
                    _remove(paths, name)
                    reaped.append(name)
    return reaped


def _remove(paths: LabPaths, name: str) -> None:
    cgroups.remove(name)
    remove_tree(paths.lab(name), below=paths.run)


@contextmanager
def _registry(paths: LabPaths) -> Iterator[None]:
    """Lock the registry: no lab is created while another process removes labs.

    Removes the directory of the registry when it is empty.
    """
    lock = paths.run / ".lock"
    while True:
        paths.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), open(lock, "w", encoding="ascii") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is_at(handle.fileno(), lock):
                continue  # removed while this process waited for the lock
            try:
                yield
            finally:
                if not names(paths):
                    lock.unlink()
                    paths.run.rmdir()
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
