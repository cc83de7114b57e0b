# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identification of guests of tools/test-kernels, whose clock and power tests may control.

Each guest gets a new random token in two places: a file in its initramfs, and a parameter of its
kernel. No container, chroot or other machine has both. Environment variables are not considered,
because a process can inherit them.
"""

from __future__ import annotations

import secrets
from pathlib import Path

FILE = "guest.token"
_TOKEN_PARAMETER = "linuxnet_sockets.guest="
_START_PARAMETER = "linuxnet_sockets.start="
_MIN_LENGTH = 32


def new_token() -> str:
    return secrets.token_hex(16)


def command_line(token: str, start: int) -> str:
    """Kernel parameters of a guest. start: 1, or 2 for the second start with the same disk."""
    return f"{_TOKEN_PARAMETER}{token} {_START_PARAMETER}{start}"


def _parameter(name: str, root: Path) -> str | None:
    """Value of a kernel parameter, or None if it is missing or occurs more than once."""
    parameters = (root / "proc" / "cmdline").read_text().split()
    values = [text[len(name) :] for text in parameters if text.startswith(name)]
    return values[0] if len(values) == 1 else None


def start(root: Path = Path("/")) -> int:
    """Number of this start of the guest. Raises ValueError without such a parameter."""
    return int(_parameter(_START_PARAMETER, root) or "no parameter")


def not_a_guest(root: Path = Path("/")) -> str | None:
    """Reason why this machine is not a guest, or None if it certainly is one."""
    try:
        token = (root / FILE).read_text().strip()
        value = _parameter(_TOKEN_PARAMETER, root)
        mounts = [line.split() for line in (root / "proc" / "mounts").read_text().splitlines()]
    except (OSError, ValueError):
        return "this machine is not a guest of tools/test-kernels"
    if len(token) < _MIN_LENGTH or value != token:
        return "this machine is not a guest of tools/test-kernels: wrong kernel parameter"
    if [fstype for _device, target, fstype, *_rest in mounts if target == "/"] != ["rootfs"]:
        return "this machine is not a guest of tools/test-kernels: its root is not an initramfs"
    return None
