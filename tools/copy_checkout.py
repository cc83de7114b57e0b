# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a directory to the state of the checkout: the files that git has or would add.

usage: copy_checkout.py DESTINATION

Files that did not change keep their times, files that are gone go, so that caches stay good.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

LISTING = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]


def checkout_files() -> set[Path]:
    """Relative paths of all files of the checkout, links included; ignored files are left out."""
    listed = subprocess.run(LISTING, check=True, stdout=subprocess.PIPE).stdout
    paths = (Path(os.fsdecode(name)) for name in listed.split(b"\0") if name)
    return {path for path in paths if os.path.lexists(path)}


def remove_others(destination: Path, wanted: set[Path]) -> None:
    for old in sorted(destination.rglob("*"), reverse=True):
        if old.is_dir() and not old.is_symlink():
            if not any(old.iterdir()):
                old.rmdir()
        elif old.relative_to(destination) not in wanted:
            old.unlink()


def is_same(path: Path, copy: Path) -> bool:
    if path.is_symlink() or copy.is_symlink() or not copy.exists():
        return False
    return path.stat().st_mode == copy.stat().st_mode and filecmp.cmp(path, copy, shallow=False)


def main() -> None:
    destination = Path(sys.argv[1])
    wanted = checkout_files()
    destination.mkdir(parents=True, exist_ok=True)
    remove_others(destination, wanted)
    for path in wanted:
        copy = destination / path
        if is_same(path, copy):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        shutil.copy2(path, copy, follow_symlinks=False)


if __name__ == "__main__":
    main()
