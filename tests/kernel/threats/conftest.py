# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as its unit runs it, on a host with a VPN, against an unprivileged user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.kernel.threats.vpn import VpnHost
from tests.support import unit_agent
from tests.support.topologies.topology import Lab
from tests.support.unit_agent import Adversary


@pytest.fixture(scope="session", autouse=True)
def _require_root() -> None:
    reason = unit_agent.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def vpn(lab: Lab) -> Iterator[VpnHost]:
    with contextlib.closing(VpnHost(lab)) as vpn:
        yield vpn


@pytest.fixture
def user(vpn: VpnHost) -> Iterator[Adversary]:
    with Adversary(vpn.host) as user:
        yield user
