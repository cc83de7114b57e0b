# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this machine is a guest that was started here, so that its clock and power are ours.

The word that proves it is made anew for each guest and given to it in two ways: in its archive,
and on its kernel's command line. No container, no chroot and no other machine has both, and an
environment that somebody inherited says nothing.
"""

from __future__ import annotations

import secrets
from pathlib import Path

FILE = "guest.word"
_WORD = "linuxnet_sockets.guest="
_START = "linuxnet_sockets.start="
_LEAST = 32


def new_word() -> str:
    return secrets.token_hex(16)


def command_line(word: str, start: int) -> str:
    """What a guest's kernel is told. start: 1, or 2 for the second time with the same disk."""
    return f"{_WORD}{word} {_START}{start}"


def _told(name: str, root: Path) -> str | None:
    """What the kernel's command line says so of one name; None: nothing, or more than one thing."""
    words = (root / "proc" / "cmdline").read_text().split()
    found = [word[len(name) :] for word in words if word.startswith(name)]
    return found[0] if len(found) == 1 else None


def start(root: Path = Path("/")) -> int:
    """Which start of the guest this is. Raises ValueError where none is told."""
    return int(_told(_START, root) or "none is told")


def not_ours(root: Path = Path("/")) -> str | None:
    """Why this is no guest of ours; None: it is one. In doubt it is none."""
    try:
        word = (root / FILE).read_text().strip()
        told = _told(_WORD, root)
        mounts = [line.split() for line in (root / "proc" / "mounts").read_text().splitlines()]
    except (OSError, ValueError):
        return "this is no guest of tools/test-kernels"
    if len(word) < _LEAST or told != word:
        return "this is no guest of tools/test-kernels: its kernel was told another word"
    if [kind for _device, where, kind, *_rest in mounts if where == "/"] != ["rootfs"]:
        return "this is no guest of tools/test-kernels: it has a root file system of its own"
    return None
