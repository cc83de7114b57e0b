# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel of bytes: what stands above a netlink socket is tested on it without root.

It is written from the kernel's headers and sources, and shares nothing with the code under test.
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
    """Namespaces by name; the one called "current" is there from the start.

    abilities: shared by all namespaces, to be changed at will.
    opened: every netlink socket handed out, so that a test can see whether all were closed.
    """

    def __init__(self, abilities: Abilities | None = None) -> None:
        self.abilities = abilities or Abilities()
        self.namespaces: dict[str, FakeNamespace] = {}
        self.opened: list[FakeNetlinkSocket] = []
        self._cookies = itertools.count(1)
        self._ports = itertools.count(4242)
        self.current = self.namespace("current")

    def namespace(self, name: str) -> FakeNamespace:
        """The namespace of that name, made where it is not there yet."""
        if name not in self.namespaces:
            identity = (4, 4_026_531_840 + len(self.namespaces))
            self.namespaces[name] = FakeNamespace(name, identity, self._cookies)
        return self.namespaces[name]

    def open(self, namespace: Any, protocol: int) -> FakeNetlinkSocket:
        """A netlink socket inside the namespace, which is a name or something that has one."""
        name = namespace if isinstance(namespace, str) else namespace.name
        if name not in self.namespaces:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        sock = FakeNetlinkSocket(self.namespaces[name], self.abilities, protocol, next(self._ports))
        self.opened.append(sock)
        return sock
