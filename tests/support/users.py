# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that belong to other users, which only root of all users can make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _is_root_of_all_users() -> bool:
    uid_map = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    return os.geteuid() == 0 and uid_map == ["0", "0", "4294967295"]


needs_root = pytest.mark.skipif(
    not _is_root_of_all_users(), reason="needs root, to give files to other users"
)
