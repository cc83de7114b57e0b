# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The seam for work that the agent does while nothing is due."""

from __future__ import annotations

from typing import Protocol


class IdleWork(Protocol):
    """Work in small steps, such as keeping an index up to date."""

    def step(self) -> float:
        """Work for a few milliseconds; return the seconds until the next step.

        The agent charges the CPU time to the same bucket as its passes, and calls this only while
        most of the bucket is left. It must not raise.
        """
