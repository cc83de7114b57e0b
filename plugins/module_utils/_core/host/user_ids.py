# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Whether a user id is that of root.

In a user namespace, the ids that it does not map appear as the overflow id (user_namespaces(7)).
"""

from __future__ import annotations

from contextlib import suppress

ROOT = 0

_ALL_IDS = [b"0", b"0", b"4294967295"]
_OVERFLOW = 65534  # The default of kernel.overflowuid.


def sees_all_ids(proc: str) -> bool:
    """Whether this process sees the real ids of all users. Raises OSError."""
    try:
        with open(f"{proc}/self/uid_map", "rb") as lines:
            return lines.read().split() == _ALL_IDS
    except FileNotFoundError:
        # A kernel without user namespaces.
        return True


def root_ids(proc: str) -> frozenset[int]:
    """The user ids that are, or may be, that of root of the machine.

    Besides 0, the overflow id, unless this process sees the real ids of all users.
    """
    with suppress(OSError):
        if sees_all_ids(proc):
            return frozenset({ROOT})
    with suppress(OSError, ValueError), open(f"{proc}/sys/kernel/overflowuid", "rb") as line:
        return frozenset({ROOT, int(line.read())})
    return frozenset({ROOT, _OVERFLOW})
