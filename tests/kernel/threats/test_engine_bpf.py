# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent with engine bpf, with the rights that its unit gives."""

from __future__ import annotations

from tests.kernel.bpf_calls import needs_bpf
from tests.kernel.threats.test_excess import connections
from tests.kernel.threats.vpn import RULE, VpnHost, policy, wait_for_reset
from tests.support.topologies.waiting import until
from tests.support.unit_agent import Adversary, UnitAgent

pytestmark = needs_bpf


def test_rights_of_the_unit_suffice(vpn: VpnHost, user: Adversary) -> None:
    with vpn.listen() as listening, UnitAgent(vpn.host, policy(engine="bpf")) as agent:
        (peer,) = connections(vpn, user, listening, 1)
        wait_for_reset(peer, vpn.start_vpn())
        until(lambda: list(agent.destroyed().values()) == [RULE], "the line in the log")
        until(lambda: agent.status()["rules"][0]["outcomes"] == {"destroyed": 1}, "the status")
        assert {"CAP_BPF", "CAP_PERFMON"} <= set(agent.unit.capabilities)


def test_other_engines_do_not_get_them(vpn: VpnHost) -> None:
    with UnitAgent(vpn.host, policy(engine="netlink")) as agent:
        assert not {"CAP_BPF", "CAP_PERFMON"} & set(agent.unit.capabilities)
