# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The options that only socket_drain has."""

from __future__ import annotations

from .._core.drain.model import ARRIVALS, CLOSED, INCLUDE, UNTIL
from .arguments import Spec


def argument_spec() -> Spec:
    return {
        "until": {"type": "str", "choices": list(UNTIL), "default": CLOSED},
        "settle": {"type": "str", "default": "1s"},
        "grace": {"type": "str", "default": "60s"},
        "destroy": {"type": "bool", "default": True},
        "arrivals": {"type": "str", "choices": list(ARRIVALS), "default": INCLUDE},
        "step": {"type": "str"},
        "resume": {"type": "dict"},
    }
