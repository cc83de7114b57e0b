# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The labs of this machine: each has a directory in one place, and a lock held while it lives."""

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
from .places import Places, remove_tree

_LOCK = "lock"
_DESCRIPTION = "lab.json"


def claim(places: Places, name: str | None) -> tuple[str, int]:
    """Take a name (or one of our choice): the name, and the lock's descriptor to keep or pass on.

    The lab lives as long as a process holds that descriptor.
    """
    name = name or secrets.token_hex(4)
    directory = places.lab(name)
    with _registry(places):
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            raise LabError(f"there is a lab {name} already; see: lab list") from None
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return name, lock


def names(places: Places) -> list[str]:
    """Every lab that has a directory, alive or not."""
    if not places.run.is_dir():
        return []
    return sorted(entry.name for entry in places.run.iterdir() if entry.is_dir())


@contextmanager
def watch(places: Places, name: str) -> Iterator[Callable[[], bool]]:
    """Ask whether a process of the lab's is left; also after the lab's directory has gone."""
    try:
        lock = os.open(places.lab(name) / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield lambda: False
        return
    try:
        yield lambda: _held(lock)
    finally:
        os.close(lock)


def alive(places: Places, name: str) -> bool:
    """Whether somebody keeps the lab up, or is bringing it up or down."""
    with watch(places, name) as held:
        return held()


def _held(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def describe(places: Places, name: str, description: dict[str, Any]) -> None:
    """Write down what the lab consists of; readers see the old text or the new one."""
    path = places.lab(name) / _DESCRIPTION
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    fresh.rename(path)


def description(places: Places, name: str) -> dict[str, Any]:
    """What the lab consists of. Raises LabError if there is no such lab, or none that is up."""
    try:
        text = (places.lab(name) / _DESCRIPTION).read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(names(places)) or "none"
        raise LabError(f"there is no lab {name} that is up (there are: {known})") from None
    found: dict[str, Any] = json.loads(text)
    return found


def clear(places: Places, name: str) -> None:
    """Take away everything of a lab. Done again, or half done before, it finds less to do."""
    with _registry(places):
        _remove(places, name)


def reap(places: Places) -> list[str]:
    """Remove what labs left whose keepers were killed; the names of those."""
    reaped = []
    if names(places):
        with _registry(places):
            for name in names(places):
                if not alive(places, name):
                    _remove(places, name)
                    reaped.append(name)
    return reaped


def _remove(places: Places, name: str) -> None:
    cgroups.remove(name)
    remove_tree(places.lab(name), below=places.run)


@contextmanager
def _registry(places: Places) -> Iterator[None]:
    """Nobody makes a directory while somebody else judges which ones are left over.

    The last one out removes the place itself.
    """
    lock = places.run / ".lock"
    while True:
        places.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), open(lock, "w", encoding="ascii") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is_at(handle.fileno(), lock):
                continue  # it was removed while we waited for it
            try:
                yield
            finally:
                if not names(places):
                    lock.unlink()
                    places.run.rmdir()
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
