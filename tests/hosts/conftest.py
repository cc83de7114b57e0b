# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own tests: what it refuses, what it makes, and that nothing of it is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.commands import Commands
from tests.support.hosts import places
from tests.support.hosts.errors import LabError


@pytest.fixture(scope="session")
def _root() -> None:
    try:
        places.require_root()
    except LabError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def commands(_root: None) -> Iterator[Commands]:
    """The command line of the lab; labs that a test brought up are down when it ends."""
    commands = Commands()
    commands.run("rootfs")
    yield commands
    commands.clear()
