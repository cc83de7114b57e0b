# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose network is taken away, and its connections."""

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
    made = Uplinks(lab)
    require_socket_options(made.host)
    return made


@pytest.fixture
def connections(uplinks: Uplinks) -> Connections:
    made = Connections(uplinks)
    made.are(NOTHING, NOTHING)
    return made


@pytest.fixture
def tunnel(uplinks: Uplinks) -> Iterator[Callable[..., io.FileIO]]:
    """Makes a tun device of that name on the host, and gives its program's end."""
    with contextlib.ExitStack() as ends:

        def make(name: str, *, persistent: bool = False) -> io.FileIO:
            try:
                return ends.enter_context(tun(uplinks.host, name, persistent=persistent))
            except OSError as error:
                pytest.skip(f"no tun device can be made here: {error}")

        yield make
