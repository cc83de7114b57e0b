# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The engines by name."""

from __future__ import annotations

from ...errors import EngineUnavailable
from ...host.pidfd import available
from .base import Engine
from .bpf import BpfEngine
from .pidfd import PidfdEngine
from .sock_destroy import NetlinkEngine

AUTO = "auto"
NAMES = (AUTO, NetlinkEngine.name, BpfEngine.name, PidfdEngine.name)


def indestructible(name: str) -> frozenset[str]:
    """The protocols whose sockets an engine cannot destroy on any kernel."""
    engines = {engine.name: engine.indestructible for engine in (NetlinkEngine, BpfEngine)}
    return engines.get(name, frozenset())


def engines_named(name: str) -> tuple[Engine, ...]:
    """The engines to try in turn. `auto`: netlink, bpf, and pidfd if the kernel has it.

    Raises EngineUnavailable.
    """
    if name == NetlinkEngine.name:
        return (NetlinkEngine(),)
    if name == BpfEngine.name:
        # Where it is unavailable, it declines each socket with the reason.
        return (BpfEngine(),)
    if name == PidfdEngine.name:
        if not available():
            raise EngineUnavailable(
                name, "this kernel has no pidfd_getfd, which is in Linux 5.6 and later"
            )
        return (PidfdEngine(),)
    if name == AUTO:
        first = (NetlinkEngine(), BpfEngine())
        return (*first, PidfdEngine()) if available() else first
    raise EngineUnavailable(name, f"unknown engine; known engines: {', '.join(NAMES)}")
