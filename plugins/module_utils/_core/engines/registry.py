# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the engines by their names."""

from __future__ import annotations

from ..errors import EngineUnavailable
from .base import Engine
from .netlink import NetlinkEngine

AUTO = "auto"
_ENGINES = {NetlinkEngine.name: NetlinkEngine}
NAMES = (AUTO, *_ENGINES)


def engine_named(name: str) -> Engine:
    """`auto` is the first engine that can do it. Raises EngineUnavailable."""
    if name == AUTO:
        name = NetlinkEngine.name
    if name not in _ENGINES:
        raise EngineUnavailable(name, f"there is no such engine; there are {', '.join(NAMES)}")
    return _ENGINES[name]()
