# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems, created by mmdebstrap and cached by the digest of their recipe."""

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
from .paths import MARKER, LabPaths, remove_tree, require_root, require_rootfs
from .recipe import Recipe

_TEMPORARY = ".making"


def rootfs_path(paths: LabPaths, recipe: Recipe) -> Path:
    """Path of the root file system of ``recipe``, whether it exists or not."""
    return paths.cache / f"{recipe.suite}-{recipe.digest}"


def create_rootfs(paths: LabPaths, recipe: Recipe, report_progress: Callable[[str], None]) -> Path:
    """Create the root file system of ``recipe`` if it does not exist, and return its path.

    It is created under a temporary name. Incomplete root file systems of the suite are removed, and
    so are those of other recipes that no lab uses. Raises LabError.
    """
    path = rootfs_path(paths, recipe)
    if path.is_dir():
        require_rootfs(path, recipe.digest)
        return path
    require_root()
    if shutil.which("mmdebstrap") is None:
        raise LabError("the lab needs mmdebstrap; make setup installs it (Debian: mmdebstrap)")
    paths.cache.mkdir(parents=True, exist_ok=True)
    with _exclusive(paths.cache / f"{recipe.suite}.lock") as lock:
        if path.is_dir():
            return path
        for other in paths.cache.glob(f"{recipe.suite}-*"):
            if other.name.endswith(_TEMPORARY) or _is_unused(other):
                remove_tree(other, below=paths.cache)
        report_progress(
            f"creating the root file system of {recipe.suite} (once, about half a minute)"
        )
        temporary = paths.cache / f"{path.name}{_TEMPORARY}"
        _mmdebstrap(recipe, temporary, lock)
        (temporary / MARKER).write_text(f"{recipe.digest}\n", encoding="ascii")
        temporary.rename(path)
    return path


def hold_rootfs(path: Path) -> int:
    """Prevent the removal of ``path`` until all processes have closed the descriptor."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _is_unused(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _exclusive(lock: Path) -> Iterator[int]:
    """Hold the lock exclusively. Child processes that inherit it hold it too."""
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
        preexec_fn=_prepare_child,
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise LabError(f"mmdebstrap failed for {recipe.suite}:\n{last}")


def _prepare_child() -> None:
    """In the child: end with the parent process, and use a private mount namespace."""
    syscalls.die_with_parent(signal.SIGTERM)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.keep_mounts_private()
