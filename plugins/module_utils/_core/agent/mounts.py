# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Reports changes of the mount table, which name and unname network namespaces."""

from __future__ import annotations

import os
import select


class MountMonitor:
    """Readable when the mount table of this process changed (proc_pid_mounts(5)).

    Waiting for it resets it, so nothing is to be read. Raises OSError.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        try:
            self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._epoll.close()
            raise
        self._epoll.register(self._mounts, select.EPOLLPRI)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()
        os.close(self._mounts)
