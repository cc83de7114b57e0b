# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests of the lab."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.commands import Commands
from tests.support.hosts import paths
from tests.support.hosts.errors import LabError


@pytest.fixture(scope="session")
def _root() -> None:
    try:
        paths.require_root()
    except LabError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def commands(_root: None) -> Iterator[Commands]:
    """Command line of the lab. Labs of the tests are stopped at the end."""
    commands = Commands()
    commands.run("rootfs")
    yield commands
    commands.take_down_all()
