# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose network is taken away, and its connections."""

from __future__ import annotations

import pytest

from tests.lab.networks import Uplinks
from tests.lab.topology import Lab

pytest.register_assert_rewrite("tests.kernel.stranded.connections")

from tests.kernel.stranded.connections import NOTHING, Connections, options_told  # noqa: E402


@pytest.fixture
def uplinks(lab: Lab) -> Uplinks:
    made = Uplinks(lab)
    options_told(made.host)
    return made


@pytest.fixture
def connections(uplinks: Uplinks) -> Connections:
    made = Connections(uplinks)
    made.are(NOTHING, NOTHING)
    return made
