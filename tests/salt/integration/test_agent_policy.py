# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent, as its unit runs it, beside a minion: only the minion may use the ports of Salt."""

from __future__ import annotations

import pytest

from tests.salt.integration.fleet import fleet
from tests.support import unit_agent
from tests.support.topologies.waiting import until
from tests.support.unit_agent import Adversary, UnitAgent, line_of

# Connects to a master, and says how the connection ends.
_CONNECT = """
import errno, socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
try:
    while sock.recv(4096):
        pass
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
"""


def test_minion_lives_and_a_user_on_its_ports_dies() -> None:
    reason = unit_agent.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    with fleet("one") as running, Adversary(running.minions["one"].namespace) as user:
        minion = running.minions["one"]
        users = [user.start(_CONNECT, minion.master, port) for port in ("4505", "4506")]
        assert [line_of(each) for each in users] == ["connected"] * 2
        connections = minion.namespace.output("ss", "-Htn", "state", "established")
        document = {
            "version": 1,
            "limits": {"max_sockets": 500, "per": "1m"},
            "rules": [{"name": "master", "match": {"remote": minion.master}}],
        }
        with UnitAgent(minion.namespace, document) as agent:
            assert [line_of(each) for each in users] == ["ECONNABORTED"] * 2
            until(
                lambda: agent.log_lines("protected_by=control_connection"),
                "the minion's connection as a protected violation",
            )
        assert connections
        assert running.salt("*", "test.ping") == {"one": True}
        # The publish channel stays open for the whole life of a minion.
        after = minion.namespace.output("ss", "-Htn", "state", "established", "dport", "4505")
        assert set(after.splitlines()) & set(connections.splitlines())
