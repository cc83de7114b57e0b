# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots: typed keys for values that layers above keep in snapshots and sockets."""

from __future__ import annotations

from typing import Any, cast

import pytest

from linuxnet_sockets.netlink.inet_diag import DiagMessage
from linuxnet_sockets.sockets.slots import Slot, SlotStore
from linuxnet_sockets.sockets.snapshot import Snapshot
from linuxnet_sockets.sockets.socket import Socket

NUMBERS: Slot[list[int]] = Slot("numbers")
OTHERS: Slot[list[int]] = Slot("numbers")


def test_value_is_created_once() -> None:
    store = SlotStore()

    assert store.get(NUMBERS) is None
    store.get_or_create(NUMBERS, lambda: [1]).append(2)

    assert store.get_or_create(NUMBERS, lambda: [3]) == [1, 2]
    assert store.get(NUMBERS) == [1, 2]


def test_slots_of_the_same_name_are_distinct() -> None:
    store = SlotStore()
    store.get_or_create(NUMBERS, lambda: [1])

    assert store.get(OTHERS) is None


def test_create_that_raises_leaves_the_slot_empty() -> None:
    store = SlotStore()

    def fail() -> Any:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.get_or_create(NUMBERS, fail)

    assert store.get(NUMBERS) is None


def test_socket_caches_one_value() -> None:
    socket = Socket(cast(DiagMessage, None), cast(Snapshot, SlotStore()))
    assert socket.cached(NUMBERS) is None

    socket.cache(NUMBERS, [1])
    assert socket.cached(NUMBERS) == [1]
    assert socket.cached(OTHERS) is None

    socket.cache(OTHERS, [2])
    assert socket.cached(NUMBERS) is None
