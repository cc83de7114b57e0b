# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random changes of a network: verdicts agree with the packets that really arrive."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from tests.kernel.stranded.connections import strandings
from tests.kernel.stranded.walking import Walk
from tests.support.topologies.networks import Uplinks

_STEPS = 10


@pytest.mark.parametrize("seed", range(4))
def test_random_changes(uplinks: Uplinks, tunnel: Callable[..., io.FileIO], seed: int) -> None:
    walk = Walk(uplinks, tunnel("tun0"), seed)
    for _step in range(_STEPS):
        walk.step()
        expected = walk.expected()
        verdicts = strandings(uplinks.host)
        for (kind, *opened_connections), required in zip(walk.opened_connections, expected):
            for connection in opened_connections:
                found = verdicts[connection.cookie]
                assert found is not None, (kind, walk.done)
                assert found - required.possible == required.verdicts, (kind, walk.done)
