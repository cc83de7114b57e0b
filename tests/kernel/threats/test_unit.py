# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of these tests: the agent has the rights of its unit, and the user has none."""

from __future__ import annotations

import os
from pathlib import Path

from tests.kernel.threats.vpn import RULE, VpnHost, policy, wait_for_reset
from tests.support.topologies.waiting import until
from tests.support.unit_agent import (
    ADVERSARY_UID,
    AGENT_UID,
    Adversary,
    UnitAgent,
    line_of,
)

# include/uapi/linux/capability.h
CAPABILITIES = {"CAP_DAC_READ_SEARCH": 2, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19}

CONNECT = """
import os, socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.split() for name, _colon, value in (line.partition(":") for line in lines)}


def test_agent_has_the_rights_of_its_unit(vpn: VpnHost) -> None:
    with UnitAgent(vpn.host, policy()) as agent:
        found = status(agent.status()["pid"])
        mask = f"{sum(1 << number for number in CAPABILITIES.values()):016x}"
        assert set(agent.unit.capabilities) == set(CAPABILITIES)
        assert {name: found[name] for name in ("CapEff", "CapAmb", "CapBnd")} == {
            name: [mask] for name in ("CapEff", "CapAmb", "CapBnd")
        }
        assert found["NoNewPrivs"] == ["1"]
        assert found["Uid"] == [str(AGENT_UID)] * 4
        assert os.stat(agent.policy).st_uid == 0
        assert agent.log_lines("warning") == []


def test_connection_of_user_is_destroyed(vpn: VpnHost, user: Adversary) -> None:
    listening = vpn.listen()
    with UnitAgent(vpn.host, policy()) as agent:
        process = user.start(CONNECT, vpn.server4, str(listening.getsockname()[1]))
        peer = vpn.accept(listening)
        found = status(int(line_of(process)))
        assert found["Uid"] == [str(ADVERSARY_UID)] * 4
        assert found["CapEff"] == found["CapAmb"] == ["0" * 16]
        wait_for_reset(peer, vpn.start_vpn())
        until(lambda: list(agent.destroyed().values()) == [RULE], "the line in the log")
