# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake kernel: netlink in memory, for tests without root.

    kernel = FakeKernel()
    kernel.current.add(FakeSocket(local="192.0.2.1", local_port=22, remote="192.0.2.2"))
    connection = Connection(kernel.open("current", NETLINK_SOCK_DIAG))

It follows the kernel's headers and sources, and shares no code with the core. tests/kernel runs it
against the running kernel.
"""

from __future__ import annotations

import errno
import itertools
import os
from typing import Any

from . import faults
from .model import (
    Abilities,
    FakeAddress,
    FakeLink,
    FakeNamespace,
    FakeSocket,
)
from .netlink import FakeNetlinkSocket
from .routing import FakeRoute, FakeRule

__all__ = [
    "Abilities",
    "FakeAddress",
    "FakeKernel",
    "FakeLink",
    "FakeNamespace",
    "FakeNetlinkSocket",
    "FakeRoute",
    "FakeRule",
    "FakeSocket",
    "faults",
]


class FakeKernel:
    """Fake namespaces by name, with "current" from the start.

    abilities: shared by all namespaces; tests may change them. opened: all netlink sockets that
    were opened, so that a test can check that all were closed.
    """

    def __init__(self, abilities: Abilities | None = None) -> None:
        self.abilities = abilities or Abilities()
        self.namespaces: dict[str, FakeNamespace] = {}
        self.opened: list[FakeNetlinkSocket] = []
        self._cookies = itertools.count(1)
        self._ports = itertools.count(4242)
        self.current = self.namespace("current")

    def namespace(self, name: str) -> FakeNamespace:
        """The namespace of this name, created if it does not exist."""
        if name not in self.namespaces:
            identity = (4, 4_026_531_840 + len(self.namespaces))
            self.namespaces[name] = FakeNamespace(name, identity, self._cookies)
        return self.namespaces[name]

    def open(self, namespace: Any, protocol: int) -> FakeNetlinkSocket:
        """Open a netlink socket inside a namespace, given by its name or as an object with one."""
        name = namespace if isinstance(namespace, str) else namespace.name
        if name not in self.namespaces:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        sock = FakeNetlinkSocket(self.namespaces[name], self.abilities, protocol, next(self._ports))
        self.opened.append(sock)
        return sock
