# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy the checkout into a directory: all files that git tracks or would add.

usage: copy_checkout.py DESTINATION [LEFT_OUT...]

LEFT_OUT names directories that are not copied. Unchanged files keep their modification times, so
that caches of other tools stay valid. Files that no longer exist in the checkout are removed.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LISTING = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]


def checkout_files(left_out: Sequence[str]) -> set[Path]:
    """Relative paths of all files of the checkout, including links, without ignored files.

    left_out: relative paths of directories to leave out.
    """
    listed = subprocess.run(LISTING, check=True, stdout=subprocess.PIPE).stdout
    paths = (Path(os.fsdecode(name)) for name in listed.split(b"\0") if name)
    directories = set(map(Path, left_out))
    return {
        path for path in paths if os.path.lexists(path) and directories.isdisjoint(path.parents)
    }


def remove_others(destination: Path, expected: set[Path]) -> None:
    """Remove files that are not expected, and empty directories."""
    for old in sorted(destination.rglob("*"), reverse=True):
        if old.is_dir() and not old.is_symlink():
            if not any(old.iterdir()):
                old.rmdir()
        elif old.relative_to(destination) not in expected:
            old.unlink()


def is_same(path: Path, copy: Path) -> bool:
    if path.is_symlink() or copy.is_symlink() or not copy.exists():
        return False
    return path.stat().st_mode == copy.stat().st_mode and filecmp.cmp(path, copy, shallow=False)


def main() -> None:
    destination = Path(sys.argv[1])
    expected = checkout_files(sys.argv[2:])
    destination.mkdir(parents=True, exist_ok=True)
    remove_others(destination, expected)
    for path in expected:
        copy = destination / path
        if is_same(path, copy):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        shutil.copy2(path, copy, follow_symlinks=False)


if __name__ == "__main__":
    main()
