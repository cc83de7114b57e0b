# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Typed keys for values that the layers above keep in a snapshot or a socket.

The layer that owns a value owns its key: ``ROUTES: Slot[RouteState] = Slot("routes")``, and then
``snapshot.get(ROUTES)`` is a RouteState or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Slot(Generic[T]):
    """A key whose value has type T. Keys are compared by identity; the name is for people."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Slot({self.name!r})"


class SlotStore:
    """Values by their slots."""

    def __init__(self) -> None:
        self._values: dict[Slot[Any], Any] = {}

    def get(self, slot: Slot[T]) -> T | None:
        """The value of the slot; None: it has none yet."""
        return self._values.get(slot)

    def get_or_create(self, slot: Slot[T], create: Callable[[], T]) -> T:
        """The value of the slot. create() makes it on first use."""
        values = self._values
        if slot not in values:
            values[slot] = create()
        value: T = values[slot]
        return value
