# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user with very many descriptors and a hidden socket does not delay the agent."""

from __future__ import annotations

import contextlib
import resource
import statistics
from collections.abc import Iterator

import pytest

from tests.kernel.threats import programs
from tests.kernel.threats.vpn import DEVICE, VpnHost, policy, wait_for_reset
from tests.support.topologies.networks import ip
from tests.support.unit_agent import Adversary, UnitAgent, line_of

DESCRIPTORS = 760_000
VICTIM_UID = 1501
RUNS = 5
# A search of all descriptors takes several seconds. Other work on the machine may delay the agent.
LATEST_S = 1.5

# Holds copies of one descriptor. Argument: how many.
MANY_DESCRIPTORS = """
import os, sys
for _each in range(int(sys.argv[1])):
    os.dup(0)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def per_process() -> Iterator[int]:
    """The number of descriptors of one process, which is allowed meanwhile."""
    limits = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 17 if hard == resource.RLIM_INFINITY else min(hard, 1 << 17)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield most - 100
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def reaction_s(vpn: VpnHost, user: Adversary) -> float:
    """The median time from the start of the VPN to the reset of a connection past it."""
    times: list[float] = []
    listening = vpn.listen()
    for _run in range(RUNS):
        ip(vpn.host, f"link set {DEVICE} down")
        process = user.start(programs.PLAIN, vpn.server4, str(listening.getsockname()[1]))
        assert line_of(process) == "connected"
        peer = vpn.accept(listening)
        started = vpn.start_vpn()
        times.append(wait_for_reset(peer, started) - started)
    return statistics.median(times)


def test_many_descriptors_and_a_hidden_socket(
    vpn: VpnHost, user: Adversary, per_process: int
) -> None:
    rule = {**policy()["rules"][0], "hold": 0}
    listening = vpn.listen()
    with contextlib.ExitStack() as stack:
        stack.enter_context(UnitAgent(vpn.host, policy(rules=[rule])))
        victim = stack.enter_context(Adversary(vpn.host, VICTIM_UID))
        quiet_s = reaction_s(vpn, victim)
        for _each in range(-(-DESCRIPTORS // per_process)):
            process = user.start(MANY_DESCRIPTORS, str(per_process))
            assert line_of(process) == "ready"
        with_descriptors_s = reaction_s(vpn, victim)
        ip(vpn.host, f"link set {DEVICE} down")
        hidden = user.start(programs.IN_FLIGHT, vpn.server4, str(listening.getsockname()[1]))
        assert line_of(hidden) == "connected"
        peer = vpn.accept(listening)
        started = vpn.start_vpn()
        hidden_s = wait_for_reset(peer, started) - started
        with_hidden_s = reaction_s(vpn, victim)
    for seconds in (with_descriptors_s, hidden_s, with_hidden_s):
        assert seconds < quiet_s + LATEST_S
