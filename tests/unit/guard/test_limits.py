# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""max_sockets: parsing and comparison."""

from __future__ import annotations

import pytest

from linuxnet_sockets.errors import InputError
from linuxnet_sockets.guard.limits import MaxSockets, parse_max_sockets


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (500, MaxSockets(number=500)),
        ("500", MaxSockets(number=500)),
        (0, MaxSockets(number=0)),
        ("25%", MaxSockets(share=0.25)),
        (" 100% ", MaxSockets(share=1.0)),
        ("0%", MaxSockets(share=0.0)),
    ],
)
def test_number_or_share(value: object, expected: MaxSockets) -> None:
    assert parse_max_sockets(value) == expected


@pytest.mark.parametrize("value", [-1, "-1", "101%", "%", "", None, True, 1.5, [], "many"])
def test_invalid_value_is_rejected_with_its_path(value: object) -> None:
    with pytest.raises(InputError) as caught:
        parse_max_sockets(value)
    assert caught.value.path == ("max_sockets",)


@pytest.mark.parametrize(
    ("limit", "count", "population", "allowed"),
    [
        (MaxSockets(number=3), 3, 0, True),
        (MaxSockets(number=3), 4, 1000, False),
        (MaxSockets(number=0), 0, 5, True),
        (MaxSockets(number=0), 1, 5, False),
        (MaxSockets(share=0.25), 1, 4, True),
        (MaxSockets(share=0.25), 2, 4, False),
        (MaxSockets(share=0.25), 1, 3, False),
        (MaxSockets(share=0.29), 29, 100, True),
        (MaxSockets(share=0.29), 30, 100, False),
        (MaxSockets(share=1.0), 7, 7, True),
        (MaxSockets(share=0.0), 0, 0, True),
    ],
)
def test_allows(limit: MaxSockets, count: int, population: int, allowed: bool) -> None:
    assert limit.allows(count, population) is allowed
