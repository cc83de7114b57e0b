# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with two uplinks, and its connections."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator

import pytest

from tests.kernel.socket_options import require_socket_options
from tests.kernel.stranded.connections import NOTHING, Connections
from tests.support.topologies.networks import Uplinks, tun
from tests.support.topologies.topology import Lab


@pytest.fixture
def uplinks(lab: Lab) -> Uplinks:
    created = Uplinks(lab)
    require_socket_options(created.host)
    return created


@pytest.fixture
def connections(uplinks: Uplinks) -> Connections:
    created = Connections(uplinks)
    created.assert_verdicts(NOTHING, NOTHING)
    return created


@pytest.fixture
def tunnel(uplinks: Uplinks) -> Iterator[Callable[..., io.FileIO]]:
    """Creates a tun device on the host and returns the end of its program."""
    with contextlib.ExitStack() as ends:

        def make(name: str, *, persistent: bool = False) -> io.FileIO:
            try:
                return ends.enter_context(tun(uplinks.host, name, persistent=persistent))
            except OSError as error:
                pytest.skip(f"no tun device can be made here: {error}")

        yield make
