# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems: made once by mmdebstrap, kept by the digest of their recipe."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import syscalls
from .errors import LabError
from .places import MARKER, Places, remove_tree, require_root, require_rootfs
from .recipe import Recipe

_MAKING = ".making"


def path_of(places: Places, recipe: Recipe) -> Path:
    """Where the root file system of ``recipe`` is, or will be."""
    return places.cache / f"{recipe.suite}-{recipe.digest}"


def make(places: Places, recipe: Recipe, say: Callable[[str], None]) -> Path:
    """The root file system of ``recipe``, made if it is not there yet.

    It gets its name when it is whole. What an interrupted making left is removed by the next one,
    and so are those of other recipes for the same suite that no lab uses. Raises LabError.
    """
    path = path_of(places, recipe)
    if path.is_dir():
        require_rootfs(path, recipe.digest)
        return path
    require_root()
    if shutil.which("mmdebstrap") is None:
        raise LabError("the lab needs mmdebstrap; make setup installs it (Debian: mmdebstrap)")
    places.cache.mkdir(parents=True, exist_ok=True)
    with _alone(places.cache / f"{recipe.suite}.lock") as lock:
        if path.is_dir():
            return path
        for other in places.cache.glob(f"{recipe.suite}-*"):
            if other.name.endswith(_MAKING) or _unused(other):
                remove_tree(other, below=places.cache)
        say(f"making the root file system of {recipe.suite} (once; about half a minute)")
        making = places.cache / f"{path.name}{_MAKING}"
        _mmdebstrap(recipe, making, lock)
        (making / MARKER).write_text(f"{recipe.digest}\n", encoding="ascii")
        making.rename(path)
    return path


def use(path: Path) -> int:
    """Keep ``path`` from being removed, until the last process that holds the descriptor ends."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _unused(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _alone(lock: Path) -> Iterator[int]:
    """One maker at a time; the lock is free when the last process that holds it has ended."""
    with open(lock, "w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def _mmdebstrap(recipe: Recipe, directory: Path, lock: int) -> None:
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        f"--variant={recipe.variant}",
        f"--include={','.join(recipe.packages)}",
        *(f"--customize-hook={hook}" for hook in recipe.hooks),
        recipe.suite,
        str(directory),
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        pass_fds=(lock,),
        preexec_fn=_end_with_us,
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise LabError(f"mmdebstrap could not make {recipe.suite}:\n{last}")


def _end_with_us() -> None:
    """mmdebstrap ends when we do, and what it mounts goes with it, however it ends."""
    syscalls.die_with_parent(signal.SIGTERM)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.keep_mounts_private()
