# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.guard.machine import Machine

# Tests with hypothesis do not fail for being slow: the machine may be busy with other things.
settings.register_profile(
    "shared_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared_machine")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with a fake kernel and processes, for each test its own."""
    return Machine(tmp_path)
