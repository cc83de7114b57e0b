# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support of the kernel for listing and destroying sockets, cached for a minute.

Salt reloads the grains modules several times while a minion starts. This module stays loaded.
"""

from __future__ import annotations

import logging
import time
from typing import Any

try:
    from linuxnet_sockets import api

    AVAILABLE = True
except ImportError:
    AVAILABLE = False

log = logging.getLogger(__name__)

_MAX_AGE_S = 60.0
# The summary, and when it was made.
_cached: tuple[float, dict[str, Any]] | None = None


def summary() -> dict[str, Any] | None:
    """``kernel``, ``may_destroy`` and ``support`` by protocol; None if the kernel does not answer.

    The answer is at most a minute old.
    """
    global _cached
    now = time.monotonic()
    if _cached is None or now - _cached[0] > _MAX_AGE_S:
        try:
            found = api.support()
        except (api.SocketsError, OSError) as error:
            log.debug("No grain socket_diag: %s", error)
            return None
        verdicts = {name: each.verdict for name, each in found.protocols.items()}
        _cached = (
            now,
            {
                "kernel": found.kernel,
                "may_destroy": found.may_destroy,
                "support": verdicts,
            },
        )
    return _cached[1]
