# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what is to be drained, for how long, and then what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..destroy.model import DestroyOptions
from ..host.namespaces import Namespace
from ..selector.parse import Selector

# What is waited for. closed: till the connection is gone, or in TIME_WAIT. sent: that too, or till
# nothing of it is on its way.
CLOSED = "closed"
SENT = "sent"
UNTIL = (CLOSED, SENT)

# What is done about connections that come to match meanwhile.
INCLUDE = "include"
IGNORE = "ignore"
FAIL = "fail"
ARRIVALS = (INCLUDE, IGNORE, FAIL)


@dataclass(frozen=True)
class DrainCommand:
    """Which connections to drain, and how.

    selector: parsed for the role "destroy". options: how the rest is destroyed; with
    options.check the drain does not wait. settle: seconds without data after which a connection
    counts as quiescent. grace: the longest wait in seconds. destroy: whether to destroy the rest.
    step: seconds after which to return, finished or not.
    """

    selector: Selector
    namespaces: Sequence[Namespace]
    options: DestroyOptions
    until: str = CLOSED
    settle: float = 1.0
    grace: float = 60.0
    destroy: bool = True
    arrivals: str = INCLUDE
    step: float | None = None
