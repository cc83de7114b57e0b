# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the engines by their names."""

from __future__ import annotations

from ...errors import EngineUnavailable
from ...host.pidfd import available
from .base import Engine
from .pidfd import PidfdEngine
from .sock_destroy import NetlinkEngine

AUTO = "auto"
NAMES = (AUTO, NetlinkEngine.name, PidfdEngine.name)


def engines_named(name: str) -> tuple[Engine, ...]:
    """The engines to try, one after the other: `auto` is netlink, then pidfd where there is one.

    Raises EngineUnavailable.
    """
    if name == NetlinkEngine.name:
        return (NetlinkEngine(),)
    if name == PidfdEngine.name:
        if not available():
            raise EngineUnavailable(name, "this kernel has no pidfd_getfd (Linux 5.6 has)")
        return (PidfdEngine(),)
    if name == AUTO:
        return (NetlinkEngine(), PidfdEngine()) if available() else (NetlinkEngine(),)
    raise EngineUnavailable(name, f"there is no such engine; there are {', '.join(NAMES)}")
